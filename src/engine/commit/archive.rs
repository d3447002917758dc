//! Moving a chain into its archive folder. No byte is copied.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use rustix::fs::{Mode, OFlags};

use crate::engine::fail_point::FailPoint;
use vmstore::durable::{knows_no_links, rename_new, sync_folder};
use vmstore::inventory;
use vmstore::layout::ARCHIVES;
use vmstore::presence::{found, lstat, same_file, there};

/// Makes the archive folder a chain in `dir` goes to today: `.archives/chain-YYYY-MM-DD`, with `.1`, `.2` … when taken.
/// It is new: what cannot be seen, or somebody else makes at the same time, is another chain's.
pub(crate) fn claim(dir: &Path, today: Date) -> io::Result<PathBuf> {
    let archives = dir.join(ARCHIVES);
    fs::create_dir_all(&archives)?;
    let mut number = 0_u32;
    loop {
        let more = if number == 0 { String::new() } else { format!(".{number}") };
        let path = archives.join(format!("chain-{today}{more}"));
        match fs::create_dir(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number += 1,
            made => return made.map(|()| path),
        }
    }
}

/// Gives back a folder that was claimed and not used, by this run or by one that died: one with nothing in it.
pub(crate) fn unclaim(dir: &Path) {
    let empty = |path: &Path| fs::remove_dir(path).is_ok();
    let is_chain =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"chain-"));
    let chains = inventory::archives(dir).unwrap_or_default().into_iter().filter(is_chain);
    if chains.map(|chain| empty(&chain)).fold(false, |any, gone| any | gone) {
        empty(&dir.join(ARCHIVES));
    }
}

/// Moves entries of a chain into its archive folder, which was claimed for it. Each file first gets a second name there;
/// only when all have one, and each is seen to be the file it was, do the names here go, the checkpoint list first. So
/// the chain is whole in one of the two folders at every instant.
///
/// May be repeated after it broke off. Where the file system knows no second names files are renamed, one by one.
/// `Ok(false)` when there was nothing to move.
pub(crate) fn move_all(from: &Path, to: &Path, names: &[String], at: &dyn Fn(FailPoint)) -> io::Result<bool> {
    let mut any = false;
    for name in names {
        any |= there(&from.join(name))?;
    }
    if !any {
        return Ok(false);
    }
    let mut kept = Vec::new();
    for (i, name) in names.iter().enumerate() {
        if i == names.len() / 2 {
            at(FailPoint::Archiving);
        }
        keep(&from.join(name), &to.join(name), &mut kept)?;
    }
    for dir in [Some(to), to.parent(), Some(from)].into_iter().flatten() {
        sync_folder(dir)?;
    }
    kept.iter().try_for_each(Kept::prove)?;
    at(FailPoint::ArchiveComplete);
    for (i, name) in names.iter().rev().enumerate() {
        clear(&from.join(name), &to.join(name))?;
        if i == names.len() / 2 {
            at(FailPoint::Leaving);
        }
    }
    sync_folder(from)?;
    Ok(true)
}

/// Settles a move that broke off: takes it back while everything is still here, and ends it otherwise. `Ok(true)` when
/// the chain is in the archive.
pub(crate) fn settle(from: &Path, to: &Path, names: &[String]) -> io::Result<bool> {
    for name in names {
        if !is_here(&from.join(name), &to.join(name))? {
            return move_all(from, to, names, &|_| {});
        }
    }
    for name in names {
        clear(&to.join(name), &from.join(name))?;
    }
    match found(fs::remove_dir(to)) {
        Ok(_) => Ok(false),
        Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Err(not_empty(to)),
        Err(e) => Err(e),
    }
}

