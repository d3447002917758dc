//! Moving a chain into its archive folder. No byte is copied.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use vmstream::chain::{PointId, SetFile};

use super::identity::IDENTITY_PREFIX;
use crate::identity::is_tpm_folder;

/// The archive folder a chain in `dir` goes to today: `.archives/chain-YYYY-MM-DD`, with `.1`, `.2` … when taken.
pub(super) fn folder_for(dir: &Path, today: Date) -> PathBuf {
    let base = dir.join(".archives").join(format!("chain-{today}"));
    let numbered = (1_u32..).map(|n| base.with_file_name(format!("chain-{today}.{n}")));
    [base.clone()].into_iter().chain(numbered).find(|path| !path.exists()).unwrap_or(base)
}

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
            (known || name.starts_with(IDENTITY_PREFIX) || is_tpm_folder(&name))
                && !name.ends_with(".partial")
        } else {
            !name.ends_with(".partial") && name != "chain-manifest.json"
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

/// Moves entries of a chain into its archive folder. Each file first gets a second name there; only when all have one
/// do the names here go, the checkpoint list first. So the chain is whole in one of the two folders at every instant.
///
/// May be repeated after it broke off. Where the file system knows no second names files are renamed, one by one.
/// `Ok(false)` when there was nothing to move.
pub(super) fn move_all(from: &Path, to: &Path, names: &[String], at: &dyn Fn(&str)) -> io::Result<bool> {
    let there = |name: &String| from.join(name).symlink_metadata().is_ok();
    if !names.iter().any(there) {
        return Ok(false);
    }
    fs::create_dir_all(to)?;
    for (i, name) in names.iter().enumerate() {
        if i == names.len() / 2 {
            at("archiving");
        }
        keep(&from.join(name), &to.join(name))?;
    }
    for dir in [Some(to), to.parent(), Some(from)].into_iter().flatten() {
        sync_dir(dir)?;
    }
    at("archive-complete");
    for (i, name) in names.iter().rev().enumerate() {
        clear(&from.join(name), &to.join(name))?;
        if i == names.len() / 2 {
            at("leaving");
        }
    }
    sync_dir(from)?;
    Ok(true)
}

/// Settles a move that broke off: takes it back while everything is still here, and ends it otherwise. `Ok(true)` when
/// the chain is in the archive.
pub(super) fn settle(from: &Path, to: &Path, names: &[String]) -> io::Result<bool> {
    if names.iter().any(|name| from.join(name).symlink_metadata().is_err()) {
        return move_all(from, to, names, &|_| {});
    }
    for name in names {
        clear(&to.join(name), &from.join(name))?;
    }
    match fs::remove_dir(to) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(false),
    }
}

/// Gives a file, or each file of a folder, a second name.
fn keep(from: &Path, to: &Path) -> io::Result<()> {
    let Ok(meta) = from.symlink_metadata() else { return Ok(()) };
    if meta.is_dir() {
        fs::create_dir_all(to)?;
        // As closed as before: it may hold secrets.
        std::os::unix::fs::chown(to, Some(meta.uid()), Some(meta.gid()))?;
        fs::set_permissions(to, meta.permissions())?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            keep(&entry.path(), &to.join(entry.file_name()))?;
        }
        return sync_dir(to);
    }
    if to.symlink_metadata().is_ok() {
        return Ok(());
    }
    match fs::hard_link(from, to) {
        Err(e) if knows_no_links(&e) => fs::rename(from, to),
        other => other,
    }
}

/// What link(2) answers where there are no hard links: FAT, some network file systems.
fn knows_no_links(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, TooManyLinks, Unsupported};
    matches!(error.kind(), PermissionDenied | TooManyLinks | Unsupported)
}

/// Takes away the first name of whatever has a second one. A newer file of the same name stays.
fn clear(from: &Path, to: &Path) -> io::Result<()> {
    let (Ok(here), Ok(there)) = (from.symlink_metadata(), to.symlink_metadata()) else { return Ok(()) };
    if here.is_dir() {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            clear(&entry.path(), &to.join(entry.file_name()))?;
        }
        return match fs::remove_dir(from) {
            Err(e) if e.kind() != io::ErrorKind::DirectoryNotEmpty => Err(e),
            _ => Ok(()),
        };
    }
    if (here.dev(), here.ino()) == (there.dev(), there.ino()) { fs::remove_file(from) } else { Ok(()) }
}

/// Makes renames and removals in a folder durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    const NAMES: [&str; 3] = ["vda.full.data", "checkpoints/virtnbdbackup.0.xml", "web.cpt"];

    fn chain(dir: &Path) -> Vec<String> {
        fs::create_dir(dir.join("checkpoints")).unwrap();
        for name in NAMES {
            fs::write(dir.join(name), name).unwrap();
        }
        fs::write(dir.join("vda.full.data.partial"), "new").unwrap();
        entries(dir).unwrap()
    }

    fn is_whole(dir: &Path) -> bool {
        NAMES.iter().all(|name| fs::read_to_string(dir.join(name)).is_ok_and(|text| text == *name))
    }

    #[test]
    fn the_chain_is_whole_in_one_place_at_every_step() {
        let dir = tempfile::tempdir().unwrap();
        let names = chain(dir.path());
        let to = dir.path().join(".archives/chain-2026-11-22");
        let seen = RefCell::new(vec![]);
        let look = |step: &str| {
            seen.borrow_mut().push((step.to_owned(), is_whole(dir.path()), is_whole(&to)));
        };
        assert!(move_all(dir.path(), &to, &names, &look).unwrap());
        let want = [("archiving", true, false), ("archive-complete", true, true), ("leaving", false, true)];
        assert_eq!(seen.into_inner(), want.map(|(step, here, there)| (step.to_owned(), here, there)));
        assert!(is_whole(&to));
        assert_eq!(entries(dir.path()).unwrap(), Vec::<String>::new());
        assert!(dir.path().join("vda.full.data.partial").exists());
    }

    #[test]
    fn a_move_that_broke_off_is_taken_back_or_ended() {
        for (step, want) in [("archiving", false), ("archive-complete", false), ("leaving", true)] {
            let dir = tempfile::tempdir().unwrap();
            let names = chain(dir.path());
            let to = dir.path().join("a");
            let dies = |at: &str| assert_ne!(at, step);
            let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                move_all(dir.path(), &to, &names, &dies)
            }));
            assert!(died.is_err(), "{step}");
            assert_eq!(settle(dir.path(), &to, &names).unwrap(), want, "{step}");
            assert_eq!((is_whole(dir.path()), is_whole(&to)), (!want, want), "{step}");
            assert_eq!(to.exists(), want, "{step}");
        }
    }

    #[test]
    fn goes_on_where_it_broke_off_and_leaves_newer_files() {
        let dir = tempfile::tempdir().unwrap();
        let names = chain(dir.path());
        let to = dir.path().join("a");
        for name in &names[..2] {
            fs::create_dir_all(&to).unwrap();
            keep(&dir.path().join(name), &to.join(name)).unwrap();
        }
        assert!(move_all(dir.path(), &to, &names, &|_| {}).unwrap());
        assert!(is_whole(&to));
        assert!(!move_all(dir.path(), &to, &names, &|_| {}).unwrap(), "nothing is left to move");
        fs::write(dir.path().join("web.cpt"), "newer").unwrap();
        move_all(dir.path(), &to, &names, &|_| {}).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("web.cpt")).unwrap(), "newer");
        assert!(is_whole(&to));
    }
}
