//! Rows of `sessions`: one for each run, ended whatever happens.

use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{OptionalExtension, Transaction, params};

use super::handle::Catalog;
use super::stamp::{SessionId, Stamp, utc};
use vmreport::{SessionKind, SessionStatus};

/// A session that begins.
#[derive(Clone, Copy, Debug)]
pub struct NewSession<'a> {
    /// The name of the configuration.
    pub instance: &'a str,
    pub kind: SessionKind,
    pub log_file: &'a Path,
    pub at: Timestamp,
}

/// A session's row. Ends as failed when it is dropped, or as what [`signalled`](Self::signalled) was told.
#[derive(Debug)]
pub struct SessionRow<'a> {
    catalog: &'a Catalog,
    id: Option<SessionId>,
    began: Timestamp,
    since: Instant,
    signal: AtomicI32,
}

impl Catalog {
    /// Writes the row of a session that begins, and ends the rows of sessions that died before.
    ///
    /// Call it with the session's lock held: whatever is still `running` has no process then.
    pub fn begin_session(&self, new: &NewSession<'_>) -> SessionRow<'_> {
        let id = self.write(|transaction| {
            end_dead(transaction)?;
            insert(transaction, new)
        });
        let signal = AtomicI32::new(0);
        SessionRow { catalog: self, id, began: new.at, since: Instant::now(), signal }
    }
}

impl SessionRow<'_> {
    /// Its number. `None` when there is no database.
    pub fn id(&self) -> Option<SessionId> {
        self.id
    }

    /// Who writes, for rows of this session.
    pub fn stamp(&self, at: Timestamp) -> Stamp {
        Stamp { session: self.id, at }
    }

    /// Says that a signal stops the session: a row that is dropped ends as interrupted or killed.
    pub fn signalled(&self, number: i32) {
        self.signal.store(number, Ordering::Relaxed);
    }

    /// Ends it. Counts and bytes are those of the VMs' rows.
    pub fn end(mut self, status: SessionStatus, at: Timestamp) {
        self.finish(status, at);
    }

    fn finish(&mut self, status: SessionStatus, at: Timestamp) {
        if let Some(id) = self.id.take() {
            self.catalog.write(|transaction| end(transaction, id, status, &utc(at)));
        }
    }
}

impl Drop for SessionRow<'_> {
    fn drop(&mut self) {
        let status = match self.signal.load(Ordering::Relaxed) {
            0 => SessionStatus::Failed,
            number => SessionStatus::of_signal(number),
        };
        let took = SignedDuration::try_from(self.since.elapsed()).unwrap_or_default();
        self.finish(status, self.began.saturating_add(took).unwrap_or(self.began));
    }
}

pub(super) fn insert(transaction: &Transaction<'_>, new: &NewSession<'_>) -> rusqlite::Result<SessionId> {
    let taken = "SELECT 1 FROM sessions WHERE id = ?1";
    let mut id = new.at.as_second();
    // Down, never up: the Bash program numbers its sessions by the second, and loses all rows of one whose second is taken.
    while transaction.query_row(taken, [id], |_| Ok(())).optional()?.is_some() {
        id -= 1;
    }
    transaction.execute(
        "INSERT INTO sessions (id, instance, start_time, status, log_file, session_type)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            id,
            new.instance,
            utc(new.at),
            SessionStatus::Running.word(),
            new.log_file.to_string_lossy(),
            new.kind.word()
        ],
    )?;
    Ok(SessionId(id))
}

pub(super) fn end(
    transaction: &Transaction<'_>,
    id: SessionId,
    status: SessionStatus,
    at: &str,
) -> rusqlite::Result<usize> {
    transaction.execute(
        "UPDATE sessions SET status = ?2, end_time = ?3,
             duration_sec = MAX(0, strftime('%s', ?3) - strftime('%s', start_time)),
             vms_total = n.total, vms_success = n.success, vms_failed = n.failed,
             vms_skipped = n.skipped, vms_excluded = n.excluded, bytes_total = n.bytes
         FROM (SELECT COUNT(*) AS total,
                      COUNT(*) FILTER (WHERE status = 'success') AS success,
                      COUNT(*) FILTER (WHERE status = 'failed') AS failed,
                      COUNT(*) FILTER (WHERE status = 'skipped') AS skipped,
                      COUNT(*) FILTER (WHERE status = 'excluded') AS excluded,
                      COALESCE(SUM(bytes_written), 0) AS bytes
               FROM vm_backups WHERE session_id = ?1) AS n
         WHERE id = ?1",
        params![id, status.word(), at],
    )
}

/// Ends sessions whose process is gone, at the time of the last thing known of them.
fn end_dead(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut ask = transaction.prepare(
        "SELECT id, COALESCE((SELECT MAX(created_at) FROM vm_backups WHERE session_id = sessions.id), start_time)
         FROM sessions WHERE status = 'running'",
    )?;
    let dead: Vec<(i64, String)> =
        ask.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    for (id, last) in dead {
        end(transaction, SessionId(id), SessionStatus::Interrupted, &last)?;
    }
    Ok(())
}
