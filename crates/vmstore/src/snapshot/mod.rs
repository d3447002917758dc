//! Copies of the state folder, one a day, to go back to when the database was spoilt: `backups/state-YYYYMMDD.tar.gz`.
//!
//! Not in them: what tells of a program that runs (locks, journals, flags), whose tree it is, and older copies. Bringing one
//! back must not undo a run that ended long ago, nor make one tree of two.

mod pack;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use rustix::fs::FileType;
use vmstream::durable;

use crate::StateDir;
use crate::remove::Folder;
use pack::Packed;

pub use pack::answer;

/// What a copy is made in. Nobody else uses names that begin so.
const UNFINISHED: &str = ".state-";

/// Entries of the state folder that tell of now.
const OF_NOW: [&str; 7] =
    ["root.json", "backups", "locks", "journal", "temp", "vmbackup.pid", "cancel-replication"];

/// The database's name. Its helper files and damaged ones that were put aside begin so too.
const DATABASE: &str = "vmbackup.db";

/// A copy could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A file or folder.
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    #[error("the database cannot be copied: {0}")]
    Database(String),
    /// It cannot be packed.
    #[error("it cannot be packed: {0}")]
    Pack(String),
}

/// Makes the copy of a day, unless there is one, and returns where it is. It appears whole or not at all.
///
/// `copy_database` writes a copy of the database, as of one moment, to a path. Call it with the session's lock held.
pub fn take<E: ToString>(
    state: &StateDir,
    day: Date,
    copy_database: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<Option<PathBuf>, SnapshotError> {
    take_by(state, day, copy_database, pack::pack_apart)
}

/// `pack` is how it is packed: tests are no program that can be told to.
fn take_by<E: ToString>(
    state: &StateDir,
    day: Date,
    copy_database: impl FnOnce(&Path) -> Result<(), E>,
    pack: impl FnOnce(&Path, &[Packed]) -> Result<(), String>,
) -> Result<Option<PathBuf>, SnapshotError> {
    let failed = |path: &Path, source| SnapshotError::Io { path: path.to_owned(), source };
    let folder = state.create("backups").map_err(|e| failed(&state.path().join("backups"), e))?;
    let copy = folder.join(day.strftime("state-%Y%m%d.tar.gz").to_string());
    if fs::symlink_metadata(&copy).is_ok() {
        return Ok(None);
    }
    remove_unfinished(&folder).map_err(|e| failed(&folder, e))?;
    let work = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&folder);
    let work = work.map_err(|e| failed(&folder, e))?;
    copy_database(&work.path().join(DATABASE)).map_err(|e| SnapshotError::Database(e.to_string()))?;
    let packed = work.path().join("packed");
    pack(&packed, &entries(state, work.path())?).map_err(SnapshotError::Pack)?;
    let put = File::open(&packed).and_then(|file| durable::put(&file, &packed, &copy));
    put.map_err(|e| failed(&copy, e))?;
    Ok(Some(copy))
}

/// What a copy holds: the database from `work`, and what else of the state folder lasts.
fn entries(state: &StateDir, work: &Path) -> Result<Vec<Packed>, SnapshotError> {
    let failed = |source| SnapshotError::Io { path: state.path().to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(state.path()).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let text = name.to_string_lossy();
        if !OF_NOW.contains(&text.as_ref()) && !text.starts_with(DATABASE) {
            names.push(PathBuf::from(name));
        }
    }
    names.sort();
    let database = Packed { folder: work.to_owned(), name: DATABASE.into() };
    let others = names.into_iter().map(|name| Packed { folder: state.path().to_owned(), name });
    Ok([database].into_iter().chain(others).collect())
}

/// Removes what a run left that died while it made a copy.
fn remove_unfinished(folder: &Path) -> io::Result<()> {
    let folder = Folder::open(folder)?;
    for entry in folder.entries()? {
        if entry.name.to_string_lossy().starts_with(UNFINISHED) && entry.kind == FileType::Directory {
            folder.remove(&entry.name)?;
        }
    }
    Ok(())
}

/// Removes copies of days more than `keep_days` before `today`. Returns how many went, and what could not.
pub fn remove_old(state: &StateDir, keep_days: u32, today: Date) -> (usize, Vec<String>) {
    let (mut removed, mut failed) = (0, Vec::new());
    for entry in fs::read_dir(state.path().join("backups")).into_iter().flatten().flatten() {
        let day = entry.file_name().to_str().and_then(day_of);
        let is_old = day.is_some_and(|day| i64::from((today - day).get_days()) > i64::from(keep_days));
        if !is_old || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        match fs::remove_file(entry.path()) {
            Ok(()) => removed += 1,
            Err(error) => failed.push(format!("{}: {error}", entry.path().display())),
        }
    }
    (removed, failed)
}

