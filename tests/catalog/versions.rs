//! The tables are those of the Bash version, of whatever age; what is newer or of something else is not changed.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::Value;
use vmbackup::catalog::{Catalog, PeriodEvent, PeriodEventKind, VmBackup, VmStatus};
use vmconfig::value::RotationPolicy;
use vmreport::SessionStatus;

use super::tree::{Tree, new_session, noon, rows};

/// Everything that SQLite knows of a table: columns, keys, references, uniqueness.
fn shape(database: &Connection, table: &str) -> Vec<String> {
    let mut facts = Vec::new();
    for pragma in ["table_xinfo", "foreign_key_list", "index_list"] {
        let mut ask = database.prepare(&format!("SELECT * FROM pragma_{pragma}('{table}')")).unwrap();
        let count = ask.column_count();
        let names: Vec<String> = ask.column_names().into_iter().map(str::to_owned).collect();
        let mut found = ask.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let cells = (0..count).filter(|at| names[*at] != "seq");
            let cells: Vec<String> =
                cells.map(|at| format!("{:?}", row.get::<_, Value>(at).unwrap())).collect();
            facts.push(format!("{pragma} {}", cells.join(" ")));
        }
    }
    // Indexes are listed newest first.
    facts.sort();
    facts
}

fn names(database: &Connection, kind: &str) -> Vec<String> {
    let mut ask = database
        .prepare("SELECT name FROM sqlite_master WHERE type = ?1 AND name NOT LIKE 'sqlite_%' ORDER BY name")
        .unwrap();
    let names = ask.query_map([kind], |row| row.get(0)).unwrap();
    names.map(Result::unwrap).collect()
}

/// What an index is on.
fn index_sql(database: &Connection, name: &str) -> String {
    let sql: String = database
        .query_row("SELECT sql FROM sqlite_master WHERE type = 'index' AND name = ?1", [name], |row| {
            row.get(0)
        })
        .unwrap();
    sql.split_once(" ON ").unwrap().1.to_owned()
}

const OURS: [&str; 2] = ["disk_backups", "restore_points"];

