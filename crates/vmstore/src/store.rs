//! A backup path as a value, from which callers get its VMs, and from a VM its periods, chains, archives, points, and what interrupted
//! removals left; also our state folder and that of the host's configuration.
//!
//! Must not live here: how folders are listed (`inventory`), whose the path is (`root`), sizes and dates (`retention`).

use std::path::{Path, PathBuf};

use crate::StateDir;
use crate::inventory::{self, SetDir, Unlisted};
use crate::layout::{HOST_CONFIG, folder_name};

/// A backup path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    path: PathBuf,
}

impl Store {
    /// The store at a path. Touches nothing and asks for nothing: whether it is there, and whose it is, tells [`crate::Root`].
    /// Where there is no folder there is nothing in it.
    pub fn open(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the programs keep in it.
    pub fn state(&self) -> StateDir {
        StateDir::of(&self.path)
    }

    /// The folder of the host's own configuration.
    pub fn host_config(&self) -> PathBuf {
        self.path.join(HOST_CONFIG)
    }

    /// The folders of VMs, by name; where they cannot all be listed, first why.
    pub fn vms(&self) -> impl Iterator<Item = Result<VmDir, Unlisted>> {
        inventory::vm_dirs(&self.path).map(|vm| vm.map(VmDir::at))
    }

    /// The folder of this name, whether it is there or not. The name must be a VM's folder's.
    pub fn vm(&self, folder: &str) -> VmDir {
        VmDir::at(self.path.join(folder))
    }

    /// The folder of a domain, whether it is there or not.
    pub fn vm_of(&self, domain: &str) -> VmDir {
        self.vm(&folder_name(domain))
    }
}

/// The folder of a VM.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VmDir {
    path: PathBuf,
}

impl VmDir {
    /// A VM's folder by its path.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn folder(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Where its sets may lie, but for archives: each folder in it, by name, and then it itself. As [`Self::sets`].
    pub fn places(&self) -> impl Iterator<Item = Result<SetDir, Unlisted>> {
        inventory::places(&self.path)
    }

    /// Where its sets may lie: each folder in it, by name, and then it itself, each after the archives in it. Any name counts:
    /// [`SetDir::period`] tells those of periods, [`SetDir::is_leftover`] those of interrupted removals. Where not everything
    /// can be listed, that is told in its place.
    pub fn sets(&self) -> impl Iterator<Item = Result<SetDir, Unlisted>> {
        inventory::set_dirs(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn everything_in_a_store_is_found_from_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path());
        assert_eq!(store.vms().count(), 0);
        let missing = Store::open(&dir.path().join("not-mounted"));
        assert_eq!((missing.vms().count(), missing.vm("web").sets().flatten().count()), (0, 1));
        for folder in [
            "_state/logs",
            "__HOST_CONFIG__",
            "_bung/202611/.archives/chain-2026-11-02",
            "_bung/202611/.archives/.deleting-prune-chain-2026-11-01",
            "_bung/.deleting-retention-202610",
            "_bung/notes",
        ] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("_bung/202611/vda.full.data"), "").unwrap();
        let vms: Vec<VmDir> = store.vms().map(Result::unwrap).collect();
        assert_eq!(vms, [store.vm_of("übung")]);
        let told = |set: SetDir| {
            let below = set.folder.strip_prefix(vms[0].path()).unwrap().to_string_lossy().into_owned();
            (
                below,
                set.period().map(|period| period.to_string()),
                set.is_leftover(),
                set.read().map_or(0, |set| set.points.len()),
            )
        };
        let sets: Vec<_> = vms[0].sets().map(|set| told(set.unwrap())).collect();
        let row = |below: &str, period: Option<&str>, leftover, points| {
            (below.to_owned(), period.map(str::to_owned), leftover, points)
        };
        let want = [
            row(".deleting-retention-202610", None, true, 0),
            row("202611/.archives/.deleting-prune-chain-2026-11-01", Some("202611"), true, 0),
            row("202611/.archives/chain-2026-11-02", Some("202611"), false, 0),
            row("202611", Some("202611"), false, 1),
            row("notes", None, false, 0),
            row("", Some("accumulate"), false, 0),
        ];
        assert_eq!(sets, want);
        let places = [store.state().path().to_owned(), store.host_config()];
        assert_eq!(places, ["_state", "__HOST_CONFIG__"].map(|name| dir.path().join(name)));
        assert_eq!(vms[0].folder(), "_bung");
    }
}
