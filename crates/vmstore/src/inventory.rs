//! Lists the folders of a backup path: those of VMs, and in a VM's folder those in which a backup set may lie.
//!
//! No link is followed below the backup path, and what cannot be listed is told in its place, so that each caller decides what
//! that means. Names of one folder at a time are in memory.
//! Must not live here: what a set holds (`vmstream`), sizes, what may be removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use vmplan::retention::PeriodId;
use vmstream::chain::{BackupSet, SetError};

use crate::layout::{ARCHIVES, DELETING, is_of_storage, is_vm_folder};
use crate::presence::found;

/// A folder that could not be listed, or not to its end.
#[derive(Debug, thiserror::Error)]
#[error("Cannot list {}: {source}", path.display())]
pub struct Unlisted {
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl From<Unlisted> for io::Error {
    fn from(error: Unlisted) -> Self {
        Self::new(error.source.kind(), error)
    }
}

/// A folder in which a backup set may lie: a chain or a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetDir {
    pub folder: PathBuf,
    /// The folder in the VM's folder that it is, or in whose archives it lies. `None` for the VM's folder.
    pub inner: Option<String>,
    /// It lies in an archive.
    pub archived: bool,
}

impl SetDir {
    /// Its period: also of an archive, and `accumulate` in the VM's own folder. `None` in a folder that is no period's.
    pub fn period(&self) -> Option<PeriodId> {
        self.inner.as_deref().map_or_else(|| Some(PeriodId::accumulate()), PeriodId::of_folder)
    }

    /// It was being removed when that was interrupted.
    pub fn is_leftover(&self) -> bool {
        self.folder.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(DELETING.as_bytes()))
    }

    /// Where archived chains lie beside it, by name.
    pub fn archives(&self) -> impl Iterator<Item = Result<Self, Unlisted>> + use<> {
        let archives = self.folder.join(ARCHIVES);
        let Listed { found, failed } = list(&archives);
        let inner = self.inner.clone();
        let sets =
            found.into_iter().map(move |folder| Ok(Self { folder, inner: inner.clone(), archived: true }));
        failed.map(unlisted(&archives)).into_iter().map(Err).chain(sets)
    }

    /// The set in it, with its points.
    ///
    /// # Errors
    /// When there is none, or the folder cannot be read.
    pub fn read(&self) -> Result<BackupSet, SetError> {
        BackupSet::open(&self.folder)
    }
}

/// The folders of a backup path that are VMs', by name.
pub(crate) fn vm_dirs(backup_path: &Path) -> impl Iterator<Item = Result<PathBuf, Unlisted>> {
    // Which itself may be a link: the administrator chose it.
    let Listed { found: mut dirs, failed } = listed(fs::read_dir(backup_path));
    dirs.retain(|path| path.file_name().is_some_and(is_vm_folder));
    failed.map(unlisted(backup_path)).into_iter().map(Err).chain(dirs.into_iter().map(Ok))
}

fn unlisted(path: &Path) -> impl FnOnce(io::Error) -> Unlisted {
    let path = path.to_owned();
    |source| Unlisted { path, source }
}

/// Where sets may lie in a VM's folder: each folder in it, by name, and then it itself. Any name counts but those of the
/// storage: which is a period's is for the caller to say. None where the VM's folder is a link.
pub(crate) fn places(vm_dir: &Path) -> impl Iterator<Item = Result<SetDir, Unlisted>> {
    let Listed { found, failed } = list(vm_dir);
    let is_inner =
        |path: &PathBuf| path.file_name().is_some_and(|name| name != ARCHIVES && !is_of_storage(name));
    let inner = found.into_iter().filter(is_inner);
    let named = |path: PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        (path, name)
    };
    let own = (!vm_dir.is_symlink()).then(|| (vm_dir.to_owned(), None));
    let places = inner.map(named).chain(own);
    let failed = failed.map(unlisted(vm_dir)).into_iter();
    failed.map(Err).chain(places.map(|(folder, inner)| Ok(SetDir { folder, inner, archived: false })))
}

/// The same, each after the archives in it.
pub(crate) fn set_dirs(vm_dir: &Path) -> impl Iterator<Item = Result<SetDir, Unlisted>> {
    places(vm_dir).flat_map(|place| {
        let archives = place.as_ref().ok().map(SetDir::archives);
        archives.into_iter().flatten().chain([place])
    })
}

