//! What each event is: a row of its own table, written with the session and the time.
//!
//! Text that is not known is empty there, not NULL: what people ask for compares with ''.

use std::path::Path;

use jiff::Timestamp;
use rusqlite::params_from_iter;
use rusqlite::types::Value;

use crate::catalog::handle::Catalog;
use crate::catalog::stamp::{Stamp, utc};
use crate::catalog::vm_backup::integer;

/// A row of its own: its table, its columns and their values.
mod sealed {
    pub trait Row {
        const TABLE: &'static str;
        /// Without those that every event has.
        fn columns(&self) -> Vec<(&'static str, rusqlite::types::Value)>;
    }
}
pub(super) use sealed::Row;

/// Something that happened, for one of the event tables.
pub trait EventRow: Row {}
impl<T: Row> EventRow for T {}

impl Catalog {
    /// Writes down that something happened.
    pub fn event<E: EventRow>(&self, by: Stamp, event: &E) {
        let mut columns = event.columns();
        columns.push(("session_id", by.session.map_or(Value::Null, |id| id.0.into())));
        columns.push(("timestamp", utc(by.at).into()));
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let marks = vec!["?"; names.len()].join(", ");
        let sql = format!("INSERT INTO {} ({}) VALUES ({marks})", E::TABLE, names.join(", "));
        let values = columns.iter().map(|(_, value)| value);
        self.write(|transaction| transaction.prepare_cached(&sql)?.execute(params_from_iter(values)));
    }
}

pub(super) fn text(text: &str) -> Value {
    text.to_owned().into()
}

pub(super) fn path(path: &Path) -> Value {
    path.to_string_lossy().into_owned().into()
}

pub(super) fn time(at: Option<Timestamp>) -> Value {
    at.map_or(String::new(), utc).into()
}

pub(super) fn count(count: u64) -> Value {
    integer(count).into()
}

pub(super) fn number(number: Option<u64>) -> Value {
    number.map_or(Value::Null, count)
}
