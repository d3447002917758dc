//! Names of the folders in a tree of backups, and THE rule of which of them are VMs'.
//!
//! ```text
//! BACKUP_PATH/
//!   _state/  __HOST_CONFIG__/              of the programs and of the host
//!   VM/                                    any other folder: its name is text, not `tpm-state`, and begins with no dot
//!     [PERIOD/]                            none where chains do not end by date
//!       streams, lists, checkpoints/ …     one backup set
//!       .archives/chain-YYYY-MM-DD[.N]/    the same again, one folder for each archived chain
//! ```
//! A link is no VM's folder, wherever it leads. Must not live here: what a folder holds (`tree`, `set`).

use std::ffi::OsStr;

/// The folder of the programs themselves: database, locks, journals, logs.
pub const STATE: &str = "_state";

/// The folder of the host's own configuration.
pub const HOST_CONFIG: &str = "__HOST_CONFIG__";

/// What a virtual TPM keeps: for root alone, wherever it stands.
pub const TPM_STATE: &str = "tpm-state";

/// The folder of the archived chains, beside a chain's files.
pub const ARCHIVES: &str = ".archives";

/// Names of folders that are never a VM's and never hold a set.
pub const RESERVED: [&str; 3] = [STATE, HOST_CONFIG, TPM_STATE];

/// Whether a folder of a backup path is a VM's, by its name.
pub fn is_vm_folder(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| !name.is_empty() && !name.starts_with('.') && !RESERVED.contains(&name))
}

/// A folder in which the storage shows its own snapshots (NetApp, ZFS, snapper), by its name. Nobody can change what is in it,
/// and none of it is of this tree.
pub fn is_of_storage(name: &OsStr) -> bool {
    [".snapshot", ".snapshots", ".zfs"].iter().any(|known| name == *known)
}

/// A folder of the programs or of the host, by its name: at the top of a tree it holds no set.
pub(super) fn is_of_programs(name: &OsStr) -> bool {
    name == STATE || name == HOST_CONFIG
}

/// The state of a TPM, by its name: beside a set it holds no other.
pub(super) fn is_tpm_state(name: &OsStr) -> bool {
    name == TPM_STATE || name.as_encoded_bytes().starts_with(b".tpm-state.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn every_name_but_those_of_others_is_a_vms() {
        let long = "a".repeat(200);
        for name in ["web", "_bung", "__", "_", "-", "_State", "web_1", "köln", "🦀", "a.b", long.as_str()]
        {
            assert!(is_vm_folder(OsStr::new(name)), "{name}");
        }
        for name in ["_state", "__HOST_CONFIG__", "tpm-state", "", ".", "..", ".archives", ".snapshot"] {
            assert!(!is_vm_folder(OsStr::new(name)), "{name}");
        }
        assert!(!is_vm_folder(OsStr::from_bytes(b"no\xfftext")));
    }
}
