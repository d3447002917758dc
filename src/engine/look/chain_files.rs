//! Which files of a folder belong to the chain or copy in it.
//!
//! Must not live here: moving them (`commit::archive`), what they say (`observe`).

use std::fs;
use std::io;
use std::path::Path;

use vmhost::identity::is_tpm_folder;
use vmstore::durable::PARTIAL;
use vmstream::chain::{PointId, SetFile};

/// What the hidden file beside each point begins with, that says what libvirt knows besides the definition.
pub(crate) const IDENTITY_PREFIX: &str = ".identity.";

/// The entries of `dir` that belong to its chain or copy: every visible file (the firmware and kernel files of a copy
/// have names of their own) and the folders beside them. Unfinished files stay: they belong to no chain.
pub(crate) fn entries(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let belongs = if entry.file_type()?.is_dir() {
            matches!(name.as_str(), "checkpoints" | "config" | "tpm-state") || is_tpm_folder(&name)
        } else if name.starts_with('.') {
            let known = matches!(name.as_str(), ".tpm-backup-marker" | ".copy-state.json");
            (known || name.starts_with(IDENTITY_PREFIX) || is_tpm_folder(&name)) && !name.ends_with(PARTIAL)
        } else {
            !name.ends_with(PARTIAL) && name != "chain-manifest.json"
        };
        if belongs {
            names.push(name);
        }
    }
    // What says that the rest is complete comes last, and goes first.
    let copy = SetFile::VmConfig(PointId::Copy).to_string();
    names.sort_by_key(|name| (name.ends_with(".cpt") || *name == copy, name.clone()));
    Ok(names)
}