#[test]
fn a_new_database_has_the_tables_of_the_bash_version() {
    let (golden, tree) = (Tree::golden(), Tree::empty());
    let mode = || -> String { tree.sql().query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap() };
    let catalog = tree.open();
    assert_eq!(mode(), "wal", "others may read during a run");
    drop(catalog);
    assert_eq!(mode(), "delete", "between runs, whoever may read the file can ask it");
    assert_eq!(tree.state(), ["vmbackup.db"]);
    let (want, have) = (golden.sql(), tree.sql());
    let tables: Vec<_> = names(&have, "table").into_iter().filter(|n| !OURS.contains(&n.as_str())).collect();
    assert_eq!(tables, names(&want, "table"));
    assert_eq!(tables.len(), 11);
    for table in &tables {
        assert_eq!(shape(&have, table), shape(&want, table), "{table}");
    }
    for index in names(&want, "index") {
        assert_eq!(index_sql(&have, &index), index_sql(&want, &index), "{index}");
    }
    let version = "SELECT value FROM schema_info WHERE key = ?1";
    let info = |key| have.query_row(version, [key], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!((info("version").as_str(), info("created").as_str()), ("2.0", "2026-11-23 12:00:00"));
    assert_eq!(std::fs::metadata(tree.file()).unwrap().permissions().mode() & 0o7777, 0o640);
}

#[test]
fn a_database_of_the_bash_version_goes_on() {
    let tree = Tree::golden();
    let tables = names(&tree.sql(), "table");
    let before: Vec<_> = tables.iter().map(|table| rows(&tree.sql(), table)).collect();
    let catalog = tree.open();
    let last = catalog.last_success("gold1").unwrap().unwrap();
    assert_eq!(last.policy, Some(RotationPolicy::Monthly));
    assert_eq!(last.at, Some("2026-11-22T20:02:38Z".parse().unwrap()));
    let session = catalog.begin_session(&new_session(noon()));
    catalog.vm_backup(session.stamp(noon()), &VmBackup::new("gold1", VmStatus::Success));
    session.end(SessionStatus::Success, noon());
    for (table, before) in tables.iter().zip(&before) {
        let after = rows(&tree.sql(), table);
        assert_eq!(&after[..before.len()], before, "old rows of {table}");
    }
    assert_eq!(rows(&tree.sql(), "sessions").len(), 5);
    assert_eq!(rows(&tree.sql(), "vm_backups").len(), 5);
}

/// Takes the golden database back to an older version: what each step of the Bash version added goes, newest first.
fn age(database: &Connection, version: &str) {
    let steps: [(&str, &str); 8] = [
        ("1.9", "ALTER TABLE sessions DROP COLUMN session_type"),
        ("1.8", "ALTER TABLE replication_vms ADD COLUMN bytes_transferred INTEGER DEFAULT 0"),
        ("1.7", "ALTER TABLE retention_events DROP COLUMN action_source"),
        (
            "1.6",
            "ALTER TABLE chain_health DROP COLUMN marked_at; ALTER TABLE chain_health DROP COLUMN marked_by;
             ALTER TABLE chain_health DROP COLUMN purged_at",
        ),
        ("1.5", ""),
        (
            "1.4",
            "ALTER TABLE vm_backups DROP COLUMN restore_points_before; ALTER TABLE vm_backups DROP COLUMN retry_attempt;
             ALTER TABLE vm_backups DROP COLUMN archived_restore_points; ALTER TABLE vm_backups DROP COLUMN event_type;
             ALTER TABLE vm_backups DROP COLUMN event_detail; ALTER TABLE replication_vms DROP COLUMN status;
             ALTER TABLE replication_runs DROP COLUMN retry_attempt;
             ALTER TABLE replication_runs DROP COLUMN backup_timestamp;
             ALTER TABLE replication_runs DROP COLUMN destination_path; DROP TABLE chain_events;
             DROP TABLE config_events; DROP TABLE file_operations; DROP TABLE period_events; DROP TABLE retention_events",
        ),
        (
            "1.3",
            "DROP INDEX idx_chain_health_policy; ALTER TABLE chain_health DROP COLUMN rotation_policy;
             ALTER TABLE chain_health DROP COLUMN archive_size_bytes;
             ALTER TABLE chain_health DROP COLUMN purge_eligible",
        ),
        ("1.0", "DROP TABLE chain_health"),
    ];
    for (reached, step) in steps {
        database.execute_batch(step).unwrap();
        database.execute("UPDATE schema_info SET value = ?1 WHERE key = 'version'", [reached]).unwrap();
        if reached == version {
            return;
        }
    }
    panic!("no such version: {version}");
}

/// The columns of a table by name, sorted, each with its type, whether it may be NULL, and its default.
fn columns(database: &Connection, table: &str) -> Vec<String> {
    let mut ask = database
        .prepare("SELECT name || ' ' || type || ' ' || \"notnull\" || ' ' || COALESCE(dflt_value, '-') FROM pragma_table_info(?1)")
        .unwrap();
    let mut columns: Vec<String> =
        ask.query_map([table], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    columns.sort();
    columns
}

#[test]
fn every_older_version_becomes_the_current_one() {
    let golden = Tree::golden().open_sql();
    for version in ["1.0", "none", "1.3", "1.4", "1.5", "1.6", "1.7", "1.8", "1.9"] {
        let tree = Tree::golden();
        let old = tree.sql();
        age(&old, if version == "none" { "1.0" } else { version });
        if version == "none" {
            old.execute("DELETE FROM schema_info WHERE key = 'version'", []).unwrap();
        }
        let tables = names(&old, "table");
        let before: Vec<_> = tables.iter().map(|table| rows(&old, table)).collect();
        drop(old);

        let catalog = tree.open();
        let new = tree.sql();
        for table in names(&golden, "table") {
            let (want, mut have) = (columns(&golden, &table), columns(&new, &table));
            have.retain(|column| !column.starts_with("bytes_transferred ") || table != "replication_vms");
            assert_eq!(have, want, "{table} from {version}");
        }
        for index in names(&golden, "index") {
            assert_eq!(index_sql(&new, &index), index_sql(&golden, &index), "{index} from {version}");
        }
        let version_now = "SELECT value FROM schema_info WHERE key = 'version'";
        assert_eq!(new.query_row(version_now, [], |row| row.get::<_, String>(0)).unwrap(), "2.0");
        for (table, before) in tables.iter().zip(&before).filter(|(table, _)| *table != "schema_info") {
            let after = rows(&new, table);
            for (old, new) in before.iter().zip(&after) {
                assert!(old.iter().all(|(column, value)| new[column] == *value), "{table} from {version}");
            }
            assert_eq!(after.len(), before.len(), "{table} from {version}");
        }
        let chain = &rows(&new, "chain_health")[0];
        assert_eq!(chain["rotation_policy"], Value::Text("monthly".into()), "from {version}");
        assert_eq!(chain["purge_eligible"], Value::Integer(1), "from {version}");
        let session = catalog.begin_session(&new_session(noon()));
        catalog.vm_backup(session.stamp(noon()), &VmBackup::new("gold1", VmStatus::Success));
        let event = PeriodEvent::new(PeriodEventKind::Created, "gold1", "202612", Path::new("/b"));
        catalog.event(session.stamp(noon()), &event);
        session.end(SessionStatus::Success, noon());
        assert_eq!(rows(&new, "period_events").len(), 1, "from {version}");
        drop(catalog);
        // The second time there is nothing to do.
        let count =
            "SELECT total(rootpage) || (SELECT group_concat(value) FROM schema_info) FROM sqlite_master";
        let state = || new.query_row(count, [], |row| row.get::<_, String>(0)).unwrap();
        let settled = state();
        tree.open();
        assert_eq!(state(), settled, "from {version}");
    }
}

#[test]
fn a_newer_version_is_used_but_not_changed() {
    let schema = |tree: &Tree| {
        let sql = "SELECT group_concat(sql) || (SELECT group_concat(key || value) FROM schema_info) FROM sqlite_master";
        tree.sql().query_row(sql, [], |row| row.get::<_, String>(0)).unwrap()
    };
    let newer = |tree: &Tree, version: &str| {
        let sql = "UPDATE schema_info SET value = ?1 WHERE key = 'version'";
        tree.sql().execute(sql, [version]).unwrap();
    };
    for version in ["2.1", "2.10", "3.0", "rolling"] {
        let tree = Tree::golden();
        newer(&tree, version);
        let before = schema(&tree);
        let bytes = std::fs::read(tree.file()).unwrap();
        assert!(!Catalog::open(tree.path(), noon()).is_available(), "{version}: our tables are not there");
        assert_eq!(schema(&tree), before, "{version}");
        assert!(std::fs::read(tree.file()).unwrap() == bytes, "{version}");
        assert_eq!(tree.state(), ["vmbackup.db"]);

        let tree = Tree::golden();
        tree.open();
        newer(&tree, version);
        tree.sql().execute("ALTER TABLE vm_backups ADD COLUMN mood TEXT", []).unwrap();
        let before = schema(&tree);
        let catalog = tree.open();
        let session = catalog.begin_session(&new_session(noon()));
        catalog.vm_backup(session.stamp(noon()), &VmBackup::new("gold1", VmStatus::Success));
        assert_eq!(rows(&tree.sql(), "vm_backups").len(), 5, "{version}");
        assert_eq!(schema(&tree), before, "{version}");
    }
}

#[test]
fn a_database_of_something_else_is_left_alone() {
    let tree = Tree::empty();
    std::fs::create_dir(tree.path().join("_state")).unwrap();
    tree.sql()
        .execute_batch("CREATE TABLE sessions (user TEXT); INSERT INTO sessions VALUES ('me')")
        .unwrap();
    assert!(!Catalog::open(tree.path(), noon()).is_available());
    assert_eq!(names(&tree.sql(), "table"), ["sessions"]);
    assert_eq!(rows(&tree.sql(), "sessions").len(), 1);
}
