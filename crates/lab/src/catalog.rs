//! The database of a backup path, as somebody would ask it who has only SQLite.

use rusqlite::Connection;
use rusqlite::types::Value;

use super::Lab;

impl Lab {
    /// Opens the database of the default configuration.
    pub fn database(&self) -> Connection {
        let path = self.backup_path().join("_state/vmbackup.db");
        Connection::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The rows of an answer, its columns with bars between.
    #[track_caller]
    pub fn ask(&self, sql: &str) -> Vec<String> {
        let database = self.database();
        let mut ask = database.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let columns = ask.column_count();
        let text = |value: Value| match value {
            Value::Null => "NULL".to_owned(),
            Value::Integer(number) => number.to_string(),
            Value::Real(number) => number.to_string(),
            Value::Text(text) => text,
            Value::Blob(_) => "BLOB".to_owned(),
        };
        let rows = ask.query_map([], |row| {
            let cells: Result<Vec<String>, _> = (0..columns).map(|at| row.get(at).map(text)).collect();
            Ok(cells?.join("|"))
        });
        rows.and_then(Iterator::collect).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}
