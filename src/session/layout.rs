//! Where the backups of a domain are: `BACKUP_PATH/VM/PERIOD`, or `BACKUP_PATH/VM` for chains that do not end by date.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use jiff::civil::Date;

use crate::config::value::RotationPolicy;
use crate::engine::VmTarget;
use crate::host_config;
use crate::libvirt::Domain;
use crate::policy::rotation::Placement;
use crate::state::folder_name;

/// Folders that are not a domain's: two of the backup path, and a name that is for root alone wherever it stands.
const RESERVED: [&str; 3] = ["_state", host_config::FOLDER, "tpm-state"];

/// A domain whose backups cannot have a folder of their own.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// Two names become one.
    #[error(
        "VMs {} would share the backup folder {folder}: only letters, digits, '.', '_' and '-' are kept. Rename one of them \
         (virsh domrename)",
        names.join(" and ")
    )]
    Shared {
        /// The folder.
        folder: String,
        /// The domains.
        names: Vec<String>,
    },
    /// The folder cannot be read.
    #[error("Cannot read backup folder {}: {source}", path.display())]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder has another use.
    #[error("VM {name} would use the backup folder {folder}, which is reserved. Rename it (virsh domrename)")]
    Reserved {
        /// The domain.
        name: String,
        /// The folder.
        folder: String,
    },
}

/// The folder of each domain of a host, and whose it would be: also one that is not backed up now must not share.
pub(super) type Owners = BTreeMap<String, Vec<String>>;

/// Whose folders there are to be.
pub(super) fn owners<'a>(names: impl Iterator<Item = &'a str>) -> Owners {
    let mut owners = Owners::new();
    for name in names {
        owners.entry(folder_name(name)).or_default().push(name.to_owned());
    }
    owners
}

/// Gives each domain its folders. `None` for a policy without backups.
pub(super) fn place(
    domain: &Domain,
    owners: &Owners,
    backup_path: &Path,
    policy: RotationPolicy,
    today: Date,
) -> Result<Option<VmTarget>, LayoutError> {
    let folder = folder_name(domain.name());
    check(domain.name(), &folder, owners.get(&folder).map_or(&[], Vec::as_slice))?;
    let vm_dir = backup_path.join(&folder);
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
        }
    };
    Ok(Placement::choose(policy, today, &periods).map(target))
}

/// The names of the folders in a VM's folder. None when it is not there yet.
fn folders_in(vm_dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(vm_dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}

fn check(name: &str, folder: &str, names: &[String]) -> Result<(), LayoutError> {
    let folder = folder.to_owned();
    if RESERVED.contains(&folder.as_str()) || folder.starts_with('.') {
        return Err(LayoutError::Reserved { name: name.to_owned(), folder });
    }
    if names.len() > 1 { Err(LayoutError::Shared { folder, names: names.to_vec() }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_have_a_folder_are_refused() {
        let own = |names: &[&str]| {
            let owners = owners(names.iter().copied());
            owners.into_values().next().unwrap()
        };
        check("web", "web", &own(&["web"])).unwrap();
        let shared = check("web 1", "web_1", &own(&["web 1", "web_1"])).unwrap_err().to_string();
        assert!(shared.starts_with("VMs web 1 and web_1 would share the backup folder web_1"), "{shared}");
        for reserved in ["_state", "__HOST_CONFIG__", "tpm-state"] {
            assert!(check(reserved, reserved, &own(&[reserved])).is_err(), "{reserved}");
        }
        assert!(check("..", "..", &own(&[".."])).is_err());
    }
}
