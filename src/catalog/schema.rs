//! Bringing a database to the tables we know.
//!
//! An older database becomes a 2.0 one by adding what it lacks, whatever its version: every step the Bash version took
//! since 1.0 only added tables and columns, but for one column that nobody reads and that stays. A database of a
//! newer version is not changed.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::error::SchemaError;
use super::tables::{INDEXES, TABLES, Table};

/// Tables, columns and indexes are as this version of the Bash program has them.
pub(super) const VERSION: (u32, u32) = (2, 0);

/// Version of our own tables, kept beside theirs in `schema_info`.
const OWN_VERSION: &str = "1";

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
