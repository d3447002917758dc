//! Questions to the database: when a VM last succeeded, which periods are protected or replicated, past errors.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};

use super::error::CatalogError;
use super::handle::Catalog;
use super::stamp::parse_utc;
use super::vm_backup::{BackupType, VmStatus};
use vmconfig::value::{RotationPolicy, Value};

/// The last backup of a VM that ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastSuccess {
    /// The policy then. `None` for a word we do not know.
    pub policy: Option<RotationPolicy>,
    /// When it ended. `None` where the row does not say it in the database's form.
    pub at: Option<Timestamp>,
    pub path: PathBuf,
}

/// What the last backups of a VM took, on average.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    pub took: Duration,
    /// How much was written.
    pub bytes: u64,
}

/// A failure of the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastError {
    pub vm: String,
    pub at: Option<Timestamp>,
    /// The code for programs, or empty.
    pub code: String,
    /// The message for people.
    pub message: String,
}

/// The newest run that came to a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastRun {
    pub status: VmStatus,
    /// The word for what was taken, or empty.
    pub backup_type: String,
    /// When it ended.
    pub at: Option<Timestamp>,
}

/// Tries that failed, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    pub count: u64,
    /// The message of the last, for people.
    pub last: Option<String>,
}

/// A VM's name and one of its periods.
pub type VmPeriod = (String, String);

/// How many backups make up a VM's history.
const HISTORY: u32 = 5;

