//! Where the backups of a domain are: `BACKUP_PATH/VM/PERIOD`, or `BACKUP_PATH/VM` for chains that do not end by date.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};

use jiff::civil::Date;
use vmstream::chain::SetFile;

use crate::engine::VmTarget;
use crate::engine::domain::xml;
use vmconfig::value::RotationPolicy;
use vmhost::libvirt::Domain;
use vmplan::rotation::Placement;
use vmstore::layout::{RESERVED, is_vm_folder};
use vmstore::{Store, VmDir, folder_name, inventory};

/// A domain whose backups cannot have a folder of their own.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// Two names become one, and neither has backups there.
    #[error(
        "VMs {} would share the backup folder {folder}: {}. Rename one of them (virsh domrename)",
        names.join(" and "),
        why_shared(*folds)
    )]
    Shared {
        /// The file system makes no difference between upper and lower case.
        folds: bool,
        folder: String,
        names: Vec<String>,
    },
    /// Another domain of this host has its backups there.
    #[error(
        "VM {name} would use the backup folder {folder}, where VM {owner} has its backups: {}. VM {owner} is backed up as before. \
         Rename {name} (virsh domrename)",
        why_shared(*folds)
    )]
    Taken {
        /// The file system makes no difference between upper and lower case.
        folds: bool,
        name: String,
        folder: String,
        /// Whose it is.
        owner: String,
    },
    /// The folder cannot be read.
    #[error("Cannot read backup folder {}: {source}", path.display())]
    Unreadable {
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder has another use.
    #[error("VM {name} would use the backup folder {folder}, which is reserved. Rename it (virsh domrename)")]
    Reserved { name: String, folder: String },
}

fn why_shared(folds: bool) -> &'static str {
    if folds {
        "only letters, digits, '.', '_' and '-' are kept, and the file system makes no difference between upper and lower case"
    } else {
        "only letters, digits, '.', '_' and '-' are kept"
    }
}

/// A domain that would use a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) name: String,
    pub(super) uuid: String,
    /// Its policy is `never`.
    pub(super) excluded: bool,
}

/// The folder of each domain of a host, and who would use it: also one that is not backed up now may have backups there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Owners {
    folds: bool,
    claims: BTreeMap<String, Vec<Claim>>,
}

impl Owners {
    /// `folds`: upper and lower case are the same in the backup path; see [`folds_case`].
    pub(super) fn new(claims: impl Iterator<Item = Claim>, folds: bool) -> Self {
        let mut owners = Self { folds, ..Self::default() };
        for claim in claims {
            let key = owners.key(&folder_name(&claim.name));
            owners.claims.entry(key).or_default().push(claim);
        }
        owners
    }

    /// What is the same for two folders that are one. File systems that fold case take dots at the end away too.
    fn key(&self, folder: &str) -> String {
        if self.folds { folder.trim_end_matches('.').to_ascii_lowercase() } else { folder.to_owned() }
    }

    /// Whether a domain may use its folder. `owner` finds the UUID of the VM whose backups are there, and is asked only where
    /// several would use it.
    fn check(
        &self,
        name: &str,
        uuid: &str,
        owner: impl FnOnce() -> io::Result<Option<String>>,
    ) -> Result<(), LayoutError> {
        let folder = folder_name(name);
        let (key, folds) = (self.key(&folder), self.folds);
        if RESERVED.iter().any(|reserved| self.key(reserved) == key) || !is_vm_folder(folder.as_ref()) {
            return Err(LayoutError::Reserved { name: name.to_owned(), folder });
        }
        let claims = self.claims.get(&key).map_or(&[][..], Vec::as_slice);
        if claims.len() < 2 {
            return Ok(());
        }
        let known =
            owner().map_err(|source| LayoutError::Unreadable { path: folder.clone().into(), source })?;
        let by_backups = claims.iter().find(|claim| known.as_ref() == Some(&claim.uuid));
        let mut wanted = claims.iter().filter(|claim| !claim.excluded);
        // Without backups there it is the only one that is to have some.
        let alone = wanted.next().filter(|_| wanted.next().is_none());
        match by_backups.or(alone) {
            Some(owner) if owner.uuid == uuid => Ok(()),
            Some(owner) => {
                let (name, owner) = (name.to_owned(), owner.name.clone());
                Err(LayoutError::Taken { folds, name, folder, owner })
            }
            None => {
                let names = claims.iter().map(|claim| claim.name.clone()).collect();
                Err(LayoutError::Shared { folds, folder, names })
            }
        }
    }
}

