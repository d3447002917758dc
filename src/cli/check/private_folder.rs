//! Folders that are another one for this program than for QEMU and libvirt: what `PrivateTmp=` of a systemd unit makes.
//!
//! QEMU makes the socket of a backup job in its `/var/tmp`, and libvirt the scratch files: who sees another folder there finds
//! nothing.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::finding::Finding;
use vmreport::Exit;

/// Where sockets are.
const SOCKETS: &str = "/var/tmp";

/// Folders that `PrivateTmp=` makes private.
const PRIVATE: [&str; 2] = ["/tmp", "/var/tmp"];

/// Where daemons of libvirt write their process number. Without one the host's first process sees what they see.
const DAEMONS: [&str; 2] = ["/run/libvirtd.pid", "/run/virtqemud.pid"];

/// Where units are; one in a folder hides those of the same name in the folders after it.
const UNITS: [&str; 3] = ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system"];

const ABOUT: &str = "private folder";

/// Folders that this very process and libvirt see differently.
pub(super) fn of_this_process(scratch_dir: &Path) -> Vec<Finding> {
    let daemons = DAEMONS.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u32>().ok());
    let mut alive = daemons.filter(|pid| Path::new(&format!("/proc/{pid}")).exists());
    let root = PathBuf::from(format!("/proc/{}/root", alive.next().unwrap_or(1)));
    let differs = |dir: &Path| {
        let place = |path: &Path| fs::metadata(path).map(|about| (about.dev(), about.ino()));
        match (place(dir), place(&root.join(dir.strip_prefix("/").unwrap_or(dir)))) {
            (Ok(ours), Ok(theirs)) => ours != theirs,
            (Ok(_), Err(error)) => error.kind() == ErrorKind::NotFound,
            // What cannot be looked at tells nothing.
            (Err(_), _) => false,
        }
    };
    let finding = |dir: &Path| {
        let said = format!(
            "{} is another folder for this program than for libvirt: sockets and scratch files cannot be shared there",
            dir.display()
        );
        let fix = "start it where it sees the host's folders: in a systemd unit PrivateTmp=no, and no mount over it";
        Finding::bad(ABOUT, Exit::Storage, said, Some(fix.to_owned()))
    };
    [Path::new(SOCKETS), scratch_dir].into_iter().filter(|dir| differs(dir)).map(finding).collect()
}

/// Units of systemd that start backups where they cannot work.
pub(super) fn of_units(scratch_dir: &Path) -> Vec<Finding> {
    in_folders(&UNITS.map(PathBuf::from), scratch_dir)
}

fn in_folders(folders: &[PathBuf], scratch_dir: &Path) -> Vec<Finding> {
    let mut names: Vec<String> = folders.iter().flat_map(|folder| names_in(folder, ".service")).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| {
        let unit = text_of(folders, name);
        starts_backups(&unit) && is_private(&unit)
    });
    let of = |name: String| {
        let places: Vec<&str> =
            PRIVATE.into_iter().filter(|dir| *dir == SOCKETS || scratch_dir.starts_with(dir)).collect();
        let said = format!(
            "{name} starts backups with PrivateTmp: it has a {} of its own, and QEMU makes sockets and scratch files in the host's",
            places.join(" and a ")
        );
        let fix = format!("systemctl edit {name}, and there: [Service], PrivateTmp=no");
        Finding::bad(ABOUT, Exit::General, said, Some(fix))
    };
    names.into_iter().map(of).collect()
}

/// A unit with what is added to it, in the order in which systemd reads it.
fn text_of(folders: &[PathBuf], name: &str) -> String {
    let unit = folders.iter().find_map(|folder| fs::read_to_string(folder.join(name)).ok());
    let added = format!("{name}.d");
    let mut files: Vec<(String, PathBuf)> = vec![];
    for folder in folders.iter().map(|folder| folder.join(&added)) {
        for file in names_in(&folder, ".conf") {
            if !files.iter().any(|(known, _)| *known == file) {
                files.push((file.clone(), folder.join(file)));
            }
        }
    }
    files.sort();
    let added = files.into_iter().filter_map(|(_, path)| fs::read_to_string(path).ok());
    unit.into_iter().chain(added).collect::<Vec<_>>().join("\n")
}

fn names_in(folder: &Path, end: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(end))
        .collect()
}

/// The values of a key, in order.
fn values<'a>(unit: &'a str, key: &'a str) -> impl DoubleEndedIterator<Item = &'a str> {
    let of_line = move |line: &'a str| line.trim().split_once('=').filter(|(name, _)| name.trim() == key);
    unit.lines().filter_map(of_line).map(|(_, value)| value.trim())
}

fn starts_backups(unit: &str) -> bool {
    values(unit, "ExecStart").any(|line| line.contains("vmbackup") && line.contains("--run"))
}

fn is_private(unit: &str) -> bool {
    let last = values(unit, "PrivateTmp").next_back().map(str::to_lowercase);
    last.is_some_and(|value| ["yes", "true", "on", "1", "disconnected"].contains(&value.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_that_starts_backups_in_folders_of_its_own_is_found() {
        const RUN: &str = "[Service]\nExecStart=/usr/local/bin/vmbackup --run\n";
        let private = format!("{RUN}PrivateTmp=yes\n");
        let of_other = "[Service]\nExecStart=/usr/bin/other --run\nPrivateTmp=yes\n";
        let (off, on) = ("[Service]\nPrivateTmp = no", "[Service]\nPrivateTmp=true");
        /// Files in the folders of the administrator and of packages, and how many units are found.
        type Case<'a> = (&'a [(&'a str, &'a str)], usize);
        let cases: [Case<'_>; 7] = [
            (&[("etc/backup.service", RUN)], 0),
            (&[("etc/backup.service", &private)], 1),
            (&[("usr/backup.service", &private)], 1),
            (&[("etc/backup.service", RUN), ("usr/backup.service", &private)], 0),
            (&[("usr/backup.service", &private), ("etc/backup.service.d/own.conf", off)], 0),
            (&[("usr/backup.service", RUN), ("etc/backup.service.d/own.conf", on)], 1),
            (&[("etc/other.service", of_other)], 0),
        ];
        for (files, want) in cases {
            let dir = tempfile::tempdir().unwrap();
            for (name, text) in files {
                let file = dir.path().join(name);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, text).unwrap();
            }
            let folders = [dir.path().join("etc"), dir.path().join("usr")];
            let found = in_folders(&folders, Path::new("/tmp/scratch"));
            assert_eq!(found.len(), want, "{files:?}: {found:?}");
            assert!(
                found.iter().all(|one| one.said.contains("a /tmp and a /var/tmp of its own")),
                "{found:?}"
            );
        }
    }
}
