//! The tables: those of the Bash version at its schema 2.0, and ours.
//!
//! An older database becomes a 2.0 one by adding what it lacks, whatever its version: every step the Bash version took
//! since 1.0 only added tables and columns, but for one column that nobody reads and that stays. A database of a
//! newer version is not changed.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::error::SchemaError;

/// Tables, columns and indexes are as this version of the Bash program has them.
pub(super) const VERSION: (u32, u32) = (2, 0);

/// Version of our own tables, kept beside theirs in `schema_info`.
const OWN_VERSION: &str = "1";

/// A table: columns in order, then what stands behind them.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [(&'static str, &'static str)],
    tail: &'static str,
}

const ID: (&str, &str) = ("id", "INTEGER PRIMARY KEY AUTOINCREMENT");
const OF_SESSION: (&str, &str) = ("session_id", "INTEGER NOT NULL REFERENCES sessions(id)");
const IN_SESSION: (&str, &str) = ("session_id", "INTEGER REFERENCES sessions(id)");
const TIMESTAMP: (&str, &str) = ("timestamp", "TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP");
const NOW: &str = "TEXT DEFAULT CURRENT_TIMESTAMP";
const TEXT: &str = "TEXT";
const SOME_TEXT: &str = "TEXT NOT NULL";
const INTEGER: &str = "INTEGER";
const ZERO: &str = "INTEGER DEFAULT 0";
const ONE: &str = "INTEGER DEFAULT 1";