/// Whether the whole of an entry still is here. Of a folder each file counts: without second names they move one by one.
fn is_here(from: &Path, to: &Path) -> io::Result<bool> {
    let Some(here) = lstat(from)? else { return Ok(false) };
    let Some(there) = lstat(to)? else { return Ok(true) };
    if !(here.is_dir() && there.is_dir()) {
        return Ok(same_file(&here, &there));
    }
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if !is_here(&from.join(entry.file_name()), &entry.path())? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// An archive folder that should be empty, because a move was taken back: it would be taken for that of a move that ended.
fn not_empty(archive: &Path) -> io::Error {
    let entries = fs::read_dir(archive).into_iter().flatten().flatten();
    let names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let folder = archive.file_name().unwrap_or_default().to_string_lossy();
    let names = names.join(", ");
    io::Error::other(format!(
        "the chain is whole in its folder, but its archive folder {folder} has other files in it ({names}); move them elsewhere"
    ))
}

/// A file that has its name in the archive, and what it is: as the descriptor says that was opened before it moved.
struct Kept {
    to: PathBuf,
    file: Metadata,
}

impl Kept {
    /// Fails unless the name in the archive is of that file.
    fn prove(&self) -> io::Result<()> {
        match lstat(&self.to)? {
            Some(there) if same_file(&self.file, &there) => Ok(()),
            _ => Err(io::Error::other(format!("{} is not the file that was moved there", self.to.display()))),
        }
    }
}

/// Gives a file, or each file of a folder, a second name.
fn keep(from: &Path, to: &Path, kept: &mut Vec<Kept>) -> io::Result<()> {
    let Some(meta) = lstat(from)? else { return Ok(()) };
    if meta.is_dir() {
        match fs::create_dir(to) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && fs::symlink_metadata(to)?.is_dir() => {}
            made => made?,
        }
        // As closed as before: it may hold secrets.
        std::os::unix::fs::chown(to, Some(meta.uid()), Some(meta.gid()))?;
        fs::set_permissions(to, meta.permissions())?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            keep(&entry.path(), &to.join(entry.file_name()), kept)?;
        }
        return sync_folder(to);
    }
    // Held until the new name is proven: without inodes of its own a file system numbers a file as long as it is open.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = File::from(rustix::fs::open(from, flags, Mode::empty())?);
    let file = held.metadata()?;
    match lstat(to)? {
        // By an earlier attempt; or a newer file of the same name is here, which stays.
        Some(there) if !same_file(&file, &there) => return Ok(()),
        Some(_) => {}
        None => match fs::hard_link(from, to) {
            Err(e) if knows_no_links(&e) => rename_new(from, to)?,
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            // A repeated request; or another file, which the proof finds.
            _ => {}
        },
    }
    let new = Kept { to: to.to_owned(), file };
    new.prove()?;
    kept.push(new);
    Ok(())
}

