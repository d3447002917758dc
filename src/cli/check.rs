//! `--check`: whether backups can work here, and what to do where they cannot. Touches nothing.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::fs::Access;
use serde::Serialize;
use serde_json::json;

use super::exit::Exit;
use super::opened::{few, session_error};
use super::plan;
use super::program::{Context, Failed, start_log, tell};
use super::table::aligned;
use crate::engine::domain::disk::SkipReason;
use crate::engine::plan::space::{self, human};
use crate::engine::settings::Reserve;
use crate::engine::{DiskPlan, Preview};
use crate::session::{PlannedVm, Session, VmPlan, check_backup_path};
use crate::state::{Belongings, HostDir, Root, RootError, SessionLock, Standing, StateDir, known_owner};
use vmconfig::{KEYS, Key, Unserved};
use vmhost::libvirt::Host;
use vmprogram::{NEVER, Program};

/// Programs that a backup starts, the package that has them, and what is missing without them where a backup can do
/// without.
const PROGRAMS: [(&str, &str, Option<&str>); 5] = [
    ("qemu-img", "qemu-utils", None),
    ("qemu-nbd", "qemu-utils", None),
    ("setpriv", "util-linux", None),
    ("ionice", "util-linux", Some("IO_PRIORITY_CLASS cannot be had")),
    ("tar", "tar gzip", Some("the state folder is not copied (STATE_BACKUP_KEEP_DAYS)")),
];

/// How long a program may take to tell its version.
const PROGRAM_LIMIT: Duration = Duration::from_secs(10);

/// The oldest libvirt whose incremental backups can be relied on, as `major * 1_000_000 + minor * 1000`.
const OLDEST_LIBVIRT: u32 = 7_002_000;

/// Where AppArmor tells whether it is on, and where its rules are.
const APPARMOR_ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
const APPARMOR_RULES: &str = "/etc/apparmor.d";

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
    let mut findings: Vec<Finding> =
        PROGRAMS.iter().map(|(name, package, without)| program(name, package, *without)).collect();
    findings.push(libvirt(settings.libvirt_uri.as_str()));
    let apparmor_is_on = fs::read_to_string(APPARMOR_ENABLED).is_ok_and(|on| on.trim() == "Y");
    findings.push(apparmor(Path::new(APPARMOR_RULES), apparmor_is_on));
    let target = Reserve {
        bytes: settings.target_reserve.bytes(),
        percent: settings.target_reserve_percent.get().into(),
    };
    let scratch = Reserve {
        bytes: settings.scratch_reserve.bytes(),
        percent: settings.scratch_reserve_percent.get().into(),
    };
    findings.push(folder("BACKUP_PATH", settings.backup_path.as_path(), target, "TARGET_RESERVE"));
    let root = Root::look(settings.backup_path.as_path(), &HostDir::of(&context.environment));
    findings.extend(tree(settings.backup_path.as_path(), &root));
    findings.extend(owner(settings.backup_path.as_path()));
    findings.push(folder("VIRTNBD_SCRATCH_DIR", settings.scratch_dir.as_path(), scratch, "SCRATCH_RESERVE"));
    if let Err(error) = SessionLock::look(&StateDir::of(settings.backup_path.as_path())) {
        findings.push(Finding::look("session", error.to_string(), "wait for its end".to_owned()));
    }
    for warning in &context.loaded.warnings {
        findings.push(Finding::look("configuration", warning.clone(), "correct that line".to_owned()));
    }
    for Unserved { said, fix, .. } in &context.loaded.unserved {
        findings.push(Finding::look("configuration", said.clone(), fix.clone()));
    }
    let plans = plans(context, &root.map_or_else(|_| String::new(), |root| root.machine_id));
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
    for (vm, tripwire) in &loaded.settings.vm_tripwire {
        rows.push(row(&format!("VM_TRIPWIRE[{vm}]"), if tripwire.on { "yes" } else { "no" }));
    }
    for (number, pattern) in loaded.settings.exclude_patterns.iter().enumerate() {
        rows.push(row(&format!("EXCLUDE_PATTERNS[{number}]"), pattern));
    }
    rows
}

