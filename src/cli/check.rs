//! `--check`: whether backups can work here, and what to do where they cannot. Touches nothing.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::Access;
use serde::Serialize;
use serde_json::json;

use super::exit::Exit;
use super::opened::session_error;
use super::plan;
use super::program::{Context, Failed, start_log, tell};
use super::table::aligned;
use crate::config::{KEYS, Key, Unserved};
use crate::engine::disk::SkipReason;
use crate::engine::settings::Reserve;
use crate::engine::space::{self, human};
use crate::engine::{DiskPlan, Preview};
use crate::libvirt::Host;
use crate::session::{Outlook, Session, VmPlan, check_backup_path};
use crate::state::{SessionLock, StateDir};

/// Programs that a backup starts, and the package that has them.
const PROGRAMS: [(&str, &str); 2] = [("qemu-img", "qemu-utils"), ("qemu-nbd", "qemu-utils")];

/// The oldest libvirt whose incremental backups can be relied on, as `major * 1_000_000 + minor * 1000`.
const OLDEST_LIBVIRT: u32 = 7_002_000;

/// Where AppArmor's rules for QEMU are, and the file for additions.
const APPARMOR_RULES: &str = "/etc/apparmor.d/abstractions/libvirt-qemu";
const APPARMOR_LOCAL: &str = "/etc/apparmor.d/local/abstractions/libvirt-qemu";

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Grade {
    Good,
    Look,
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    grade: Grade,
    about: &'static str,
    said: String,
    /// More lines, one thing each.
    details: Vec<String>,
    /// What to do.
    fix: Option<String>,
    #[serde(skip)]
    exit: Exit,
}

impl Finding {
    fn good(about: &'static str, said: String) -> Self {
        Self { grade: Grade::Good, about, said, details: vec![], fix: None, exit: Exit::Ok }
    }

    fn look(about: &'static str, said: String, fix: String) -> Self {
        Self { grade: Grade::Look, about, said, details: vec![], fix: Some(fix), exit: Exit::Ok }
    }

    fn bad(about: &'static str, exit: Exit, said: String, fix: Option<String>) -> Self {
        Self { grade: Grade::Bad, about, said, details: vec![], fix, exit }
    }
}

pub(super) fn check(context: &Context) -> Result<Exit, Failed> {
    start_log(context, None);
    let settings = &context.loaded.settings;
    let mut findings: Vec<Finding> = PROGRAMS.iter().map(|(name, package)| program(name, package)).collect();
    findings.push(libvirt(settings.libvirt_uri.as_str()));
    findings.push(apparmor());
    let target = Reserve {
        bytes: settings.target_reserve.bytes(),
        percent: settings.target_reserve_percent.get().into(),
    };
    let scratch = Reserve {
        bytes: settings.scratch_reserve.bytes(),
        percent: settings.scratch_reserve_percent.get().into(),
    };
    findings.push(folder("BACKUP_PATH", settings.backup_path.as_path(), target));
    findings.push(folder("VIRTNBD_SCRATCH_DIR", settings.scratch_dir.as_path(), scratch));
    if let Err(error) = SessionLock::look(&StateDir::of(settings.backup_path.as_path())) {
        findings.push(Finding::look("session", error.to_string(), "wait for its end".to_owned()));
    }
    for warning in &context.loaded.warnings {
        findings.push(Finding::look("configuration", warning.clone(), "correct that line".to_owned()));
    }
    for Unserved { said, fix, .. } in &context.loaded.unserved {
        findings.push(Finding::look("configuration", said.clone(), fix.clone()));
    }
    let plans = plans(context);
    match &plans {
        Ok(plans) => findings.extend(plans.iter().map(vm)),
        Err((exit, said)) => findings.push(Finding::bad("VMs", *exit, said.clone(), None)),
    }
    let plans = plans.unwrap_or_default();
    if context.arguments.json {
        let settings: Vec<_> = settings_rows(context)
            .into_iter()
            .map(|[key, value, source]| json!({ "key": key, "value": value, "source": source }))
            .collect();
        tell(&format!(
            "{:#}\n",
            json!({ "findings": findings, "settings": settings, "plan": plan::json(&plans) })
        ));
    } else {
        tell(&text(context, &findings));
    }
    let worst = findings.iter().find(|finding| finding.grade == Grade::Bad);
    Ok(worst.map_or(Exit::Ok, |finding| finding.exit))
}

