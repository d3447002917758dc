//! Where the backups of a domain are: `BACKUP_PATH/VM/PERIOD`.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::civil::Date;

use crate::engine::VmTarget;
use crate::libvirt::Domain;

/// Folders that are not a domain's.
const RESERVED: [&str; 2] = ["_state", "__HOST_CONFIG__"];

/// A domain whose backups cannot have a folder of their own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
    /// The folder has another use.
    #[error("VM {name} would use the backup folder {folder}, which is reserved. Rename it (virsh domrename)")]
    Reserved {
        /// The domain.
        name: String,
        /// The folder.
        folder: String,
    },
}

/// The folder of a domain: every character outside `[A-Za-z0-9._-]` becomes `_`, as in the Bash program.
pub fn folder_name(domain: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    domain.chars().map(|c| if keep(c) { c } else { '_' }).collect()
}

/// The period a day belongs to, under the monthly policy.
pub fn period_of(day: Date) -> String {
    day.strftime("%Y%m").to_string()
}

/// Gives each domain its folders. `all` are all domains of the host: also one that is not backed up now must not share.
pub(super) fn place(
    domain: &Domain,
    all: &[Domain],
    backup_path: &Path,
    today: Date,
) -> Result<VmTarget, LayoutError> {
    let folder = folder_name(domain.name());
    let mut by_folder: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for other in all {
        by_folder.entry(folder_name(other.name())).or_default().push(other.name().to_owned());
    }
    check(domain.name(), &folder, by_folder.remove(&folder).unwrap_or_default())?;
    let vm_dir = backup_path.join(&folder);
    let chain_dir = vm_dir.join(period_of(today));
    Ok(VmTarget { domain: domain.clone(), folder, vm_dir, chain_dir })
}

fn check(name: &str, folder: &str, names: Vec<String>) -> Result<(), LayoutError> {
    let folder = folder.to_owned();
    if RESERVED.contains(&folder.as_str()) || folder.starts_with('.') {
        return Err(LayoutError::Reserved { name: name.to_owned(), folder });
    }
    if names.len() > 1 { Err(LayoutError::Shared { folder, names }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_named_as_the_bash_program_does() {
        for (name, want) in [("web-1.example_a", "web-1.example_a"), ("web 1", "web_1"), ("büro/x", "b_ro_x")]
        {
            assert_eq!(folder_name(name), want);
        }
        assert_eq!(period_of(jiff::civil::date(2026, 2, 6)), "202602");
    }

    #[test]
    fn names_that_cannot_have_a_folder_are_refused() {
        let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(check("web", "web", own(&["web"])), Ok(()));
        let shared = LayoutError::Shared { folder: "web_1".into(), names: own(&["web 1", "web_1"]) };
        assert_eq!(check("web 1", "web_1", own(&["web 1", "web_1"])), Err(shared));
        assert!(check("_state", "_state", own(&["_state"])).is_err());
        assert!(check("..", "..", own(&[".."])).is_err());
    }
}
