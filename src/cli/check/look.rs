//! Looks at everything in a fixed order: what comes first is what the rest needs.

use super::finding::{Finding, Grade};
use super::{host, private_folder, report, storage, vms};
use crate::cli::context::{Context, start_log};
use crate::cli::exit::Exit;
use crate::cli::failed::Failed;
use crate::cli::say::tell;
use crate::engine::settings::Reserve;
use vmconfig::{Unserved, Warning};
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
    findings.push(storage::folder("BACKUP_PATH", settings.backup_path.as_path(), target, "TARGET_RESERVE"));
    let root = Root::look(settings.backup_path.as_path(), &HostDir::of(&context.environment));
    findings.extend(storage::tree(settings.backup_path.as_path(), &root));
    findings.extend(storage::owner(settings.backup_path.as_path()));
    findings.push(storage::folder(
        "VIRTNBD_SCRATCH_DIR",
        settings.scratch_dir.as_path(),
        scratch,
        "SCRATCH_RESERVE",
    ));
    let scratch_dir = settings.scratch_dir.as_path();
    findings.extend(storage::entered_by_qemu(settings.libvirt_uri.as_str(), scratch_dir));
    findings.extend(private_folder::of_this_process(scratch_dir));
    findings.extend(private_folder::of_units(scratch_dir));
    if let Err(error) = SessionLock::look(&StateDir::of(settings.backup_path.as_path())) {
        findings.push(Finding::look("session", error.to_string(), "wait for its end".to_owned()));
    }
    let of_line =
        |warning: &Warning| Finding::look("configuration", warning.said.clone(), warning.fix.to_owned());
    findings.extend(context.loaded.warnings.iter().map(of_line));
    for Unserved { said, fix, .. } in &context.loaded.unserved {
        findings.push(Finding::look("configuration", said.clone(), fix.clone()));
    }
    let plans = vms::plans(context, &root.map_or_else(|_| String::new(), |root| root.machine_id));
    match &plans {
        Ok((unknown, plans)) => {
            findings.extend(unknown.iter().map(of_line));
            findings.extend(plans.iter().map(vms::finding));
            findings.extend(plans.iter().flat_map(vms::of_old_readers));
        }
        Err((exit, said)) => findings.push(Finding::bad("VMs", *exit, said.clone(), None)),
    }
    let (_, plans) = plans.unwrap_or_default();
    if context.arguments.json {
        tell(&format!("{:#}\n", report::json(context, &findings, &plans)));
    } else {
        tell(&report::text(context, &findings));
    }
    let worst = findings.iter().find(|finding| finding.grade == Grade::Bad);
    Ok(worst.map_or(Exit::Ok, |finding| finding.exit))
}
