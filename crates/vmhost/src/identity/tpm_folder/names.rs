//! The names, and which folder a name leads to.

use std::fs;
use std::io;
use std::path::Path;

use vmstore::presence::lstat;

pub(super) const PREFIX: &str = ".tpm-state.";
pub(super) const METADATA: &str = "BACKUP_METADATA.txt";
pub(super) const KEYS: &str = "bitlocker-recovery-keys.txt";

/// Whether an entry of a chain directory is the TPM folder of a point, or lies in one.
pub fn is_tpm_folder(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The folder of a point: `.tpm-state.virtnbdbackup.3`, `.tpm-state.copy`.
pub(super) fn folder_name(ident: &str) -> String {
    format!("{PREFIX}{ident}")
}

pub(super) fn real_folder(chain_dir: &Path, ident: &str) -> io::Result<Option<String>> {
    let name = folder_name(ident);
    match lstat(&chain_dir.join(&name))? {
        Some(meta) if meta.is_dir() => Ok(Some(name)),
        Some(meta) if meta.is_symlink() => led_to(chain_dir, &name),
        _ => Ok(None),
    }
}

/// The folder of ours that a link leads to.
pub(super) fn led_to(chain_dir: &Path, link: &str) -> io::Result<Option<String>> {
    let target = fs::read_link(chain_dir.join(link))?;
    let Some(name) = target.to_str().filter(|name| name.starts_with(PREFIX) && !name.contains('/')) else {
        return Ok(None);
    };
    Ok(lstat(&chain_dir.join(name))?.is_some_and(|meta| meta.is_dir()).then(|| name.to_owned()))
}

/// Whether a folder holds the state of a TPM, not only recovery keys.
pub(super) fn has_state(folder: &Path) -> io::Result<bool> {
    for version in ["tpm2", "tpm1.2"] {
        if lstat(&folder.join(version))?.is_some_and(|meta| meta.is_dir()) {
            return Ok(true);
        }
    }
    Ok(false)
}