fn text(context: &Context, findings: &[Finding]) -> String {
    let mut text = format!("Settings of {}:\n\n", context.loaded.dir.display());
    text += &aligned(&settings_rows(context));
    text += "\nFindings:\n\n";
    for finding in findings {
        let mark = match finding.grade {
            Grade::Good => "ok  ",
            Grade::Look => "look",
            Grade::Bad => "BAD ",
        };
        text += &format!("{mark}  {}: {}\n", finding.about, finding.said);
        for detail in &finding.details {
            text += &format!("        {detail}\n");
        }
        if let Some(fix) = &finding.fix {
            text += &format!("      → {fix}\n");
        }
    }
    let count = |grade: Grade| findings.iter().filter(|finding| finding.grade == grade).count();
    let (bad, look) = (count(Grade::Bad), count(Grade::Look));
    text + &match (bad, look) {
        (0, 0) => "\nBackups can work.\n".to_owned(),
        (0, look) => format!("\nBackups can work; {look} finding(s) deserve a look.\n"),
        (bad, _) => format!("\n{bad} finding(s) keep backups from working.\n"),
    }
}

/// Key, value and where that came from.
fn settings_rows(context: &Context) -> Vec<[String; 3]> {
    let loaded = &context.loaded;
    let source = |name: &str| loaded.sources.get(name).map_or_else(String::new, ToString::to_string);
    let row = |name: &str, value: &str| [name.to_owned(), value.to_owned(), source(name)];
    let settings = &loaded.settings;
    let row_of = |key: &Key| match key.name {
        // The older key chooses lz4 where this one is not set.
        "COMPRESSION" if settings.compression.method != settings.compression_method => {
            [key.name, "lz4", &source("VIRTNBD_COMPRESS_LEVEL")].map(str::to_owned)
        }
        name => row(name, settings.text(name).unwrap_or_default()),
    };
    let mut rows: Vec<_> = KEYS.iter().map(row_of).collect();
    for (vm, policy) in &loaded.settings.vm_policies {
        rows.push(row(&format!("VM_POLICY[{vm}]"), policy.as_str()));
    }
    for (vm, consistency) in &loaded.settings.vm_consistency {
        rows.push(row(&format!("VM_CONSISTENCY[{vm}]"), consistency.as_str()));
    }
    for (number, pattern) in loaded.settings.exclude_patterns.iter().enumerate() {
        rows.push(row(&format!("EXCLUDE_PATTERNS[{number}]"), pattern));
    }
    rows
}

fn program(name: &'static str, package: &str) -> Finding {
    match Command::new(name).arg("--version").stdin(Stdio::null()).output() {
        Ok(output) => {
            let version =
                String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned();
            Finding::good(name, version)
        }
        Err(error) => {
            let fix = format!("apt install {package}");
            Finding::bad(name, Exit::Dependency, format!("cannot be started: {error}"), Some(fix))
        }
    }
}

fn libvirt(uri: &str) -> Finding {
    const ABOUT: &str = "libvirt";
    match Host::connect(uri).and_then(|host| host.daemon_version()) {
        Ok(version) => {
            let said =
                format!("{}.{}.{} at {uri}", version / 1_000_000, version / 1000 % 1000, version % 1000);
            if version < OLDEST_LIBVIRT {
                let fix = "upgrade libvirt to 7.2 or newer".to_owned();
                return Finding::bad(ABOUT, Exit::Dependency, said, Some(fix));
            }
            Finding::good(ABOUT, said)
        }
        Err(error) => {
            let fix = "systemctl start libvirtd (or virtqemud), or correct LIBVIRT_URI".to_owned();
            Finding::bad(ABOUT, Exit::Tool, error.to_string(), Some(fix))
        }
    }
}