/// The archived chains beside a set, by name.
pub fn archives(dir: &Path) -> io::Result<Vec<PathBuf>> {
    folders(&dir.join(ARCHIVES))
}

/// What lies in a folder, in no order. Nothing where it is a link or not there.
pub fn entries(dir: &Path) -> io::Result<impl Iterator<Item = io::Result<fs::DirEntry>>> {
    let entries = match dir.is_symlink() {
        true => None,
        false => found(fs::read_dir(dir))?,
    };
    Ok(entries.into_iter().flatten())
}

/// The folders in a folder, by name. None where it is a link or not there.
pub fn folders(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let Listed { found, failed } = list(dir);
    failed.map_or(Ok(found), Err)
}

/// Folders, and why there may be more.
#[derive(Default)]
struct Listed {
    found: Vec<PathBuf>,
    failed: Option<io::Error>,
}

fn list(dir: &Path) -> Listed {
    match fs::read_dir(dir) {
        // First: few of the folders that are asked for exist, and a large tree has a hundred thousand.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Listed::default(),
        _ if dir.is_symlink() => Listed::default(),
        entries => listed(entries),
    }
}

fn listed(entries: io::Result<fs::ReadDir>) -> Listed {
    let mut listed = Listed::default();
    let entries = entries.map_err(|error| listed.fail(error));
    for entry in entries.into_iter().flatten() {
        match entry.and_then(|entry| Ok((entry.file_type()?, entry.path()))) {
            Ok((kind, path)) if kind.is_dir() => listed.found.push(path),
            Ok(_) => {}
            Err(error) => listed.fail(error),
        }
    }
    // By name: all lie in one folder, and paths are compared piece by piece.
    listed.found.sort_unstable_by(|one, other| one.as_os_str().cmp(other.as_os_str()));
    listed
}

impl Listed {
    /// What is not there, or gone since it was listed, is no failure.
    fn fail(&mut self, error: io::Error) {
        if error.kind() != io::ErrorKind::NotFound {
            self.failed.get_or_insert(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn each_place_of_a_set_is_told_once_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in [
            "web/202612",
            "web/202611/.archives/chain-2026-11-02",
            "web/202611/.archives/chain-2026-11-01",
            "web/.archives/chain-2026-10-01",
            "web/.snapshot/nightly.0/202611",
            "elsewhere/.archives/chain-2026-10-01",
            "_bung",
            "_state/logs",
        ] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        fs::write(at("web/notes"), "").unwrap();
        symlink(at("elsewhere"), at("web/linked")).unwrap();
        symlink(at("elsewhere/.archives"), at("web/202612/.archives")).unwrap();
        symlink(at("web"), at("link")).unwrap();
        let vms: Vec<PathBuf> = vm_dirs(dir.path()).map(Result::unwrap).collect();
        assert_eq!(vms, ["_bung", "elsewhere", "web"].map(at));
        let set = |folder: &str, inner: Option<&str>, archived| SetDir {
            folder: at(folder),
            inner: inner.map(str::to_owned),
            archived,
        };
        let found: Vec<SetDir> = set_dirs(&at("web")).map(Result::unwrap).collect();
        let want = [
            set("web/202611/.archives/chain-2026-11-01", Some("202611"), true),
            set("web/202611/.archives/chain-2026-11-02", Some("202611"), true),
            set("web/202611", Some("202611"), false),
            set("web/202612", Some("202612"), false),
            set("web/.archives/chain-2026-10-01", None, true),
            set("web", None, false),
        ];
        assert_eq!(found, want);
        let alone = |name: &str| set_dirs(&at(name)).map(|set| set.unwrap().folder).collect::<Vec<_>>();
        assert_eq!((alone("link"), alone("none")), (vec![], vec![at("none")]));
        let names = |name: &str| entries(&at(name)).unwrap().count();
        assert_eq!((names("web"), names("link"), names("none")), (6, 0, 0));
    }

    #[test]
    fn what_cannot_be_listed_is_told_beside_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("202611")).unwrap();
        fs::write(dir.path().join("202611/.archives"), "a file").unwrap();
        let told: Vec<bool> = set_dirs(dir.path()).map(|set| set.is_ok()).collect();
        assert_eq!(told, [false, true, true]);
    }
}
