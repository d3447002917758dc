//! Opening the database: making it, mending it, or going on without it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::error::SchemaError;
use super::handle::Catalog;
use super::journal;
use super::rebuild;
use super::salvage;
use super::schema::{self, Prepared};
use super::stamp::utc;
use vmstore::{StateDir, durable, presence};

/// How long a writer waits for another one.
const BUSY: Duration = Duration::from_secs(15);

/// Group may read, others nothing: what the tree has everywhere.
const FILE_MODE: u32 = 0o640;

/// Ends of the names of files beside a database that hold what is not in it yet: the write-ahead log, the rollback journal.
const LOGS: [&str; 2] = ["-wal", "-journal"];

/// The same with the index of the first, which holds nothing.
const HELPERS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Tries at copying a database that somebody is writing to.
const COPY_TRIES: u32 = 5;

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Schema(#[from] SchemaError),
    /// The content is no longer a sound database.
    #[error("it is damaged: {0}")]
    Damaged(String),
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error.to_string()),
            _ => Self::Schema(error.into()),
        }
    }
}

impl Catalog {
    /// Opens `_state/vmbackup.db` below a backup path for writing; makes it where there is none.
    ///
    /// Never fails: a damaged file is moved aside and a new one made, and where that is impossible the run goes on
    /// without, which is said in the log. Call it with the session's lock held: nobody else must be mending it.
    pub fn open(backup_path: &Path, now: Timestamp) -> Self {
        let path = database_of(backup_path);
        let database = match sound(&path, Some(backup_path), now) {
            Ok(database) => Some(database),
            Err(error) => {
                tracing::warn!(
                    "The database {} cannot be used: {error}. Backups go on without",
                    path.display()
                );
                None
            }
        };
        Self::new(database, path, None)
    }

    /// Reads the database below a backup path without changing anything there, not even its helper files.
    ///
    /// What is asked is answered from a private copy, brought up to date and mended as a run would do it. What is
    /// written goes to that copy and is lost.
    pub fn peek(backup_path: &Path, now: Timestamp) -> Self {
        let path = database_of(backup_path);
        let opened = tempfile::tempdir().map_err(OpenError::from).and_then(|dir| {
            let copy = dir.path().join("vmbackup.db");
            copy_quiet(&path, &copy)?;
            Ok((sound(&copy, None, now)?, dir))
        });
        match opened {
            Ok((database, dir)) => Self::new(Some(database), path, Some(dir)),
            Err(error) => {
                tracing::warn!("The database {} cannot be read: {error}", path.display());
                Self::new(None, path, None)
            }
        }
    }

    /// No database: what is written is dropped.
    pub fn none() -> Self {
        Self::new(None, PathBuf::new(), None)
    }
}

fn database_of(backup_path: &Path) -> PathBuf {
    StateDir::of(backup_path).database()
}

/// A database that is sound, has our tables and knows what is below `backup_path`, where one is given.
fn sound(path: &Path, backup_path: Option<&Path>, now: Timestamp) -> Result<Connection, OpenError> {
    match connect(path, now).and_then(|database| filled(database, path, backup_path, now)) {
        Err(OpenError::Damaged(what)) => {
            let fresh = beside(path, ".new");
            for leftover in [""].iter().chain(&HELPERS) {
                remove(&beside(&fresh, leftover))?;
            }
            let mut database = connect(&fresh, now)?;
            let saved = salvage::save(path, &mut database)?;
            let database = filled(database, path, backup_path, now)?;
            database.close().map_err(|(_, error)| error)?;
            let aside = change_places(&fresh, path, now)?;
            tracing::warn!(
                "The database {} is damaged ({what}). It was moved to {}, and a new one made: {saved} rows of the old \
                 one could be saved. If a period was protected, see that it still is",
                path.display(),
                aside.display()
            );
            connect(path, now)
        }
        other => other,
    }
}

/// Reads the backups on disk into a database that has not done so before.
fn filled(
    mut database: Connection,
    path: &Path,
    backup_path: Option<&Path>,
    now: Timestamp,
) -> Result<Connection, OpenError> {
    let found = backup_path.map_or(Ok(None), |base| rebuild::fill(&mut database, base, now))?;
    if let Some(found) = found.filter(|found| found.chains > 0) {
        let (chains, points) = (found.chains, found.points);
        let path = path.display();
        tracing::info!(
            "The database {path} was filled from the disk: {points} restore points in {chains} chains"
        );
    }
    Ok(database)
}

fn connect(path: &Path, now: Timestamp) -> Result<Connection, OpenError> {
    make_file(path)?;
    // Never through a link in the place of the file. The way to it may have links: that is the administrator's choice.
    let folder = fs::canonicalize(path.parent().unwrap_or(path))?;
    let file = folder.join(path.file_name().unwrap_or_default());
    let mut database = match with_shared_memory(&file) {
        Err(error) if may_lack_shared_memory(&error) => without_shared_memory(&file)?,
        opened => opened?,
    };
    let verdict: String = database.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(OpenError::Damaged(verdict));
    }
    match schema::prepare(&mut database, &utc(now)) {
        Ok(Prepared::Made | Prepared::Current) => {}
        Ok(Prepared::Upgraded(from)) => tracing::info!("The database {} had version {from}", path.display()),
        Ok(Prepared::Newer(version)) => tracing::warn!(
            "The database {} has version {version}, newer than this program; its tables are used as they are",
            path.display()
        ),
        Err(SchemaError::Sql(error)) => return Err(error.into()),
        Err(error) => return Err(error.into()),
    }
    Ok(database)
}