fn program(name: &'static str, package: &str, without: Option<&str>) -> Finding {
    match Program::new(name).arg("--version").run(PROGRAM_LIMIT, NEVER) {
        Ok(output) => {
            let version =
                String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned();
            Finding::good(name, version)
        }
        Err(error) => {
            let fix = format!("apt install {package}");
            match without {
                Some(without) => Finding::look(name, format!("{error}; {without}"), fix),
                None => Finding::bad(name, Exit::Dependency, error.to_string(), Some(fix)),
            }
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
                let fix = "apt install --only-upgrade libvirt-daemon-system (7.2 or newer)".to_owned();
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
fn apparmor(etc: &Path, is_on: bool) -> Finding {
    const ABOUT: &str = "AppArmor";
    let abstraction = etc.join("abstractions/libvirt-qemu");
    let Some(rules) = fs::read_to_string(&abstraction).ok().filter(|_| is_on) else {
        return Finding::good(ABOUT, "does not confine QEMU here".to_owned());
    };
    let (folder, local) =
        (etc.join("abstractions/libvirt-qemu.d"), etc.join("local/abstractions/libvirt-qemu"));
    let added = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let allows = |rules: &str| {
        let rule = |line: &str| line.split('#').next().is_some_and(|rule| rule.contains("virtnbdbackup"));
        rules.lines().any(rule)
    };
    let allowed = |file: &Path| fs::read_to_string(file).is_ok_and(|rules| allows(&rules));
    if allows(&rules) || allowed(&local) || added.into_iter().any(|file| allowed(&file)) {
        return Finding::good(ABOUT, "QEMU may make the socket of a backup job".to_owned());
    }
    let said = "QEMU may not make the socket /var/tmp/virtnbdbackup.ID of a backup job".to_owned();
    // Newer libvirt reads a folder, older packages one local file.
    let file = if rules.contains("abstractions/libvirt-qemu.d>") { folder.join("vmbackup") } else { local };
    let (file, parent) = (file.display(), file.parent().unwrap_or(etc).display());
    let fix = format!(
        "mkdir -p {parent} && printf '\\n/var/tmp/virtnbdbackup.* rwk,\\n' >> {file}; then shut down and start each VM that runs"
    );
    Finding::bad(ABOUT, Exit::General, said, Some(fix))
}

/// Whether this host may write to the tree. `None` where there is no path, which has its own finding.
fn tree(path: &Path, root: &Result<Root, RootError>) -> Option<Finding> {
    const ABOUT: &str = "tree";
    check_backup_path(path).ok()?;
    let refused = |error: &RootError| {
        let exit = if matches!(error, RootError::OtherHost { .. }) { Exit::Locked } else { Exit::Storage };
        Finding::bad(ABOUT, exit, error.to_string(), None)
    };
    Some(match root {
        Err(error) => refused(error),
        Ok(root) => match (root.refusal(), &root.standing, &root.file) {
            (Some(error), ..) => refused(&error),
            (None, Standing::Emptied, _) => Finding::look(
                ABOUT,
                format!(
                    "{} has no _state/root.json, and was used before on the same {}",
                    path.display(),
                    root.place
                ),
                "see whether it was emptied on purpose; the next run begins anew".to_owned(),
            ),
            (None, _, Some(file)) => Finding::good(
                ABOUT,
                format!("{} is this host's, id {}, on {}", path.display(), file.id, root.place),
            ),
            (None, _, None) => {
                let said = format!(
                    "{} has no _state/root.json yet: the next run makes it this host's",
                    path.display()
                );
                Finding::good(ABOUT, said)
            }
        },
    })
}

/// Whose the backup path is. A file system may have no owners, so nothing here keeps a backup from working.
fn owner(path: &Path) -> Option<Finding> {
    const ABOUT: &str = "owner";
    let Some(ownership) = known_owner() else {
        let said = "there is no group backup: backups stay with the group of root".to_owned();
        return Some(Finding::look(ABOUT, said, "groupadd --system --gid 34 backup".to_owned()));
    };
    let shown = path.display();
    let others = Belongings::of(path).ok()?.others;
    Some(match ownership.fault(path).ok()? {
        None => Finding::good(
            ABOUT,
            format!("{shown} belongs to root and the group backup, and is closed to others"),
        ),
        Some(fault) if !others.is_empty() => {
            let said = format!(
                "{shown} {fault} and keeps that, because it holds what is no backup: {}. The folders of VMs in it belong to \
                 root and the group backup",
                few(&others)
            );
            let fix = format!(
                "give the backups a folder of their own, for example BACKUP_PATH=\"{shown}/vmbackup\""
            );
            Finding::look(ABOUT, said, fix)
        }
        Some(fault) => {
            let fix = format!("chown root:backup '{shown}' && chmod 2750 '{shown}'");
            Finding::look(
                ABOUT,
                format!("{shown} {fault}, not to root and the group backup with mode 2750"),
                fix,
            )
        }
    })
}

/// A folder that backups write to, and the room in it.
fn folder(about: &'static str, path: &Path, reserve: Reserve, setting: &str) -> Finding {
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
        let fix = format!("mount -o remount,rw \"$(findmnt -no TARGET -T '{shown}')\"");
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
                let see = if about == "BACKUP_PATH" {
                    "vmbackup --prune list".to_owned()
                } else {
                    format!("du -xsh '{shown}'/*")
                };
                let fix = format!(
                    "free some space ({see}), or lower {setting}_PERCENT or the other {setting} setting"
                );
                return Finding::bad(about, Exit::Storage, said, Some(fix));
            }
            Finding::good(about, said)
        }
        Err(error) => {
            Finding::bad(about, Exit::Storage, format!("{shown}: {error}"), Some(format!("df '{shown}'")))
        }
    }
}

