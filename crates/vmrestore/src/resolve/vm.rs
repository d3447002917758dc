//! A VM in a backup path: its folder by the name that a person gives, and the sets in it.

use std::fs;
use std::path::{Component, Path, PathBuf};

use vmstore::presence::found;
use vmstore::{Store, VmDir, folder_name};
use vmstream::chain::{BackupSet, SetError};

use super::sets::Sets;
use super::{FoundSet, ResolveError};

/// A VM as it is named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmName {
    /// Its name, or that of its folder.
    pub name: String,
    /// The backup path, where a path was given.
    pub root: Option<PathBuf>,
}

impl VmName {
    /// A VM by the name of its folder.
    pub fn of_folder(name: String) -> Self {
        Self { name, root: None }
    }

    /// Several names with commas between them; a path is one, whatever is in it. Empty where that names nobody.
    pub fn parse(text: &str) -> Vec<Self> {
        if text.contains('/') {
            let path = Path::new(text);
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            let root = path.parent().map(Path::to_owned);
            return name.map(|name| Self { name, root }).into_iter().collect();
        }
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(|name| Self { name: name.to_owned(), root: None }).collect()
    }
}

/// The names of the folders of VMs in a backup path, in order.
pub fn known_vms(root: &Path) -> Result<Vec<String>, ResolveError> {
    readable(root)?;
    let store = Store::open(root);
    let names = store.vms().map(|vm| vm.map(|vm| vm.folder().to_owned()));
    Ok(names.collect::<Result<_, _>>()?)
}

/// The sets of a VM. A backup path that is a set itself is the one set of whatever VM is named.
///
/// # Errors
/// When the backup path cannot be read or has no such VM or period.
pub fn vm_sets(root: &Path, vm: &str, period: Option<&str>) -> Result<Sets, ResolveError> {
    readable(root)?;
    if is_set(root) {
        return Ok(Sets { vm: vm.to_owned(), dir: root.to_owned(), sets: vec![FoundSet::alone(root)] });
    }
    let Some(dir) = folder_of(root, vm) else {
        let known = known_vms(root)?;
        return Err(ResolveError::NoVm { vm: vm.to_owned(), root: root.to_owned(), known });
    };
    match period {
        None => Sets::of(vm, &VmDir::at(dir)),
        Some(period) => of_period(vm, &dir, period),
    }
}

fn of_period(vm: &str, dir: &Path, period: &str) -> Result<Sets, ResolveError> {
    let below = Path::new(period);
    let is_below = below.components().all(|part| matches!(part, Component::Normal(_)));
    let folder = dir.join(below);
    if period.is_empty() || !is_below || !folder.is_dir() {
        let mut known: Vec<String> = Sets::of(vm, &VmDir::at(dir.to_owned()))?.periods().collect();
        known.dedup();
        return Err(ResolveError::NoPeriod { vm: vm.to_owned(), period: period.to_owned(), known });
    }
    // Its own archives are behind it, as they are in a VM's folder.
    let mut sets = Sets::of(vm, &VmDir::at(folder))?;
    sets.sets.retain(|set| set.inner.is_none());
    sets.sets.iter_mut().for_each(|set| set.inner = Some(period.to_owned()));
    Ok(sets)
}

/// The folder of a VM, by its own name or by that of the folder.
fn folder_of(root: &Path, vm: &str) -> Option<PathBuf> {
    let names = [vm.to_owned(), folder_name(vm)];
    let is_name = |name: &String| Path::new(name).components().eq([Component::Normal(name.as_ref())]);
    names.into_iter().filter(is_name).map(|name| root.join(name)).find(|dir| dir.is_dir())
}

/// Not there, and not readable, are two things.
fn readable(root: &Path) -> Result<(), ResolveError> {
    let failed = |source| ResolveError::Root { path: root.to_owned(), source };
    fs::read_dir(root).map(drop).map_err(failed)
}

/// True where files of a set lie in the folder itself.
pub(super) fn is_set(dir: &Path) -> bool {
    let names = found(fs::read_dir(dir)).ok().flatten().into_iter().flatten().flatten();
    let mut names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let may_be = names.any(|name| vmstream::chain::SetFile::parse(&name).is_some());
    may_be && !matches!(BackupSet::open(dir), Err(SetError::NotASet { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_and_paths_are_not() {
        let name =
            |name: &str, root: Option<&str>| VmName { name: name.to_owned(), root: root.map(PathBuf::from) };
        let cases = [
            ("web", vec![name("web", None)]),
            ("web, db,,", vec![name("web", None), name("db", None)]),
            ("/mnt/a,b/web/", vec![name("web", Some("/mnt/a,b"))]),
            ("here/web", vec![name("web", Some("here"))]),
            ("", vec![]),
            (",", vec![]),
            ("/", vec![]),
        ];
        for (text, want) in cases {
            assert_eq!(VmName::parse(text), want, "{text}");
        }
    }
}