/// Every table, those that others refer to first.
pub(super) const TABLES: &[Table] = &[
    Table { name: "schema_info", columns: &[("key", "TEXT PRIMARY KEY"), ("value", TEXT)], tail: "" },
    Table {
        name: "sessions",
        columns: &[
            ("id", "INTEGER PRIMARY KEY"),
            ("instance", SOME_TEXT),
            ("start_time", SOME_TEXT),
            ("end_time", TEXT),
            ("duration_sec", INTEGER),
            ("vms_total", ZERO),
            ("vms_success", ZERO),
            ("vms_failed", ZERO),
            ("vms_skipped", ZERO),
            ("vms_excluded", ZERO),
            ("bytes_total", ZERO),
            ("status", "TEXT DEFAULT 'running'"),
            ("log_file", TEXT),
            ("session_type", TEXT),
        ],
        tail: "",
    },
    Table {
        name: "vm_backups",
        columns: &[
            ID,
            OF_SESSION,
            ("vm_name", SOME_TEXT),
            ("vm_status", TEXT),
            ("os_type", TEXT),
            ("backup_type", TEXT),
            ("backup_method", TEXT),
            ("rotation_policy", TEXT),
            ("status", TEXT),
            ("bytes_written", ZERO),
            ("chain_size_bytes", ZERO),
            ("total_dir_bytes", ZERO),
            ("restore_points", ZERO),
            ("restore_points_before", ZERO),
            ("duration_sec", INTEGER),
            ("backup_path", TEXT),
            ("log_file", TEXT),
            ("error_code", TEXT),
            ("error_message", TEXT),
            ("event_type", TEXT),
            ("event_detail", TEXT),
            ("retry_attempt", ZERO),
            ("archived_restore_points", ZERO),
            ("qemu_agent", ZERO),
            ("vm_paused", ZERO),
            ("chain_archived", ZERO),
            ("created_at", NOW),
        ],
        tail: "",
    },
    Table {
        name: "replication_runs",
        columns: &[
            ID,
            OF_SESSION,
            ("endpoint_name", SOME_TEXT),
            ("endpoint_type", SOME_TEXT),
            ("transport", TEXT),
            ("sync_mode", TEXT),
            ("destination", TEXT),
            ("start_time", TEXT),
            ("end_time", TEXT),
            ("duration_sec", INTEGER),
            ("bytes_transferred", ZERO),
            ("files_transferred", ZERO),
            ("status", TEXT),
            ("error_message", TEXT),
            ("log_file", TEXT),
            ("dest_avail_bytes", ZERO),
            ("dest_total_bytes", ZERO),
            ("dest_space_known", ZERO),
            ("throttle_count", ZERO),
            ("bwlimit_final", TEXT),
            ("retry_attempt", ZERO),
            ("backup_timestamp", TEXT),
            ("destination_path", TEXT),
        ],
        tail: "",
    },
    Table {
        name: "replication_vms",
        columns: &[
            ID,
            ("run_id", "INTEGER NOT NULL REFERENCES replication_runs(id)"),
            ("vm_name", SOME_TEXT),
            ("status", TEXT),
        ],
        tail: ", UNIQUE(run_id, vm_name)",
    },
    Table {
        name: "chain_health",
        columns: &[
            ID,
            ("vm_name", SOME_TEXT),
            ("period_id", SOME_TEXT),
            ("chain_location", SOME_TEXT),
            ("chain_status", "TEXT NOT NULL DEFAULT 'active'"),
            ("rotation_policy", TEXT),
            ("total_checkpoints", ZERO),
            ("restorable_count", ZERO),
            ("broken_at", INTEGER),
            ("break_reason", TEXT),
            ("first_backup", TEXT),
            ("last_backup", TEXT),
            ("archived_at", TEXT),
            ("deleted_at", TEXT),
            ("archive_size_bytes", ZERO),
            ("purge_eligible", ONE),
            ("marked_at", TEXT),
            ("marked_by", TEXT),
            ("purged_at", TEXT),
            ("created_at", NOW),
            ("updated_at", NOW),
        ],
        tail: ", UNIQUE(vm_name, period_id)",
    },
    Table {
        name: "chain_events",
        columns: &[
            ID,
            IN_SESSION,
            TIMESTAMP,
            ("vm_name", SOME_TEXT),
            ("event_type", SOME_TEXT),
            ("chain_id", TEXT),
            ("period_id", TEXT),
            ("backup_dir", TEXT),
            ("chain_location", TEXT),
            ("chain_start_time", TEXT),
            ("chain_end_time", TEXT),
            ("checkpoint_count", ZERO),
            ("full_backup_file", TEXT),
            ("total_chain_bytes", ZERO),
            ("archive_reason", TEXT),
            ("archive_trigger", TEXT),
            ("source_backup_type", TEXT),
            ("covers_from", TEXT),
            ("covers_to", TEXT),
            ("restore_point_ids", TEXT),
        ],
        tail: "",
    },
    Table {
        name: "config_events",
        columns: &[
            ID,
            IN_SESSION,
            TIMESTAMP,
            ("event_type", SOME_TEXT),
            ("config_source", TEXT),
            ("vm_name", TEXT),
            ("setting_name", TEXT),
            ("setting_value", TEXT),
            ("previous_value", TEXT),
            ("applied_to", TEXT),
            ("triggered_by", TEXT),
            ("detail", TEXT),
        ],
        tail: "",
    },
    Table {
        name: "file_operations",
        columns: &[
            ID,
            IN_SESSION,
            TIMESTAMP,
            ("operation", SOME_TEXT),
            ("vm_name", TEXT),
            ("source_path", TEXT),
            ("dest_path", TEXT),
            ("file_type", TEXT),
            ("file_size_bytes", ZERO),
            ("verification_data", TEXT),
            ("reason", TEXT),
            ("triggered_by", TEXT),
            ("success", ONE),
            ("error_message", TEXT),
        ],
        tail: "",
    },
    Table {
        name: "period_events",
        columns: &[
            ID,
            IN_SESSION,
            TIMESTAMP,
            ("vm_name", SOME_TEXT),
            ("event_type", SOME_TEXT),
            ("period_id", TEXT),
            ("rotation_policy", TEXT),
            ("period_dir", TEXT),
            ("period_start", TEXT),
            ("period_end", TEXT),
            ("chains_count", ZERO),
            ("total_restore_points", ZERO),
            ("total_bytes", ZERO),
            ("previous_period", TEXT),
            ("archive_location", TEXT),
            ("retention_remaining", INTEGER),
        ],
        tail: "",
    },
    Table {
        name: "retention_events",
        columns: &[
            ID,
            IN_SESSION,
            TIMESTAMP,
            ("vm_name", SOME_TEXT),
            ("action", SOME_TEXT),
            ("target_type", TEXT),
            ("target_path", TEXT),
            ("target_period", TEXT),
            ("rotation_policy", TEXT),
            ("retention_limit", INTEGER),
            ("current_count", INTEGER),
            ("age_days", INTEGER),
            ("freed_bytes", ZERO),
            ("preserve_reason", TEXT),
            ("triggered_by", TEXT),
            ("success", ONE),
            ("action_source", TEXT),
        ],
        tail: "",
    },
    // Ours from here on.
    Table {
        name: "disk_backups",
        columns: &[
            ID,
            ("vm_backup_id", "INTEGER NOT NULL REFERENCES vm_backups(id)"),
            ("disk", SOME_TEXT),
            ("result", SOME_TEXT),
            ("file", TEXT),
            ("file_bytes", ZERO),
            ("data_bytes", ZERO),
            ("reason", TEXT),
        ],
        tail: ", UNIQUE(vm_backup_id, disk)",
    },
    Table {
        name: "restore_points",
        columns: &[
            ID,
            ("vm_name", SOME_TEXT),
            ("period_id", SOME_TEXT),
            ("folder", SOME_TEXT),
            ("point", SOME_TEXT),
            ("taken_at", TEXT),
            ("taken_from", TEXT),
            ("disks", SOME_TEXT),
            ("file_bytes", ZERO),
            ("restorable", ONE),
        ],
        tail: ", UNIQUE(folder, point)",
    },
];