fn plans(context: &Context, machine_id: &str) -> Result<Vec<VmPlan>, Failed> {
    let names: Vec<String> = context.arguments.vm.iter().cloned().collect();
    check_backup_path(context.loaded.settings.backup_path.as_path()).map_err(session_error)?;
    let session =
        Session::open(&context.loaded.settings, &names, context.clock, machine_id).map_err(session_error)?;
    // What retention would drop is not shown here, so nobody need be asked.
    Ok(session.plan(&crate::catalog::Catalog::none()))
}

/// What the next run does to a VM: to each disk, how it holds the guest still, and what it cannot save.
fn vm(of: &VmPlan) -> Finding {
    const ABOUT: &str = "VM";
    let said = format!("{}: {}", of.domain, plan::of_vm(of));
    let finding = match &of.planned {
        PlannedVm::Excluded => Finding::good(ABOUT, said),
        PlannedVm::Backup { preview, .. } if preview.refused.is_some() => {
            Finding::bad(ABOUT, Exit::Vm, said, None)
        }
        PlannedVm::Backup { preview, .. } if has_gap(preview) => {
            let fix = "save by other means what the backup leaves out, or leave it out on purpose: VIRTNBD_EXCLUDE_DISKS";
            Finding::look(ABOUT, said, fix.to_owned())
        }
        PlannedVm::Backup { .. } => Finding::good(ABOUT, said),
        PlannedVm::NoFolder(_) | PlannedVm::Unknown(_) => Finding::bad(ABOUT, Exit::Vm, said, None),
    };
    let PlannedVm::Backup { preview, .. } = &of.planned else { return finding };
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of rules with these files.
    fn rules(files: &[(&str, &str)]) -> tempfile::TempDir {
        let etc = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = etc.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        etc
    }

    #[test]
    fn a_rule_is_found_where_apparmor_reads_it_and_added_there() {
        const MAIN: &str = "abstractions/libvirt-qemu";
        const ADDED: &str = "abstractions/libvirt-qemu.d/vmbackup";
        const LOCAL: &str = "local/abstractions/libvirt-qemu";
        let old = (MAIN, "include <local/abstractions/libvirt-qemu>");
        let new = (MAIN, "include if exists <abstractions/libvirt-qemu.d>");
        let rule = "/var/tmp/virtnbdbackup.* rwk,";
        let commented = format!("# {rule}");
        /// Files, and the one that lacks the rule.
        type Case<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>);
        let cases: [Case<'_>; 8] = [
            (&[], None),
            (&[old], Some(LOCAL)),
            (&[old, (LOCAL, &commented)], Some(LOCAL)),
            (&[old, (LOCAL, rule)], None),
            (&[(MAIN, rule)], None),
            (&[new], Some(ADDED)),
            (&[new, (ADDED, rule)], None),
            (&[new, ("abstractions/libvirt-qemu.d/other", rule)], None),
        ];
        for (files, lacks) in cases {
            let etc = rules(files);
            let before = apparmor(etc.path(), true);
            assert_eq!(before.grade == Grade::Bad, lacks.is_some(), "{files:?}: {before:?}");
            assert_eq!(apparmor(etc.path(), false).grade, Grade::Good);
            let Some((file, fix)) = lacks.zip(before.fix) else { continue };
            let command = fix.split(';').next().unwrap();
            assert!(
                std::process::Command::new("sh").args(["-c", command]).status().unwrap().success(),
                "{command}"
            );
            assert_eq!(fs::read_to_string(etc.path().join(file)).unwrap().lines().last(), Some(rule));
            assert_eq!(apparmor(etc.path(), true).grade, Grade::Good, "{files:?}");
        }
    }
}