/// The day of `state-YYYYMMDD.tar.gz`.
fn day_of(name: &str) -> Option<Date> {
    let digits = name.strip_prefix("state-")?.strip_suffix(".tar.gz")?;
    let is_day = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_day.then(|| Date::strptime("%Y%m%d", digits).ok())?
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use jiff::civil::date;

    use super::*;

    const TODAY: Date = date(2026, 11, 23);

    fn state_with(files: &[&str]) -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::of(dir.path());
        for file in files {
            let path = state.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        (dir, state)
    }

    fn take<E: ToString>(
        state: &StateDir,
        day: Date,
        copy_database: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Option<PathBuf>, SnapshotError> {
        take_by(state, day, copy_database, |to, entries| pack::pack(to, entries).map_err(|e| e.to_string()))
    }

    fn names(archive: &Path) -> Vec<String> {
        let output = Command::new("tar").arg("tzf").arg(archive).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter(|name| !name.ends_with('/')).map(str::to_owned).collect()
    }

    #[test]
    fn a_copy_holds_what_lasts_and_the_database_as_it_is_given() {
        let (_dir, state) = state_with(&[
            "vmbackup.db",
            "vmbackup.db-wal",
            "vmbackup.db.corrupt-1",
            "root.json",
            "vmbackup.pid",
            "cancel-replication",
            "logs/vmbackup.log",
            "locks/vmbackup-x.lock",
            "journal/x.json",
            "temp/vmbackup-recovery-x.flag",
            "backups/state-20261122.tar.gz",
            "backups/.state-dead/vmbackup.db",
            "email/-odd name",
            "local_replication_state.txt",
        ]);
        let copied = |to: &Path| fs::write(to, "the copy");
        let copy = take(&state, TODAY, copied).unwrap().unwrap();
        assert_eq!(copy, state.path().join("backups/state-20261123.tar.gz"));
        let want =
            ["./vmbackup.db", "./email/-odd name", "./local_replication_state.txt", "./logs/vmbackup.log"];
        assert_eq!(names(&copy), want);
        let database = Command::new("tar").arg("xzOf").arg(&copy).arg("./vmbackup.db").output().unwrap();
        assert_eq!(database.stdout, b"the copy");
        let left = fs::read_dir(state.path().join("backups")).unwrap().count();
        assert_eq!(left, 2, "nothing unfinished stays");
        let nobody_asks = |_: &Path| Err("asked again");
        assert!(take(&state, TODAY, nobody_asks).unwrap().is_none(), "one a day");
    }

    #[test]
    fn a_database_with_nothing_beside_it_is_copied() {
        // Logs are elsewhere.
        let (_dir, state) = state_with(&["vmbackup.db", "root.json"]);
        let copy = take(&state, TODAY, |to: &Path| fs::write(to, "the copy")).unwrap().unwrap();
        assert_eq!(names(&copy), ["./vmbackup.db"]);
    }

    #[test]
    fn what_fails_leaves_nothing() {
        let (_dir, state) = state_with(&["logs/vmbackup.log"]);
        let refused = take(&state, TODAY, |_| Err("no database")).unwrap_err();
        assert_eq!(refused.to_string(), "the database cannot be copied: no database");
        // Nothing copied it.
        let refused = take(&state, TODAY, |_| Ok::<(), String>(())).unwrap_err().to_string();
        let words = ["it cannot be packed: ", "/vmbackup.db: ", "not found"];
        assert!(words.iter().all(|word| refused.contains(word)), "{refused}");
        assert_eq!(fs::read_dir(state.path().join("backups")).unwrap().count(), 0);
    }

    #[test]
    fn copies_go_by_the_day_in_their_name() {
        let files = [
            ("state-20261113.tar.gz", false),
            ("state-20261112.tar.gz", true),
            ("state-20270101.tar.gz", false),
            ("state-20269999.tar.gz", false),
            ("state-2026111.tar.gz", false),
            ("notes-20200101.tar.gz", false),
        ];
        let paths: Vec<String> = files.iter().map(|(name, _)| format!("backups/{name}")).collect();
        let (_dir, state) = state_with(&paths.iter().map(String::as_str).collect::<Vec<_>>());
        fs::create_dir(state.path().join("backups/state-20200101.tar.gz")).unwrap();
        assert_eq!(remove_old(&state, 10, TODAY), (1, vec![]));
        for (name, goes) in files {
            assert_eq!(!state.path().join("backups").join(name).exists(), goes, "{name}");
        }
        assert!(state.path().join("backups/state-20200101.tar.gz").is_dir());
    }
}
