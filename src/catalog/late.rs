//! Rows of sessions that are over and could not be written while they went on: somebody was reading the database in one
//! transaction since before, or the host failed before they were on disk.
//!
//! Must not live here: where they are known from (`session::late_rows`).

use jiff::Timestamp;
use rusqlite::params;

use super::error::CatalogError;
use super::handle::Catalog;
use super::rebuild;
use super::session::{NewSession, end, insert};
use super::stamp::{SessionId, parse_utc, utc};
use vmreport::SessionStatus;

/// In `schema_info`: when the last session began whose rows are known to be there.
const READ: &str = "session_reports_read";

impl Catalog {
    /// The rows of sessions that began later than this may be missing: up to then all are there, or were made from the disk.
    ///
    /// # Errors
    /// [`CatalogError`]
    pub fn complete_until(&self) -> Result<Option<Timestamp>, CatalogError> {
        let ask = "SELECT MAX(value) FROM schema_info WHERE key IN (?1, ?2)";
        self.read(|database| {
            let text: Option<String> = database.query_row(ask, [READ, rebuild::DONE], |row| row.get(0))?;
            Ok(text.as_deref().and_then(parse_utc))
        })
    }

    /// Notes that the rows of all sessions are there that began until then.
    pub fn set_complete_until(&self, began: Timestamp) {
        let put =
            "INSERT INTO schema_info (key, value) VALUES (?1, ?2) ON CONFLICT(key) DO UPDATE SET value = ?2";
        self.write(|transaction| transaction.execute(put, [READ, &utc(began)]));
    }

    /// The row of a session, and how it stands there. `id` is its number, if it had one; without one its row is that of its second,
    /// if that is of none of the `others`.
    ///
    /// # Errors
    /// [`CatalogError`]
    pub fn session_row(
        &self,
        id: Option<SessionId>,
        new: &NewSession<'_>,
        others: &[SessionId],
    ) -> Result<Option<(SessionId, Option<SessionStatus>)>, CatalogError> {
        // A session that could not begin its row has no number.
        let ask = "SELECT id, status FROM sessions
            WHERE log_file = ?1 AND (id = ?2 OR (?2 IS NULL AND start_time = ?3)) ORDER BY id DESC";
        self.read(|database| {
            let row = |row: &rusqlite::Row<'_>| {
                let status: Option<String> = row.get(1)?;
                Ok((SessionId(row.get(0)?), status.as_deref().and_then(SessionStatus::of_word)))
            };
            let mut found = database.prepare(ask)?;
            let mut rows = found.query_map(params![new.log_file.to_string_lossy(), id, utc(new.at)], row)?;
            let is_its = |(found, _): &(SessionId, _)| id == Some(*found) || !others.contains(found);
            rows.find(|row| row.as_ref().map_or(true, is_its)).transpose()
        })
    }

    /// Whether a session has a row for a VM.
    ///
    /// # Errors
    /// [`CatalogError`]
    pub fn has_backup(&self, session: SessionId, vm: &str) -> Result<bool, CatalogError> {
        let ask = "SELECT EXISTS (SELECT 1 FROM vm_backups WHERE session_id = ?1 AND vm_name = ?2)";
        self.read(|database| database.query_row(ask, params![session, vm], |row| row.get(0)))
    }

    /// Writes the row of a session that is over. `None` when that fails.
    pub fn late_session(&self, new: &NewSession<'_>) -> Option<SessionId> {
        self.write(|transaction| insert(transaction, new))
    }

    /// Ends the row of a session that is over. Counts and bytes are those of the VMs' rows.
    pub fn end_late_session(&self, id: SessionId, status: SessionStatus, at: Timestamp) {
        self.write(|transaction| end(transaction, id, status, &utc(at)));
    }
}
