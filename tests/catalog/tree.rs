//! A backup path with a database, and what SQLite says of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use rusqlite::Connection;
use rusqlite::types::Value;
use vmbackup::catalog::{Catalog, ChainHealth, NewSession};
use vmconfig::value::RotationPolicy;
use vmreport::SessionKind;

/// A backup path, empty or with the tree and database that the Bash version wrote.
pub(super) struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    pub(super) fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(super) fn golden() -> Self {
        let tree = Self::empty();
        let tar = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vmbackup-0.5.3-lz4.tar");
        assert!(
            Command::new("tar").arg("xf").arg(tar).arg("-C").arg(tree.path()).status().unwrap().success()
        );
        tree
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn file(&self) -> PathBuf {
        self.path().join("_state/vmbackup.db")
    }

    pub(super) fn open(&self) -> Catalog {
        let catalog = Catalog::open(self.path(), noon());
        assert!(catalog.is_available());
        catalog
    }

    /// The database of a tree that goes away.
    pub(super) fn open_sql(&self) -> Connection {
        let sql = self.sql();
        sql.query_row("SELECT COUNT(*) FROM sessions", [], |_| Ok(())).unwrap();
        sql
    }

    /// The database as anybody sees it.
    pub(super) fn sql(&self) -> Connection {
        Connection::open(self.file()).unwrap()
    }

    /// Names in `_state`, sorted.
    pub(super) fn state(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path().join("_state")).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

pub(super) fn noon() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

pub(super) fn new_session(at: Timestamp) -> NewSession<'static> {
    let log_file = Path::new("/var/backups/vms/_state/logs/vmbackup.log");
    NewSession { instance: "default", kind: SessionKind::Standard, log_file, at }
}

pub(super) fn seconds(count: i64) -> jiff::SignedDuration {
    jiff::SignedDuration::from_secs(count)
}

/// Every row of a table, each with its columns' names.
pub(super) fn rows(database: &Connection, table: &str) -> Vec<BTreeMap<String, Value>> {
    let mut ask = database.prepare(&format!("SELECT * FROM {table} ORDER BY rowid")).unwrap();
    let names: Vec<String> = ask.column_names().into_iter().map(str::to_owned).collect();
    let row = |row: &rusqlite::Row<'_>| {
        names.iter().enumerate().map(|(at, name)| Ok((name.clone(), row.get(at)?))).collect()
    };
    let rows = ask.query_map([], row).unwrap();
    rows.map(Result::unwrap).collect()
}

/// One row as text, `column=value` for what is neither NULL, nor empty, nor 0.
pub(super) fn said(row: &BTreeMap<String, Value>) -> String {
    let mut parts = Vec::new();
    for (name, value) in row {
        match value {
            Value::Null | Value::Integer(0) => {}
            Value::Text(text) if text.is_empty() => {}
            Value::Text(text) => parts.push(format!("{name}={text}")),
            Value::Integer(number) => parts.push(format!("{name}={number}")),
            other => parts.push(format!("{name}={other:?}")),
        }
    }
    parts.join(" ")
}

pub(super) fn health<'a>(vm: &'a str, period: &'a str, folder: &'a Path, points: u64) -> ChainHealth<'a> {
    let (first, last) = (Some(noon()), Some(noon() + seconds(60)));
    ChainHealth {
        vm,
        period,
        folder,
        policy: RotationPolicy::Monthly,
        points,
        restorable: points,
        first,
        last,
    }
}

/// The golden chain, as rows have it. Its checkpoints tell when they were made.
pub(super) const POINTS: [&str; 4] = [
    "disks=vda,vdb file_bytes=493152 folder=gold1/202611 period_id=202611 point=virtnbdbackup.0 restorable=1 taken_at=2026-11-22 20:02:25 taken_from=checkpoint vm_name=gold1",
    "disks=vda,vdb file_bytes=309464 folder=gold1/202611 period_id=202611 point=virtnbdbackup.1 restorable=1 taken_at=2026-11-22 20:02:29 taken_from=checkpoint vm_name=gold1",
    "disks=vda,vdb file_bytes=5369 folder=gold1/202611 period_id=202611 point=virtnbdbackup.2 restorable=1 taken_at=2026-11-22 20:02:33 taken_from=checkpoint vm_name=gold1",
    "disks=vda,vdb file_bytes=909 folder=gold1/202611 period_id=202611 point=virtnbdbackup.3 restorable=1 taken_at=2026-11-22 20:02:36 taken_from=checkpoint vm_name=gold1",
];

pub(super) fn points(tree: &Tree) -> Vec<String> {
    let mut rows = rows(&tree.sql(), "restore_points");
    rows.iter_mut().for_each(|row| drop(row.remove("id")));
    rows.iter().map(said).collect()
}

/// Breaks a database file. True when some of its rows can still be read.
pub(super) type Damage = fn(&Path) -> bool;
