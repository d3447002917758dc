//! The journal of the database: a write-ahead log while a run is on, a rollback journal between runs, for those who may read the
//! file and not write beside it cannot ask a database with a write-ahead log.
//!
//! Which one it is stands in the first sector of the file, and nothing else changes with it. So the change needs no journal of
//! its own on disk, as SQLite would make by default: that is half of what a run waits for a rotating disk because of its database.

use std::time::Duration;

use rusqlite::Connection;

/// How long somebody who reads is waited for: without the change a run goes on all the same.
pub(super) const CHANGE_LIMIT: Duration = Duration::from_millis(500);

/// Whether the database has a write-ahead log.
pub(super) fn is_write_ahead(database: &Connection) -> rusqlite::Result<bool> {
    let mode: String = database.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    Ok(mode.eq_ignore_ascii_case("wal"))
}

/// Gives it a write-ahead log. Nothing waits for the disk: a change that is lost with the host leaves a log that is empty.
///
/// # Errors
/// Also while somebody reads in one transaction. The connection is of no use then: it took nothing back.
pub(super) fn begin_write_ahead(database: &Connection) -> rusqlite::Result<()> {
    database.busy_timeout(CHANGE_LIMIT)?;
    database.pragma_update(None, "synchronous", "OFF")?;
    set(database, "OFF")?;
    set(database, "WAL")
}

/// Puts all of the write-ahead log into the file, on disk, and gives it a rollback journal. Fails while somebody else has it open.
pub(super) fn end_write_ahead(database: &Connection) -> rusqlite::Result<()> {
    // From the next transaction on nobody else is let in: whatever they wrote would be folded without a sync.
    database.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
    database.execute_batch("BEGIN IMMEDIATE; COMMIT")?;
    let is_whole = database.query_row("PRAGMA wal_checkpoint", [], |row| {
        let (busy, frames, folded): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(busy == 0 && frames == folded)
    })?;
    if is_whole {
        database.pragma_update(None, "synchronous", "OFF")?;
    }
    set(database, "MEMORY")
}

fn set(database: &Connection, mode: &str) -> rusqlite::Result<()> {
    database.pragma_update_and_check(None, "journal_mode", mode, |_| Ok(()))
}