/// Whether a folder makes no difference between upper and lower case. Asks for what is in it under another name and writes
/// nothing; an empty folder makes one.
pub(super) fn folds_case(folder: &Path) -> bool {
    let swapped = |name: &str| -> String {
        let swap =
            |c: char| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
        name.chars().map(swap).collect()
    };
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let Some(name) = names.find(|name| swapped(name) != *name) else { return false };
    let about = |name: &str| fs::symlink_metadata(folder.join(name)).map(|about| (about.dev(), about.ino()));
    match (about(&name), about(&swapped(&name))) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// The UUID of the VM whose backup is the newest in a VM's folder. `None` where there is no backup, or it does not tell.
fn owner_of(vm: &VmDir) -> io::Result<Option<String>> {
    let mut newest: Option<(SystemTime, String)> = None;
    for place in vm.sets() {
        let place = place?.folder;
        for entry in inventory::entries(&place)? {
            let entry = entry?;
            let file = entry.file_name().to_str().and_then(SetFile::parse);
            if !matches!(file, Some(SetFile::VmConfig(_))) || !entry.file_type()?.is_file() {
                continue;
            }
            let at = entry.metadata()?.modified()?;
            if newest.as_ref().is_none_or(|(before, _)| *before < at) {
                let uuid = xml::uuid(&String::from_utf8_lossy(&fs::read(entry.path())?));
                newest = uuid.map(|uuid| (at, uuid)).or(newest);
            }
        }
    }
    Ok(newest.map(|(_, uuid)| uuid))
}

/// Gives each domain its folders. `None` for a policy without backups.
pub(super) fn place(
    domain: &Domain,
    owners: &Owners,
    backup_path: &Path,
    policy: RotationPolicy,
    today: Date,
) -> Result<Option<VmTarget>, LayoutError> {
    // One without backups needs no folder, whatever its name.
    if Placement::choose(policy, today, &[]).is_none() {
        return Ok(None);
    }
    let vm = Store::open(backup_path).vm_of(domain.name());
    owners.check(domain.name(), domain.uuid(), || owner_of(&vm))?;
    let (folder, vm_dir) = (vm.folder().to_owned(), vm.path().to_owned());
    let periods =
        folders_in(&vm_dir).map_err(|source| LayoutError::Unreadable { path: vm_dir.clone(), source })?;
    let target = |placement: Placement| {
        let chain_dir = placement.folder.as_ref().map_or(vm_dir.clone(), |folder| vm_dir.join(folder));
        VmTarget {
            domain: domain.clone(),
            folder,
            vm_dir,
            chain_dir,
            placement,
            failed: None,
            unseen_change: None,
            while_off: None,
        }
    };
    Ok(Placement::choose(policy, today, &periods).map(target))
}

/// The names of the folders in a VM's folder. None when it is not there yet.
fn folders_in(vm_dir: &Path) -> io::Result<Vec<String>> {
    let names = inventory::folders(vm_dir)?.into_iter();
    Ok(names.filter_map(|folder| folder.file_name()?.to_str().map(str::to_owned)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_have_a_folder_are_refused() {
        let own = |names: &[&str]| owners(names, &[], false);
        let check = |name: &str, owners: &Owners| owners.check(name, name, || Ok(None));
        check("web", &own(&["web"])).unwrap();
        let shared = check("web 1", &own(&["web 1", "web_1"])).unwrap_err().to_string();
        assert!(shared.starts_with("VMs web 1 and web_1 would share the backup folder web_1"), "{shared}");
        for reserved in ["_state", "__HOST_CONFIG__", "tpm-state"] {
            assert!(check(reserved, &own(&[reserved])).is_err(), "{reserved}");
        }
        for dotted in ["..", ".", ".hidden"] {
            check(dotted, &own(&[dotted])).unwrap();
        }
        assert!(check("..", &own(&["..", "_."])).is_err());
        check("_State", &own(&["_State"])).unwrap();
        assert!(check("_State", &owners(&["_State"], &[], true)).is_err(), "the same folder as _state there");
    }

    /// Each has its name as UUID.
    fn owners(names: &[&str], excluded: &[&str], folds: bool) -> Owners {
        let claim = |name: &&str| Claim {
            name: (*name).to_owned(),
            uuid: (*name).to_owned(),
            excluded: excluded.contains(name),
        };
        Owners::new(names.iter().map(claim), folds)
    }

    #[test]
    fn whose_backups_are_in_a_folder_goes_on_and_the_newcomer_is_told() {
        // Names, those that are excluded, whose backups are there; who may use the folder.
        type Case<'a> = (&'a [&'a str], &'a [&'a str], Option<&'a str>, bool, &'a [&'a str]);
        let cases: [Case<'_>; 8] = [
            (&["a 1", "a_1"], &[], Some("a 1"), false, &["a 1"]),
            (&["a 1", "a_1"], &["a 1"], Some("a 1"), false, &["a 1"]),
            (&["a 1", "a_1"], &["a_1"], None, false, &["a 1"]),
            (&["a 1", "a_1"], &[], None, false, &[]),
            (&["a 1", "a_1"], &[], Some("gone"), false, &[]),
            (&["a", "A"], &[], None, false, &["a", "A"]),
            (&["a", "A"], &[], Some("A"), true, &["A"]),
            (&["a", "a."], &[], Some("a"), true, &["a"]),
        ];
        for (names, excluded, owner, folds, want) in cases {
            let owners = owners(names, excluded, folds);
            let may = |name: &&&str| owners.check(name, name, || Ok(owner.map(str::to_owned))).is_ok();
            assert_eq!(names.iter().filter(may).copied().collect::<Vec<_>>(), want, "{names:?} {owner:?}");
        }
        let owners = owners(&["a 1", "a_1"], &[], false);
        let said = owners.check("a_1", "a_1", || Ok(Some("a 1".to_owned()))).unwrap_err().to_string();
        assert!(said.contains("where VM a 1 has its backups") && said.contains("Rename a_1"), "{said}");
    }

    #[test]
    fn the_newest_definition_tells_whose_a_folder_is() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(owner_of(&VmDir::at(dir.path().join("none"))).unwrap(), None);
        let write = |name: &str, uuid: &str, seconds: u64| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, format!("<domain><uuid>{uuid}</uuid></domain>")).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        for (name, uuid, seconds, want) in [
            ("202610/.archives/chain-2026-10-01/vmconfig.virtnbdbackup.0.xml", "1", 10, "1"),
            ("202611/vmconfig.copy.xml", "2", 20, "2"),
            ("202610/vmconfig.virtnbdbackup.3.xml", "3", 15, "2"),
            ("vmconfig.virtnbdbackup.0.xml", "4", 30, "4"),
            ("202611/notes.xml", "5", 40, "4"),
        ] {
            write(name, uuid, seconds);
            assert_eq!(owner_of(&VmDir::at(dir.path().to_owned())).unwrap().as_deref(), Some(want), "{name}");
        }
    }

    #[test]
    fn a_file_system_that_keeps_case_is_known() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!folds_case(dir.path()));
        fs::create_dir(dir.path().join("_state")).unwrap();
        assert!(!folds_case(dir.path()));
        fs::create_dir(dir.path().join("_STATE")).unwrap();
        assert!(!folds_case(dir.path()));
    }
}