fn bare(file: &Path) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let database = Connection::open_with_flags(file, flags)?;
    database.busy_timeout(BUSY)?;
    database.pragma_update(None, "foreign_keys", true)?;
    Ok(database)
}

/// With a write-ahead log, whose index is memory that processes share: others may read during a run, and a write waits for no
/// disk. A host that fails may take the last rows along, but leaves a sound database.
fn with_shared_memory(file: &Path) -> rusqlite::Result<Connection> {
    let database = bare(file)?;
    if !journal::is_write_ahead(&database)? {
        match journal::begin_write_ahead(&database) {
            // Somebody has been reading it in one transaction since before the run: it keeps the journal it has.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                drop(database);
                return bare(file);
            }
            begun => begun?,
        }
    }
    database.busy_timeout(BUSY)?;
    database.pragma_update(None, "synchronous", "NORMAL")?;
    looked_at(&database)?;
    Ok(database)
}

/// File systems whose files cannot be mapped by several processes (9p, some FUSE and SMB).
fn may_lack_shared_memory(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    let lacks = [ErrorCode::SystemIoFailure, ErrorCode::CannotOpen, ErrorCode::FileLockingProtocolFailed];
    code.is_some_and(|code| lacks.contains(&code))
}

/// With a rollback journal. A database that has a write-ahead log already is opened by this connection alone, which needs no
/// shared memory, until it has the other journal.
///
/// Source: SQLite, "Use of WAL Without Shared-Memory".
fn without_shared_memory(file: &Path) -> rusqlite::Result<Connection> {
    let database = bare(file)?;
    for (pragma, value) in
        [("locking_mode", "EXCLUSIVE"), ("journal_mode", "TRUNCATE"), ("locking_mode", "NORMAL")]
    {
        database.pragma_update_and_check(None, pragma, value, |_| Ok(()))?;
    }
    // The lock is given back at the next look.
    looked_at(&database)?;
    Ok(database)
}

fn looked_at(database: &Connection) -> rusqlite::Result<i64> {
    database.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get(0))
}

/// Makes the file, so that it has its mode from the beginning. SQLite gives its helper files the same.
fn make_file(path: &Path) -> io::Result<()> {
    if let Some(Err(error)) = path.parent().map(fs::create_dir) {
        if error.kind() != io::ErrorKind::AlreadyExists {
            return Err(error);
        }
    }
    match File::options().write(true).create_new(true).mode(FILE_MODE).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Puts a closed database in the place of a damaged one, and returns where that is now.
fn change_places(fresh: &Path, path: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let time = now.strftime("%Y%m%dT%H%M%SZ");
    let more = |n: u32| if n == 0 { String::new() } else { format!(".{n}") };
    let named = |n: u32| beside(path, &format!(".corrupt-{time}{}", more(n)));
    let aside = presence::first_free((0..).map(named))?.unwrap_or_else(|| named(0));
    // The logs first: beside the new database they would be taken for its own.
    for log in LOGS {
        let from = beside(path, log);
        if presence::found(fs::metadata(&from))?.is_some_and(|about| about.len() > 0) {
            durable::rename_over(&from, &beside(&aside, log))?;
        }
    }
    for helper in HELPERS {
        remove(&beside(path, helper))?;
    }
    // A second name, so that there is a database at every instant; a rename where there are no such names.
    fs::hard_link(path, &aside).or_else(|_| durable::rename_over(path, &aside))?;
    durable::rename_over(fresh, path)?;
    durable::sync_folder_of(path)?;
    Ok(aside)
}

/// Removes a file. None there is as good.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(more);
    name.into()
}

/// Copies a database and its logs, all as they were at one moment. No database is an empty one.
fn copy_quiet(from: &Path, to: &Path) -> io::Result<()> {
    for _ in 0..COPY_TRIES {
        let before = looks(from);
        for helper in [""].iter().chain(&LOGS) {
            match fs::copy(beside(from, helper), beside(to, helper)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    File::create(beside(to, helper))?;
                }
                other => {
                    other?;
                }
            }
        }
        if looks(from) == before {
            return Ok(());
        }
    }
    Err(io::Error::other("it is being written all the time; try again later"))
}

/// What tells whether somebody has written: size and time of each file.
fn looks(path: &Path) -> [Option<(u64, std::time::SystemTime)>; 3] {
    ["", LOGS[0], LOGS[1]].map(|helper| {
        let about = fs::metadata(beside(path, helper)).ok()?;
        Some((about.len(), about.modified().ok()?))
    })
}