/// Every index: its name and what it is on.
const INDEXES: &[(&str, &str)] = &[
    ("idx_sessions_date", "sessions(date(start_time))"),
    ("idx_sessions_status", "sessions(status)"),
    ("idx_vm_backups_session", "vm_backups(session_id)"),
    ("idx_vm_backups_vm", "vm_backups(vm_name)"),
    ("idx_vm_backups_status", "vm_backups(status)"),
    ("idx_replication_runs_session", "replication_runs(session_id)"),
    ("idx_replication_runs_endpoint", "replication_runs(endpoint_name)"),
    ("idx_replication_runs_status", "replication_runs(status)"),
    ("idx_replication_vms_run", "replication_vms(run_id)"),
    ("idx_replication_vms_vm", "replication_vms(vm_name)"),
    ("idx_chain_health_vm", "chain_health(vm_name)"),
    ("idx_chain_health_status", "chain_health(chain_status)"),
    ("idx_chain_health_restorable", "chain_health(vm_name, chain_status, restorable_count)"),
    ("idx_chain_health_policy", "chain_health(vm_name, rotation_policy, chain_status)"),
    ("idx_chain_events_vm", "chain_events(vm_name)"),
    ("idx_chain_events_type", "chain_events(event_type)"),
    ("idx_chain_events_session", "chain_events(session_id)"),
    ("idx_chain_events_period", "chain_events(period_id)"),
    ("idx_config_events_session", "config_events(session_id)"),
    ("idx_config_events_vm", "config_events(vm_name)"),
    ("idx_config_events_setting", "config_events(setting_name)"),
    ("idx_file_operations_session", "file_operations(session_id)"),
    ("idx_file_operations_vm", "file_operations(vm_name)"),
    ("idx_file_operations_op", "file_operations(operation)"),
    ("idx_period_events_session", "period_events(session_id)"),
    ("idx_period_events_vm", "period_events(vm_name)"),
    ("idx_period_events_period", "period_events(period_id)"),
    ("idx_retention_events_session", "retention_events(session_id)"),
    ("idx_retention_events_vm", "retention_events(vm_name)"),
    ("idx_retention_events_action", "retention_events(action)"),
    ("idx_restore_points_vm", "restore_points(vm_name, period_id)"),
];

/// What was done to a database when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Prepared {
    /// All tables were made.
    Made,
    /// It was as it should be.
    Current,
    /// It was of an older version.
    Upgraded(String),
    /// It is of a newer version, has all we need, and was not changed.
    Newer(String),
}

