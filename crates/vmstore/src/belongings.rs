//! What in a backup path is the backups', and what is other people's who use the same volume.
//!
//! Told by names: a folder with files of a backup set in it, or one or two levels below, is the backups'. Not so where strangers
//! can make folders: there it must belong to root or to the owner of the path too. What cannot be read is other people's.
//! Must not live here: whether such a set can be restored (`catalog`, `retention`).

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use vmstream::chain::SetFile;
use vmstream::durable::PARTIAL;

use crate::inventory::{archives, entries, folders};
use crate::layout::{HOST_CONFIG, STATE};

/// What file systems and servers put at their top: it says nothing of who else uses the volume.
const OF_FILE_SYSTEM: [&str; 6] =
    ["lost+found", ".snapshot", ".snapshots", ".zfs", "System Volume Information", "$RECYCLE.BIN"];

/// Folders beside a chain's files.
const BESIDE_A_CHAIN: [&str; 3] = ["checkpoints", "config", "tpm-state"];

/// What lets everybody make folders.
const WRITING_FOR_OTHERS: u32 = 0o002;

/// What a folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// Files of a backup set.
    Backup,
    /// Files, and none of a backup set.
    Others,
    /// No file.
    Nothing,
}

/// The entries of a backup path, by whose they are. Links are nobody's: they are never followed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Belongings {
    /// Names of folders that are the backups': of VMs, of our state, of the host's configuration.
    pub backups: Vec<String>,
    /// Names of what is not.
    pub others: Vec<String>,
}

impl Belongings {
    /// Looks at the entries of a backup path. Touches nothing.
    pub fn of(backup_path: &Path) -> io::Result<Self> {
        let mut found = Self::default();
        let path = fs::metadata(backup_path)?;
        let is_open = path.mode() & WRITING_FOR_OTHERS != 0;
        for entry in fs::read_dir(backup_path)? {
            let entry = entry?;
            let (kind, name) = (entry.file_type()?, entry.file_name().to_string_lossy().into_owned());
            if kind.is_symlink() || OF_FILE_SYSTEM.contains(&name.as_str()) {
                continue;
            }
            let ours = name == STATE || name == HOST_CONFIG;
            let holds = match kind.is_dir() {
                true if is_open && !entry.metadata().is_ok_and(|it| [0, path.uid()].contains(&it.uid())) => {
                    Holds::Others
                }
                true if ours => Holds::Backup,
                true => of_vm_folder(&entry.path()).unwrap_or(Holds::Others),
                false => Holds::Others,
            };
            match holds {
                Holds::Backup => found.backups.push(name),
                Holds::Others => found.others.push(name),
                Holds::Nothing => {}
            }
        }
        found.backups.sort();
        found.others.sort();
        Ok(found)
    }
}

/// Whether a folder in a VM's folder is other people's.
pub(super) fn is_others(name: &str, folder: &Path) -> bool {
    // What cannot be read is not touched.
    !is_known(name) && with_archives(folder).map_or(true, |holds| holds == Holds::Others)
}

/// A folder that may be a VM's: chains lie in it, in its periods, or in the archives of either.
fn of_vm_folder(folder: &Path) -> io::Result<Holds> {
    let mut holds = with_archives(folder)?;
    for period in folders(folder)? {
        if holds == Holds::Backup {
            break;
        }
        holds = joined(holds, with_archives(&period)?);
        // Periods have no folders of their own but these.
        if folders(&period)?
            .iter()
            .any(|inner| !inner.file_name().is_some_and(|name| is_known(&name.to_string_lossy())))
        {
            holds = joined(holds, Holds::Others);
        }
    }
    Ok(holds)
}

/// A folder that lies in a VM's folder, or in that of a period.
fn is_known(name: &str) -> bool {
    name.starts_with('.') || BESIDE_A_CHAIN.contains(&name)
}

fn with_archives(folder: &Path) -> io::Result<Holds> {
    let mut holds = files(folder)?;
    for archive in archives(folder)? {
        if holds == Holds::Backup {
            break;
        }
        holds = joined(holds, files(&archive)?);
    }
    Ok(holds)
}

fn joined(one: Holds, other: Holds) -> Holds {
    match (one, other) {
        (Holds::Nothing, _) | (_, Holds::Backup) => other,
        _ => one,
    }
}

/// The files in a folder alone.
fn files(folder: &Path) -> io::Result<Holds> {
    let mut holds = Holds::Nothing;
    for entry in entries(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            continue;
        }
        let name = entry.file_name();
        let of_set = name.to_str().and_then(|name| SetFile::parse(name.trim_end_matches(PARTIAL)));
        if matches!(of_set, Some(SetFile::Stream { .. } | SetFile::Sidecar { .. } | SetFile::VmConfig(_))) {
            return Ok(Holds::Backup);
        }
        holds = Holds::Others;
    }
    Ok(holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_backups_is_told_from_what_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            "_state/vmbackup.db",
            "__HOST_CONFIG__/x",
            "flat/vda.full.data",
            "monthly/202611/vda.full.data",
            "died/202611/vda.full.data.partial",
            "archived/202611/.archives/chain-2026-11-01/vda.full.data",
            "flat-archived/.archives/chain-2026-11-01/vmconfig.virtnbdbackup.0.xml",
            "mixed/holiday.jpg",
            "mixed/202611/vda.copy.data",
            "photos/202611/holiday.jpg",
            "mail.mbox",
            "deep/a/b/vda.full.data",
            "lost+found/#1",
        ];
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        fs::create_dir_all(dir.path().join("begun/202611")).unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("link")).unwrap();
        // What a link leads to is not looked at: it may be another VM's.
        fs::create_dir(dir.path().join("linked")).unwrap();
        std::os::unix::fs::symlink("../archived/202611/.archives", dir.path().join("linked/.archives"))
            .unwrap();
        let found = Belongings::of(dir.path()).unwrap();
        let backups =
            ["__HOST_CONFIG__", "_state", "archived", "died", "flat", "flat-archived", "mixed", "monthly"];
        assert_eq!(found.backups, backups);
        // A set deeper than any of ours is no backup of ours.
        assert_eq!(found.others, ["deep", "linked", "mail.mbox", "photos"]);
        assert!(is_others("202611", &dir.path().join("photos/202611")));
        assert!(!is_others("202611", &dir.path().join("mixed/202611")));
        assert!(!is_others("202611", &dir.path().join("begun/202611")));
    }
}