/// Takes away the first name of whatever has a second one. A newer file of the same name stays.
fn clear(from: &Path, to: &Path) -> io::Result<()> {
    let (Some(here), Some(there)) = (lstat(from)?, lstat(to)?) else { return Ok(()) };
    if here.is_dir() {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            clear(&entry.path(), &to.join(entry.file_name()))?;
        }
        return match found(fs::remove_dir(from)) {
            Err(e) if e.kind() != io::ErrorKind::DirectoryNotEmpty => Err(e),
            _ => Ok(()),
        };
    }
    // A request that is repeated finds nothing any more.
    if same_file(&here, &there) { found(fs::remove_file(from)).map(drop) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::look::chain_files::entries;
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
        let to = claim(dir.path(), jiff::civil::date(2026, 11, 22)).unwrap();
        let seen = RefCell::new(vec![]);
        let look = |step: FailPoint| {
            seen.borrow_mut().push((step, is_whole(dir.path()), is_whole(&to)));
        };
        assert!(move_all(dir.path(), &to, &names, &look).unwrap());
        let want = [
            (FailPoint::Archiving, true, false),
            (FailPoint::ArchiveComplete, true, true),
            (FailPoint::Leaving, false, true),
        ];
        assert_eq!(seen.into_inner(), want);
        assert!(is_whole(&to));
        assert_eq!(entries(dir.path()).unwrap(), Vec::<String>::new());
        assert!(dir.path().join("vda.full.data.partial").exists());
    }

    #[test]
    fn a_move_that_broke_off_is_taken_back_or_ended() {
        for (step, want) in
            [(FailPoint::Archiving, false), (FailPoint::ArchiveComplete, false), (FailPoint::Leaving, true)]
        {
            let dir = tempfile::tempdir().unwrap();
            let names = chain(dir.path());
            let to = dir.path().join("a");
            fs::create_dir(&to).unwrap();
            let dies = |at: FailPoint| assert_ne!(at, step);
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
        fs::create_dir(&to).unwrap();
        for name in &names[..2] {
            keep(&dir.path().join(name), &to.join(name), &mut vec![]).unwrap();
        }
        fs::remove_file(dir.path().join(&names[1])).unwrap();
        assert!(settle(dir.path(), &to, &names).unwrap());
        assert!(is_whole(&to));
        assert!(!move_all(dir.path(), &to, &names, &|_| {}).unwrap(), "nothing is left to move");
        // All names are here again, of other files: nothing is taken back.
        for name in NAMES {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            fs::write(dir.path().join(name), "newer").unwrap();
        }
        assert!(settle(dir.path(), &to, &names).unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("web.cpt")).unwrap(), "newer");
        assert!(is_whole(&to));
    }

    #[test]
    fn each_claim_makes_a_folder_of_its_own_and_gives_back_what_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let day = jiff::civil::date(2026, 11, 22);
        let first = claim(dir.path(), day).unwrap();
        fs::write(first.join("vda.full.data"), "older").unwrap();
        let second = claim(dir.path(), day).unwrap();
        assert_eq!(first, dir.path().join(".archives/chain-2026-11-22"));
        assert_eq!(second, dir.path().join(".archives/chain-2026-11-22.1"));
        unclaim(dir.path());
        assert!(first.exists() && !second.exists());
        fs::remove_file(first.join("vda.full.data")).unwrap();
        unclaim(dir.path());
        assert!(!dir.path().join(".archives").exists());
    }

    #[test]
    fn what_is_not_the_file_that_moved_clears_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let names = chain(dir.path());
        let to = dir.path().join("a");
        fs::create_dir(&to).unwrap();
        let exchanged = |step: FailPoint| {
            if step == FailPoint::Archiving {
                // The first name has its second one by now.
                fs::remove_file(to.join(NAMES[1])).unwrap();
                fs::write(to.join(NAMES[1]), "another").unwrap();
            }
        };
        assert!(move_all(dir.path(), &to, &names, &exchanged).is_err());
        assert!(is_whole(dir.path()));
    }

    #[test]
    fn a_folder_whose_files_have_moved_is_not_here() {
        const STATE: &str = ".tpm-state.virtnbdbackup.0/tpm2/tpm2-00.permall";
        for moved in ["checkpoints/virtnbdbackup.0.xml", STATE] {
            let dir = tempfile::tempdir().unwrap();
            let (here, to) = (dir.path(), dir.path().join("a"));
            fs::create_dir_all(here.join(STATE).parent().unwrap()).unwrap();
            fs::write(here.join(STATE), "state").unwrap();
            let names = chain(here);
            // As it is done where there are no second names; then the run died.
            fs::create_dir_all(to.join(moved).parent().unwrap()).unwrap();
            fs::rename(here.join(moved), to.join(moved)).unwrap();
            assert!(settle(here, &to, &names).unwrap(), "{moved}");
            assert!(is_whole(&to), "{moved}");
            assert_eq!(fs::read_to_string(to.join(STATE)).unwrap(), "state", "{moved}");
            assert_eq!(entries(here).unwrap(), Vec::<String>::new(), "{moved}");
        }
    }

    #[test]
    fn an_archive_folder_with_something_else_in_it_is_not_a_move_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let names = chain(dir.path());
        let to = dir.path().join("a");
        fs::create_dir(&to).unwrap();
        keep(&dir.path().join(&names[0]), &to.join(&names[0]), &mut vec![]).unwrap();
        fs::write(to.join("of-another"), "").unwrap();
        let error = settle(dir.path(), &to, &names).unwrap_err().to_string();
        assert!(error.contains("of-another"), "{error}");
        assert!(is_whole(dir.path()) && to.join("of-another").exists());
        fs::remove_file(to.join("of-another")).unwrap();
        assert!(!settle(dir.path(), &to, &names).unwrap());
        assert!(is_whole(dir.path()) && !to.exists());
    }

    #[test]
    fn a_chain_of_more_files_than_may_be_open_is_moved() {
        const LIMITED: &str = "VMBACKUP_TEST_FEW_OPEN_FILES";
        if std::env::var_os(LIMITED).is_none() {
            let name = "engine::commit::archive::tests::a_chain_of_more_files_than_may_be_open_is_moved";
            let mut again = std::process::Command::new("prlimit");
            again.arg("--nofile=64:64").arg(std::env::current_exe().unwrap()).args(["--exact", name]);
            let done = again.env(LIMITED, "1").output().unwrap();
            let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
            assert!(done.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("a");
        fs::create_dir(&to).unwrap();
        chain(dir.path());
        for point in 1..300 {
            fs::write(dir.path().join(format!("vda.inc.virtnbdbackup.{point}.data")), "").unwrap();
        }
        // An open file that loses its name keeps a hidden one on NFS, and its folder stays.
        let none_is_open = |step: FailPoint| {
            for descriptor in fs::read_dir("/proc/self/fd").unwrap().flatten() {
                let leads_to = fs::read_link(descriptor.path()).unwrap_or_default();
                assert!(!leads_to.starts_with(dir.path()), "{step}: {} is open", leads_to.display());
            }
        };
        assert!(move_all(dir.path(), &to, &entries(dir.path()).unwrap(), &none_is_open).unwrap());
        assert!(is_whole(&to));
        assert_eq!(fs::read_dir(&to).unwrap().count(), 299 + NAMES.len());
    }
}