/// Brings a database to this schema, in one transaction.
///
/// # Errors
/// [`SchemaError`] when it lacks a column that cannot be added, or is newer and lacks one at all.
pub(super) fn prepare(database: &mut Connection, now: &str) -> Result<Prepared, SchemaError> {
    let transaction = database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let fresh = columns(&transaction, "sessions")?.is_empty();
    let version = version(&transaction)?;
    let newer = version.as_deref().is_some_and(|text| parse(text).is_none_or(|found| found > VERSION));
    if newer {
        let version = version.unwrap_or_default();
        return match missing(&transaction)? {
            None => Ok(Prepared::Newer(version)),
            Some((table, column)) => Err(SchemaError::Newer { version, table, column }),
        };
    }
    let mut changed = false;
    for table in TABLES {
        changed |= complete(&transaction, table)?;
    }
    for (name, on) in INDEXES {
        transaction.execute(&format!("CREATE INDEX IF NOT EXISTS {name} ON {on}"), [])?;
    }
    let current = format!("{}.{}", VERSION.0, VERSION.1);
    let put =
        "INSERT INTO schema_info (key, value) VALUES (?1, ?2) ON CONFLICT(key) DO UPDATE SET value = ?2";
    if version.as_deref() != Some(&current) {
        changed = true;
        transaction.execute(put, params!["version", current])?;
    }
    if fresh {
        transaction.execute(put, params!["created", now])?;
    }
    if changed {
        transaction.execute(put, params!["native_tables", OWN_VERSION])?;
    }
    transaction.commit()?;
    Ok(match version {
        _ if fresh => Prepared::Made,
        Some(version) if version == current => Prepared::Current,
        // A database from before there were versions.
        version => Prepared::Upgraded(version.unwrap_or_else(|| "1.0".to_owned())),
    })
}

fn version(transaction: &Transaction<'_>) -> rusqlite::Result<Option<String>> {
    if columns(transaction, "schema_info")?.is_empty() {
        return Ok(None);
    }
    let ask = "SELECT value FROM schema_info WHERE key = 'version'";
    transaction.query_row(ask, [], |row| row.get(0)).optional().map(Option::flatten)
}

fn parse(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.trim().split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The columns of a table, none when there is no such table.
pub(super) fn columns(database: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut ask = database.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let names = ask.query_map([table], |row| row.get(0))?;
    names.collect()
}

/// The first column of ours that a database lacks.
fn missing(database: &Connection) -> rusqlite::Result<Option<(&'static str, &'static str)>> {
    for table in TABLES {
        let there = columns(database, table.name)?;
        if let Some((column, _)) = table.columns.iter().find(|(name, _)| !there.iter().any(|t| t == name)) {
            return Ok(Some((table.name, column)));
        }
    }
    Ok(None)
}

/// Makes a table, or the columns it lacks. True when there was something to do.
fn complete(transaction: &Transaction<'_>, table: &Table) -> Result<bool, SchemaError> {
    let there = columns(transaction, table.name)?;
    if there.is_empty() {
        let columns: Vec<_> = table.columns.iter().map(|(name, kind)| format!("    {name} {kind}")).collect();
        let sql = format!("CREATE TABLE {} (\n{}{}\n)", table.name, columns.join(",\n"), table.tail);
        transaction.execute(&sql, [])?;
        return Ok(true);
    }
    let mut changed = false;
    for (column, kind) in table.columns {
        if there.iter().any(|name| name == column) {
            continue;
        }
        // SQLite can add neither a key, nor a column that must have a value, nor one whose default is a time.
        if kind.contains("NOT NULL") || kind.contains("KEY") || kind.contains("CURRENT_TIMESTAMP") {
            return Err(SchemaError::NotOurs { table: table.name, column });
        }
        transaction.execute(&format!("ALTER TABLE {} ADD COLUMN {column} {kind}", table.name), [])?;
        changed = true;
        if (table.name, *column) == ("chain_health", "rotation_policy") {
            transaction.execute(POLICY_FROM_PERIOD, [])?;
        }
    }
    Ok(changed)
}

/// What the name of a period tells of its policy.
const POLICY_FROM_PERIOD: &str = "UPDATE chain_health SET rotation_policy = CASE
    WHEN period_id GLOB '[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]' THEN 'daily'
    WHEN period_id GLOB '[0-9][0-9][0-9][0-9]-W[0-9][0-9]' THEN 'weekly'
    WHEN period_id GLOB '[0-9][0-9][0-9][0-9][0-9][0-9]' THEN 'monthly'
    WHEN period_id = 'accumulate' THEN 'accumulate'
    ELSE 'unknown' END WHERE rotation_policy IS NULL";
