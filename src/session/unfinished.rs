//! Unfinished files in the folders of a VM's chains: a program that was killed left them, or one is writing them now.
//!
//! What a run of ours leaves goes with its journal before the next backup. The Bash program and virtnbdbackup leave theirs for
//! ever, up to a disk's size. After a backup of the VM, with its lock held, each is removed that provably is nobody's: older than
//! the backup, and open in no process. Where nobody can tell (storage that other hosts use), it is put aside.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use vmstore::durable::{PARTIAL, rename_new};
use vmstore::inventory::entries;
use vmstore::presence::first_free;
use vmstore::{SetDir, VmDir};
use vmstream::in_use::{InUse, writer_of};

/// How the name of a file ends that was put aside.
const ASIDE: &str = ".leftover";

/// An unfinished file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unfinished {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    written: SystemTime,
    /// An earlier backup has put it aside.
    pub(super) is_aside: bool,
}

/// What became of one.
#[derive(Debug)]
pub(super) enum Settled {
    /// It was nobody's.
    Removed,
    /// Somebody elsewhere may have it: it has this name now.
    PutAside(PathBuf),
    /// Somebody has it, or has just written it.
    Left(String),
}

/// The unfinished files of a VM, outside its archives. What cannot be listed has none.
pub(super) fn find(vm_dir: &Path) -> Vec<Unfinished> {
    let vm = VmDir::at(vm_dir.to_owned());
    let sets = vm.places().flatten();
    let in_set = |set: SetDir| -> Vec<Unfinished> {
        let entries = entries(&set.folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| of(&entry)).collect()
    };
    let mut found: Vec<Unfinished> = sets.flat_map(in_set).collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn of(entry: &fs::DirEntry) -> Option<Unfinished> {
    let name = entry.file_name();
    let name = name.to_str()?;
    let is_aside = name.ends_with(ASIDE);
    if !is_aside && !name.ends_with(PARTIAL) {
        return None;
    }
    let about = entry.metadata().ok().filter(fs::Metadata::is_file)?;
    Some(Unfinished { path: entry.path(), bytes: about.len(), written: about.modified().ok()?, is_aside })
}

/// Removes it, or puts it aside, or says why neither. `began` is when the backup began that has ended well since.
pub(super) fn settle(file: &Unfinished, began: SystemTime) -> io::Result<Settled> {
    let path = &file.path;
    if file.is_aside {
        return Ok(Settled::Left("it was put aside".to_owned()));
    }
    if file.written >= began {
        return Ok(Settled::Left("it was written since this backup began".to_owned()));
    }
    match writer_of(path) {
        InUse::By(who) => Ok(Settled::Left(format!("in use by {who}"))),
        InUse::Free => fs::remove_file(path).map(|()| Settled::Removed),
        InUse::Unknown(_) | InUse::Hidden(_) => {
            let to = aside_name(path)?;
            rename_new(path, &to).map(|()| Settled::PutAside(to))
        }
    }
}

/// A free name beside it.
fn aside_name(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(PARTIAL).unwrap_or(&name);
    let named = |n: u32| match n {
        0 => path.with_file_name(format!("{stem}{ASIDE}")),
        n => path.with_file_name(format!("{stem}.{n}{ASIDE}")),
    };
    first_free((0..1000).map(named))?.ok_or_else(|| io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_what_is_nobodys_goes() {
        let dir = tempfile::tempdir().unwrap();
        let vm = dir.path().join("web");
        for folder in ["202611/.archives/chain-2026-11-01", "202610"] {
            fs::create_dir_all(vm.join(folder)).unwrap();
        }
        let write = |name: &str| fs::write(vm.join(name), "12345").unwrap();
        let names =
            ["202611/vda.full.data.partial", "202611/vdb.full.data.partial", "202610/web.cpt.partial"];
        names.iter().for_each(|name| write(name));
        for other in [
            "202611/vda.full.data",
            "202611/.archives/chain-2026-11-01/x.partial",
            "202610/x.leftover",
            "y.partial.z",
        ] {
            write(other);
        }
        let found = find(&vm);
        let listed: Vec<_> =
            found.iter().map(|file| file.path.strip_prefix(&vm).unwrap().display().to_string()).collect();
        let want = [
            "202610/web.cpt.partial",
            "202610/x.leftover",
            "202611/vda.full.data.partial",
            "202611/vdb.full.data.partial",
        ];
        assert_eq!(listed, want);
        assert_eq!(found.iter().filter(|file| file.is_aside).count(), 1);

        let later = SystemTime::now() + Duration::from_secs(60);
        let earlier = SystemTime::now() - Duration::from_secs(60);
        assert!(matches!(settle(&found[0], earlier), Ok(Settled::Left(_))), "newer than the backup");
        assert!(matches!(settle(&found[1], later), Ok(Settled::Left(_))), "put aside before");
        // Another process has it open.
        let held = vm.join(names[1]);
        let mut other = std::process::Command::new("sh")
            .args(["-c", "exec 3>>\"$0\"; echo; sleep 60"])
            .arg(&held)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let fates: Vec<String> = found
            .iter()
            .filter(|file| !file.is_aside)
            .map(|file| format!("{:?}", settle(file, later).unwrap()))
            .collect();
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!((fates[0].as_str(), fates[1].as_str()), ("Removed", "Removed"));
        assert!(fates[2].contains("in use by process"), "{fates:?}");
        assert!(held.exists() && !vm.join(names[0]).exists() && vm.join("202611/vda.full.data").exists());
        let aside = |name: &str| aside_name(&vm.join(name)).unwrap().file_name().unwrap().to_owned();
        assert_eq!(aside("202610/vda.data.partial"), "vda.data.leftover");
        assert_eq!(aside("202610/x.partial"), "x.1.leftover");
    }
}
