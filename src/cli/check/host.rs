//! What a backup needs of the host: programs, libvirt, and rules of AppArmor.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::finding::Finding;
use vmhost::libvirt::Host;
use vmprogram::{NEVER, Program};
use vmreport::Exit;

/// Programs that a backup starts, the package that has them, and what is missing without them where a backup can do
/// without.
const PROGRAMS: [(&str, &str, Option<&str>); 4] = [
    ("qemu-img", "qemu-utils", None),
    ("qemu-nbd", "qemu-utils", None),
    ("setpriv", "util-linux", None),
    ("ionice", "util-linux", Some("IO_PRIORITY_CLASS cannot be had")),
];

/// How long a program may take to tell its version.
const PROGRAM_LIMIT: Duration = Duration::from_secs(10);

/// The oldest libvirt whose incremental backups can be relied on, as `major * 1_000_000 + minor * 1000`.
const OLDEST_LIBVIRT: u32 = 7_002_000;

/// Where AppArmor tells whether it is on, and where its rules are.
const APPARMOR_ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
const APPARMOR_RULES: &str = "/etc/apparmor.d";

/// Each program that a backup starts.
pub(super) fn programs() -> impl Iterator<Item = Finding> {
    PROGRAMS.iter().map(|(name, package, without)| program(name, package, *without))
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

pub(super) fn libvirt(uri: &str) -> Finding {
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
pub(super) fn apparmor() -> Finding {
    let is_on = fs::read_to_string(APPARMOR_ENABLED).is_ok_and(|on| on.trim() == "Y");
    rules_of(Path::new(APPARMOR_RULES), is_on)
}

/// The same of the rules in this folder.
fn rules_of(etc: &Path, is_on: bool) -> Finding {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::finding::Grade;

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
            let before = rules_of(etc.path(), true);
            assert_eq!(before.grade == Grade::Bad, lacks.is_some(), "{files:?}: {before:?}");
            assert_eq!(rules_of(etc.path(), false).grade, Grade::Good);
            let Some((file, fix)) = lacks.zip(before.fix) else { continue };
            let command = fix.split(';').next().unwrap();
            assert!(
                std::process::Command::new("sh").args(["-c", command]).status().unwrap().success(),
                "{command}"
            );
            assert_eq!(fs::read_to_string(etc.path().join(file)).unwrap().lines().last(), Some(rule));
            assert_eq!(rules_of(etc.path(), true).grade, Grade::Good, "{files:?}");
        }
    }
}
