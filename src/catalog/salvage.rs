//! What can still be read of a damaged database.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Transaction, params_from_iter};

use super::handle::in_transaction;
use super::schema;
use super::tables::TABLES;

/// Not worth saving: made anew, or read from the disk.
const NOT_SAVED: [&str; 2] = ["schema_info", "restore_points"];

/// Copies every readable row of a damaged database. Returns how many there were.
///
/// Above all the history, and which periods somebody protected.
pub(super) fn save(damaged: &Path, into: &mut Connection) -> rusqlite::Result<usize> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(from) = Connection::open_with_flags(damaged, flags) else { return Ok(0) };
    // Only so does SQLite read a file that is shorter than it should be.
    let _ = from.pragma_update(None, "writable_schema", true);
    in_transaction(into, |transaction| {
        let tables = TABLES.iter().map(|table| table.name).filter(|name| !NOT_SAVED.contains(name));
        tables.map(|table| save_table(&from, transaction, table)).sum()
    })
}

fn save_table(from: &Connection, into: &Transaction<'_>, table: &str) -> rusqlite::Result<usize> {
    let wanted = schema::columns(into, table)?;
    let Ok(there) = schema::columns(from, table) else { return Ok(0) };
    let shared: Vec<String> = wanted.into_iter().filter(|column| there.contains(column)).collect();
    if shared.is_empty() {
        return Ok(0);
    }
    let (names, marks) = (shared.join(", "), vec!["?"; shared.len()].join(", "));
    let mut insert = into.prepare(&format!("INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})"))?;
    let mut saved = 0;
    // From both ends, so that a bad page in the middle costs only itself.
    for order in ["ASC", "DESC"] {
        let sql = format!("SELECT {names} FROM {table} NOT INDEXED ORDER BY rowid {order}");
        let Ok(mut ask) = from.prepare(&sql) else { continue };
        let Ok(mut rows) = ask.query([]) else { continue };
        while let Ok(Some(row)) = rows.next() {
            let values: Result<Vec<Value>, _> = (0..shared.len()).map(|at| row.get(at)).collect();
            let Ok(values) = values else { continue };
            // A row that refers to one that is lost cannot stand here.
            saved += insert.execute(params_from_iter(values)).unwrap_or(0);
        }
    }
    Ok(saved)
}
