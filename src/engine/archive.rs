//! Moving a chain into its archive folder, file by file, by rename.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use vmstream::chain::SetFile;

/// The archive folder a chain in `dir` goes to today: `.archives/chain-YYYY-MM-DD`, with `.1`, `.2` … when taken.
pub(super) fn folder_for(dir: &Path, today: Date) -> PathBuf {
    let base = dir.join(".archives").join(format!("chain-{today}"));
    let numbered = (1_u32..).map(|n| base.with_file_name(format!("chain-{today}.{n}")));
    [base.clone()].into_iter().chain(numbered).find(|path| !path.exists()).unwrap_or(base)
}

/// The entries of `dir` that belong to its chain or copy: everything of the format, and the folders beside it.
///
/// Unfinished files stay: they belong to no chain.
pub(super) fn entries(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let belongs = if entry.file_type()?.is_dir() {
            matches!(name.as_str(), "checkpoints" | "config" | "tpm-state")
        } else {
            let partial = name.ends_with(".partial");
            !partial
                && (SetFile::parse(&name).is_some()
                    || matches!(name.as_str(), ".tpm-backup-marker" | ".copy-state.json"))
        };
        if belongs {
            names.push(name);
        }
    }
    // Data first, the checkpoint list last: wherever this stops, a reader of the old place misses streams and says so.
    names.sort_by_key(|name| (name.ends_with(".cpt"), name.clone()));
    Ok(names)
}

/// Moves one entry. `Ok(false)` when it was moved before.
pub(super) fn move_one(from: &Path, to: &Path, name: &str) -> io::Result<bool> {
    if to.join(name).symlink_metadata().is_ok() || from.join(name).symlink_metadata().is_err() {
        return Ok(false);
    }
    fs::create_dir_all(to)?;
    fs::rename(from.join(name), to.join(name))?;
    Ok(true)
}
