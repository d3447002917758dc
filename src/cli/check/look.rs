//! Looks at everything in a fixed order: what comes first is what the rest needs.

use super::finding::{Finding, Grade};
use super::{host, private_folder, report, storage, vms};
use crate::cli::context::{Context, start_log};
use crate::cli::failed::Failed;
use crate::cli::say::tell;
use crate::engine::settings::Reserve;
use vmconfig::{Unserved, Warning};
use vmreport::Exit;
use vmstore::{HostDir, Root, SessionLock, StateDir};

pub(in crate::cli) fn check(context: &Context) -> Result<Exit, Failed> {
    start_log(context, None);
    let settings = &context.loaded.settings;
    let mut findings: Vec<Finding> = host::programs().collect();
    findings.push(host::libvirt(settings.libvirt_uri.as_str()));
    findings.push(host::apparmor());
    let target = Reserve {
        bytes: settings.target_reserve.bytes(),
        percent: settings.target_reserve_percent.get().into(),
    };
    let scratch = Reserve {
        bytes: settings.scratch_reserve.bytes(),
        percent: settings.scratch_reserve_percent.get().into(),
    };
    let path = settings.backup_path.as_path();
    let dead_target = storage::hanging("BACKUP_PATH", path);
    let is_dead = dead_target.is_some();
    let mut machine_id = String::new();
    if let Some(dead) = dead_target {
        findings.push(dead);
    } else {
        findings.push(storage::folder("BACKUP_PATH", path, target, "TARGET_RESERVE"));
        let root = Root::look(path, &HostDir::of(&context.environment));
        findings.extend(storage::tree(path, &root));
        findings.extend(storage::owner(path));
        machine_id = root.map_or_else(|_| String::new(), |root| root.machine_id);
        if let Err(error) = SessionLock::look(&StateDir::of(path)) {
            findings.push(Finding::look("session", error.to_string(), "wait for its end".to_owned()));
        }
    }
    let (about, scratch_dir) = ("VIRTNBD_SCRATCH_DIR", settings.scratch_dir.as_path());
    if let Some(dead) = storage::hanging(about, scratch_dir) {
        findings.push(dead);
    } else {
        findings.push(storage::folder(about, scratch_dir, scratch, "SCRATCH_RESERVE"));
        findings.extend(storage::entered_by_qemu(settings.libvirt_uri.as_str(), scratch_dir));
        findings.extend(private_folder::of_this_process(scratch_dir));
        findings.extend(private_folder::of_units(scratch_dir));
    }
    let of_line =
        |warning: &Warning| Finding::look("configuration", warning.said.clone(), warning.fix.to_owned());
    findings.extend(context.loaded.warnings.iter().map(of_line));
    for Unserved { said, fix, .. } in &context.loaded.unserved {
        findings.push(Finding::look("configuration", said.clone(), fix.clone()));
    }
    // What a VM would get is seen from what it has there.
    let plans = if is_dead { Ok(Default::default()) } else { vms::plans(context, &machine_id) };
    match &plans {
        Ok((unknown, plans)) => {
            findings.extend(unknown.iter().map(of_line));
            findings.extend(plans.iter().map(vms::finding));
            findings.extend(plans.iter().flat_map(vms::of_old_readers));
        }
        Err(failed) => findings.push(Finding::bad("VMs", failed.exit, failed.said.clone(), None)),
    }
    let (_, plans) = plans.unwrap_or_default();
    let worst = findings.iter().find(|finding| finding.grade == Grade::Bad);
    let exit = worst.map_or(Exit::Ok, |finding| finding.exit);
    if context.arguments.json {
        context.call.answer("vmbackup/check/1", exit, &report::json(context, &findings, &plans));
    } else {
        tell(&report::text(context, &findings));
    }
    Ok(exit)
}