/// Whether QEMU may make the socket of a backup job.
fn apparmor() -> Finding {
    const ABOUT: &str = "AppArmor";
    let is_on =
        fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on.trim() == "Y");
    if !is_on || !Path::new(APPARMOR_RULES).exists() {
        return Finding::good(ABOUT, "does not confine QEMU here".to_owned());
    }
    let names = |file: &str| fs::read_to_string(file).is_ok_and(|rules| rules.contains("virtnbdbackup"));
    if names(APPARMOR_RULES) || names(APPARMOR_LOCAL) {
        return Finding::good(ABOUT, "QEMU may make the socket of a backup job".to_owned());
    }
    let said = "QEMU may not make the socket /var/tmp/virtnbdbackup.ID of a backup job".to_owned();
    let fix = format!("echo '  /var/tmp/virtnbdbackup.* rwk,' >> {APPARMOR_LOCAL}; then restart each VM");
    Finding::bad(ABOUT, Exit::General, said, Some(fix))
}

/// A folder that backups write to, and the room in it.
fn folder(about: &'static str, path: &Path, reserve: Reserve) -> Finding {
    let shown = path.display();
    if let Err(error) = check_backup_path(path) {
        let said = match error {
            crate::session::SessionError::NotADirectory(_) => format!("{shown} is not a directory"),
            _ => format!("{shown} does not exist"),
        };
        let fix = format!("mount it, or: mkdir -p '{shown}'");
        return Finding::bad(about, Exit::Storage, said, Some(fix));
    }
    if let Err(error) = rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK) {
        let fix = format!("mount -o remount,rw it, or change its mode: ls -ld '{shown}'");
        return Finding::bad(about, Exit::Storage, format!("{shown} cannot be written: {error}"), Some(fix));
    }
    match space::of(path) {
        Ok(space) => {
            let kept = reserve.bytes_of(space.total_bytes);
            let said = format!(
                "{shown}: {} free of {}, {} kept in reserve",
                human(space.free_bytes),
                human(space.total_bytes),
                human(kept)
            );
            if space.free_bytes < kept {
                return Finding::bad(
                    about,
                    Exit::Storage,
                    said,
                    Some("free some space, or lower the reserve".to_owned()),
                );
            }
            Finding::good(about, said)
        }
        Err(error) => Finding::bad(about, Exit::Storage, format!("{shown}: {error}"), None),
    }
}

fn plans(context: &Context) -> Result<Vec<VmPlan>, Failed> {
    let names: Vec<String> = context.arguments.vm.iter().cloned().collect();
    check_backup_path(context.loaded.settings.backup_path.as_path()).map_err(session_error)?;
    let session = Session::open(&context.loaded.settings, &names, context.clock).map_err(session_error)?;
    // What retention would drop is not shown here, so nobody need be asked.
    Ok(session.plan(&crate::catalog::Catalog::none()))
}

/// What the next run does to a VM: to each disk, how it holds the guest still, and what it cannot save.
fn vm(of: &VmPlan) -> Finding {
    const ABOUT: &str = "VM";
    let said = format!("{}: {}", of.domain, plan::of_vm(of));
    let finding = match &of.outlook {
        Outlook::Excluded => Finding::good(ABOUT, said),
        Outlook::Backup { preview, .. } if preview.refused.is_some() => {
            Finding::bad(ABOUT, Exit::Vm, said, None)
        }
        Outlook::Backup { preview, .. } if has_gap(preview) => {
            let fix = "save by other means what the backup leaves out, or leave it out on purpose: VIRTNBD_EXCLUDE_DISKS";
            Finding::look(ABOUT, said, fix.to_owned())
        }
        Outlook::Backup { .. } => Finding::good(ABOUT, said),
        Outlook::NoFolder(_) | Outlook::Unknown(_) => Finding::bad(ABOUT, Exit::Vm, said, None),
    };
    let Outlook::Backup { preview, .. } = &of.outlook else { return finding };
    let disks = preview.disks.iter().map(|disk| format!("disk {disk}"));
    let outside = preview.outside.iter().map(ToString::to_string);
    Finding {
        details: plan::held_still(preview).into_iter().chain(disks).chain(outside).collect(),
        ..finding
    }
}

/// Whether something of the guest's would be in no backup, or in one that may not be exact.
fn has_gap(preview: &Preview) -> bool {
    let gap = |disk: &DiskPlan| disk.skipped().is_some_and(SkipReason::is_gap) || !disk.caveats.is_empty();
    !preview.outside.is_empty() || preview.disks.iter().any(gap)
}