impl Catalog {
    /// The last backup of a VM that ended well; of a database made anew from the disk, the newest chain's.
    ///
    /// # Errors
    /// [`CatalogError`]
    pub fn last_success(&self, vm: &str) -> Result<Option<LastSuccess>, CatalogError> {
        // The plus signs keep SQLite to the index on the name.
        let from_rows = "SELECT rotation_policy, created_at, backup_path FROM vm_backups
            WHERE vm_name = ?1 AND +status = 'success' ORDER BY id DESC LIMIT 1";
        let from_chains = "SELECT rotation_policy, last_backup, chain_location FROM chain_health
            WHERE vm_name = ?1 AND last_backup IS NOT NULL AND +chain_status IN ('active', 'broken')
            ORDER BY last_backup DESC LIMIT 1";
        let one = |row: &Row<'_>| {
            let path: Option<String> = row.get(2)?;
            let (policy, path) = (policy(row, 0)?, path.unwrap_or_default().into());
            Ok(LastSuccess { policy, at: time(row, 1)?, path })
        };
        self.read(|database| {
            let found = database.prepare_cached(from_rows)?.query_row([vm], one).optional()?;
            match found {
                None => database.prepare_cached(from_chains)?.query_row([vm], one).optional(),
                found => Ok(found),
            }
        })
    }

    /// The newest run that came to a VM, as far as it has a status that we know.
    ///
    /// # Errors
    /// [`CatalogError`]
    pub fn last_run(&self, vm: &str) -> Result<Option<PastRun>, CatalogError> {
        let sql = "SELECT status, backup_type, created_at FROM vm_backups WHERE vm_name = ?1 ORDER BY id DESC LIMIT 1";
        self.read(|database| {
            let run = database.prepare_cached(sql)?.query_row([vm], |row| {
                let status: String = row.get(0)?;
                let backup_type = row.get::<_, Option<String>>(1)?.unwrap_or_default();
                let at = time(row, 2)?;
                Ok(VmStatus::of_word(&status).map(|status| PastRun { status, backup_type, at }))
            });
            Ok(run.optional()?.flatten())
        })
    }

    /// The tries of a VM that failed since a backup ended well, or was not needed.
    ///
    /// # Errors
    /// [`CatalogError`]
    pub fn failures_since_success(&self, vm: &str) -> Result<Failures, CatalogError> {
        let sql = "SELECT error_message FROM vm_backups
            WHERE vm_name = ?1 AND +status = 'failed' AND id > (
                SELECT COALESCE(MAX(id), 0) FROM vm_backups
                WHERE vm_name = ?1 AND (+status = 'success' OR (+status = 'skipped' AND backup_type = ?2)))
            ORDER BY id DESC";
        self.read(|database| {
            let mut ask = database.prepare_cached(sql)?;
            let mut rows = ask.query((vm, BackupType::Unchanged))?;
            let mut failures = Failures::default();
            while let Some(row) = rows.next()? {
                let message: Option<String> = row.get(0)?;
                if failures.count == 0 {
                    failures.last = Some(message.unwrap_or_default());
                }
                failures.count += 1;
            }
            Ok(failures)
        })
    }

    /// What the last backups of a VM took. `None` when there was none.
    ///
    /// # Errors
    /// [`CatalogError`]
    pub fn history(&self, vm: &str) -> Result<Option<History>, CatalogError> {
        let sql = "SELECT AVG(duration_sec), AVG(bytes_written) FROM
            (SELECT duration_sec, bytes_written FROM vm_backups
             WHERE vm_name = ?1 AND +status = 'success' ORDER BY id DESC LIMIT ?2)";
        self.read(|database| {
            database.prepare_cached(sql)?.query_row((vm, HISTORY), |row| {
                let (took, bytes): (Option<f64>, Option<f64>) = (row.get(0)?, row.get(1)?);
                let took = took.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                Ok(took.map(|took| History { took, bytes: bytes.unwrap_or(0.0) as u64 }))
            })
        })
    }

    /// When the newest backup of a VM into a period ended well. The period is the last part of the path, exactly.
    ///
    /// # Errors
    /// [`CatalogError`]
    pub fn newest_success(&self, vm: &str, period: &str) -> Result<Option<Timestamp>, CatalogError> {
        let sql = "SELECT backup_path, MAX(created_at) FROM vm_backups
            WHERE vm_name = ?1 AND +status = 'success' GROUP BY backup_path";
        self.read(|database| {
            let mut ask = database.prepare_cached(sql)?;
            let rows = ask.query_map([vm], |row| Ok((row.get::<_, Option<String>>(0)?, time(row, 1)?)))?;
            let mut newest = None;
            for row in rows {
                let (path, at) = row?;
                if path.is_some_and(|path| ends_in(&path, period)) {
                    newest = newest.max(at);
                }
            }
            Ok(newest)
        })
    }

    /// The value of a setting when it was last read for a session.
    ///
    /// # Errors
    /// [`CatalogError`]
    pub fn last_setting(&self, name: &str) -> Result<Option<String>, CatalogError> {
        let sql = "SELECT setting_value FROM config_events
            WHERE setting_name = ?1 AND event_type = 'config_loaded' ORDER BY id DESC LIMIT 1";
        self.read(|database| database.prepare_cached(sql)?.query_row([name], |row| row.get(0)).optional())
    }

    /// Writes a sound copy of the database as of now to a path where there is no file yet. Others may go on writing.
    ///
    /// # Errors
    /// [`CatalogError`]: what is there then is no copy.
    pub fn copy_to(&self, path: &Path) -> Result<(), CatalogError> {
        self.read(|database| database.execute("VACUUM INTO ?1", [path.to_string_lossy()]).map(drop))
    }

    /// The periods that somebody protected (`purge_eligible = 0`): those are not deleted.
    ///
    /// # Errors
    /// [`CatalogError`]: then it is not known, and nothing may be deleted.
    pub fn protected(&self) -> Result<BTreeSet<VmPeriod>, CatalogError> {
        let sql = "SELECT vm_name, period_id FROM chain_health WHERE purge_eligible = 0";
        self.read(|database| {
            let mut ask = database.prepare_cached(sql)?;
            let rows = ask.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        })
    }

    /// The periods that have been replicated well, to any place. `None` when no replication ever went well.
    ///
    /// # Errors
    /// [`CatalogError`]: then it is not known.
    pub fn replicated(&self) -> Result<Option<BTreeSet<VmPeriod>>, CatalogError> {
        let sql = "SELECT DISTINCT r.vm_name, b.backup_path, b.rotation_policy FROM replication_vms r
            JOIN replication_runs n ON n.id = r.run_id
            JOIN vm_backups b ON b.session_id = n.session_id AND b.vm_name = r.vm_name
            WHERE r.status = 'success' AND b.status = 'success'";
        self.read(|database| {
            if !ever_replicated(database)? {
                return Ok(None);
            }
            let mut ask = database.prepare_cached(sql)?;
            let rows = ask.query_map([], |row| {
                let (vm, path): (String, Option<String>) = (row.get(0)?, row.get(1)?);
                let accumulates = policy(row, 2)? == Some(RotationPolicy::Accumulate);
                let period = if accumulates { Some("accumulate") } else { last_part(path.as_deref()) };
                Ok(period.map(|period| (vm, period.to_owned())))
            })?;
            let found: rusqlite::Result<Vec<Option<VmPeriod>>> = rows.collect();
            Ok(Some(found?.into_iter().flatten().collect()))
        })
    }

    /// What failed lately, of one VM or of all, newest first.
    ///
    /// # Errors
    /// [`CatalogError`]
    pub fn errors(&self, vm: Option<&str>, at_most: u32) -> Result<Vec<PastError>, CatalogError> {
        let sql = "SELECT vm_name, created_at, error_code, error_message FROM vm_backups
            WHERE status = 'failed' AND (?1 IS NULL OR vm_name = ?1) ORDER BY id DESC LIMIT ?2";
        self.read(|database| {
            let mut ask = database.prepare_cached(sql)?;
            let rows = ask.query_map((vm, at_most), |row| {
                let text =
                    |at| Ok::<_, rusqlite::Error>(row.get::<_, Option<String>>(at)?.unwrap_or_default());
                Ok(PastError { vm: row.get(0)?, at: time(row, 1)?, code: text(2)?, message: text(3)? })
            })?;
            rows.collect()
        })
    }
}

fn ever_replicated(database: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM replication_runs WHERE status = 'success')";
    database.query_row(sql, [], |row| row.get(0))
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    let text: Option<String> = row.get(column)?;
    Ok(text.as_deref().and_then(parse_utc))
}

fn policy(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<RotationPolicy>> {
    let word: Option<String> = row.get(column)?;
    Ok(word.as_deref().and_then(RotationPolicy::parse))
}

fn last_part(path: Option<&str>) -> Option<&str> {
    Path::new(path?).file_name()?.to_str()
}

fn ends_in(path: &str, name: &str) -> bool {
    last_part(Some(path)) == Some(name)
}
