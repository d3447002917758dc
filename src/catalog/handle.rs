//! The database of a run, shared by its threads.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use tempfile::TempDir;

use super::error::CatalogError;
use super::journal;

/// How long another one is waited for once one was waited for in vain.
const BUSY_AGAIN: Duration = Duration::from_millis(200);

/// The database, or its absence. May be used by several threads at once.
#[derive(Debug)]
pub struct Catalog {
    database: Mutex<Option<Connection>>,
    path: PathBuf,
    warned: AtomicBool,
    /// Holds the copy that is read, where the database itself must not be touched. Goes after the connection.
    _copy: Option<TempDir>,
}

impl Catalog {
    pub(super) fn new(database: Option<Connection>, path: PathBuf, copy: Option<TempDir>) -> Self {
        let warned = AtomicBool::new(false);
        Self { database: Mutex::new(database), path, warned, _copy: copy }
    }

    /// Folds the write-ahead log into the file: those who may read the file and not write beside it can ask it then. Not while
    /// somebody else has it open; the next session does it.
    fn fold(&mut self) {
        let database = self.database.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = database.take().filter(|_| self._copy.is_none()) else { return };
        let fold = || match journal::is_write_ahead(&database)? {
            true => journal::end_write_ahead(&database),
            false => Ok(()),
        };
        let folded = database.busy_timeout(journal::CHANGE_LIMIT).and_then(|()| fold());
        if let Err(error) = folded {
            tracing::debug!("The database {} keeps its write-ahead log: {error}", self.path.display());
        }
    }

    /// False when this run goes on without a database.
    pub fn is_available(&self) -> bool {
        self.lock().is_some()
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self) -> MutexGuard<'_, Option<Connection>> {
        // A thread that panicked in here left no transaction: it was rolled back on its way out.
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes, all or nothing. The first failure of a run is a warning, those after it are its echo.
    pub(super) fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Option<T> {
        let mut database = self.lock();
        let database = database.as_mut()?;
        let done = in_transaction(database, work);
        if let Err(error) = &done {
            if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) {
                // Whoever reads for so long does not end soon: each row would wait once more.
                let _ = database.busy_timeout(BUSY_AGAIN);
            }
            self.tell(error);
        }
        done.ok()
    }

    fn tell(&self, error: &rusqlite::Error) {
        let path = self.path.display();
        if self.warned.swap(true, Ordering::Relaxed) {
            tracing::debug!("The database {path} cannot be written: {error}");
        } else {
            tracing::warn!(
                "The database {path} cannot be written: {error}. Backups go on; what they do is missing there until the next session \
                 writes it from _state/report"
            );
        }
    }

    /// Asks.
    pub(super) fn read<T>(
        &self,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        let database = self.lock();
        Ok(ask(database.as_ref().ok_or(CatalogError::Unavailable)?)?)
    }
}

impl Drop for Catalog {
    fn drop(&mut self) {
        self.fold();
    }
}

/// Runs `work` in a transaction that is ours to write from its beginning: it cannot fail half-way because of another
/// writer, and waits for one at its start.
pub(super) fn in_transaction<T>(
    database: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = work(&transaction)?;
    transaction.commit()?;
    Ok(done)
}
