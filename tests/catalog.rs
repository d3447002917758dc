//! The database: its tables are those of the Bash version, its rows are true, and losing it costs nothing.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;
use rusqlite::types::Value;
use vmbackup::catalog::{
    ArchiveReason, ArchiveTrigger, BackupMethod, BackupType, Catalog, ChainEvent, ChainEventKind,
    ChainHealth, ChainStatus, ConfigEvent, ConfigEventKind, DateSource, DiskBackup, DiskResult, ErrorCode,
    Failure, FileOperation, FileType, NewSession, Operation, PeriodEvent, PeriodEventKind, PreserveReason,
    Remover, RetentionAction, RetentionEvent, RetentionTarget, Stamp, VmBackup, VmEvent, VmStatus,
};
use vmconfig::value::RotationPolicy;
use vmreport::{SessionKind, SessionStatus};

/// A backup path, empty or with the tree and database that the Bash version wrote.
struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn golden() -> Self {
        let tree = Self::empty();
        let tar = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vmbackup-0.5.3-lz4.tar");
        assert!(
            Command::new("tar").arg("xf").arg(tar).arg("-C").arg(tree.path()).status().unwrap().success()
        );
        tree
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn file(&self) -> PathBuf {
        self.path().join("_state/vmbackup.db")
    }

    fn open(&self) -> Catalog {
        let catalog = Catalog::open(self.path(), noon());
        assert!(catalog.is_available());
        catalog
    }

    /// The database of a tree that goes away.
    fn open_sql(&self) -> Connection {
        let sql = self.sql();
        sql.query_row("SELECT COUNT(*) FROM sessions", [], |_| Ok(())).unwrap();
        sql
    }

    /// The database as anybody sees it.
    fn sql(&self) -> Connection {
        Connection::open(self.file()).unwrap()
    }

    /// Names in `_state`, sorted.
    fn state(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path().join("_state")).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn noon() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn new_session(at: Timestamp) -> NewSession<'static> {
    let log_file = Path::new("/var/backups/vms/_state/logs/vmbackup.log");
    NewSession { instance: "default", kind: SessionKind::Standard, log_file, at }
}

fn seconds(count: i64) -> jiff::SignedDuration {
    jiff::SignedDuration::from_secs(count)
}

/// Every row of a table, each with its columns' names.
fn rows(database: &Connection, table: &str) -> Vec<BTreeMap<String, Value>> {
    let mut ask = database.prepare(&format!("SELECT * FROM {table} ORDER BY rowid")).unwrap();
    let names: Vec<String> = ask.column_names().into_iter().map(str::to_owned).collect();
    let row = |row: &rusqlite::Row<'_>| {
        names.iter().enumerate().map(|(at, name)| Ok((name.clone(), row.get(at)?))).collect()
    };
    let rows = ask.query_map([], row).unwrap();
    rows.map(Result::unwrap).collect()
}

/// One row as text, `column=value` for what is neither NULL, nor empty, nor 0.
fn said(row: &BTreeMap<String, Value>) -> String {
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
    tree.open();
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
    let mode: String = have.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    assert_eq!(std::fs::metadata(tree.file()).unwrap().permissions().mode() & 0o7777, 0o640);
}

#[test]
fn a_session_has_a_row_that_always_ends() {
    let tree = Tree::empty();
    let catalog = tree.open();
    let first = catalog.begin_session(&new_session(noon()));
    let id = first.id().unwrap();
    assert_eq!(id.0, noon().as_second());
    for (vm, status, bytes) in [
        ("a", VmStatus::Success, 700),
        ("b", VmStatus::Failed, 50),
        ("c", VmStatus::Skipped, 0),
        ("d", VmStatus::Excluded, 0),
    ] {
        let row = VmBackup { bytes_written: bytes, ..VmBackup::new(vm, status) };
        catalog.vm_backup(first.stamp(noon()), &row);
    }
    first.end(SessionStatus::of_counts(1, 1), noon() + seconds(90));
    let dropped = catalog.begin_session(&new_session(noon() + seconds(100)));
    drop(dropped);
    for signal in [2, 15] {
        let stopped = catalog.begin_session(&new_session(noon() + seconds(200)));
        stopped.signalled(signal);
    }
    // The same second: the next number that is free.
    std::mem::forget(catalog.begin_session(&new_session(noon())));
    let twin = catalog.begin_session(&new_session(noon()));
    twin.end(SessionStatus::Success, noon());
    let sessions: Vec<_> = rows(&tree.sql(), "sessions").iter().map(said).collect();
    let log = "instance=default log_file=/var/backups/vms/_state/logs/vmbackup.log session_type=standard";
    let row = |id: i64, bytes: &str, duration: &str, end: &str, start: &str, status: &str, counts: &str| {
        let at = noon().as_second() + id;
        let (instance, rest) = log.split_once(' ').unwrap();
        let (file, kind) = rest.split_once(' ').unwrap();
        format!(
            "{bytes}{duration}end_time=2026-11-23 {end} id={at} {instance} {file} {kind} start_time=2026-11-23 {start} status={status}{counts}"
        )
    };
    let counts = " vms_excluded=1 vms_failed=1 vms_skipped=1 vms_success=1 vms_total=4";
    let want = vec![
        row(0, "bytes_total=750 ", "duration_sec=90 ", "12:01:30", "12:00:00", "partial", counts),
        row(1, "", "", "12:00:00", "12:00:00", "interrupted", ""),
        row(2, "", "", "12:00:00", "12:00:00", "success", ""),
        row(100, "", "", "12:01:40", "12:01:40", "failed", ""),
        row(200, "", "", "12:03:20", "12:03:20", "interrupted", ""),
        row(201, "", "", "12:03:20", "12:03:20", "killed", ""),
    ];
    assert_eq!(sessions, want);
}

#[test]
fn the_status_of_a_session_follows_from_its_vms() {
    for (backed_up, failed, want) in [
        (0, 0, SessionStatus::Success),
        (3, 0, SessionStatus::Success),
        (3, 1, SessionStatus::Partial),
        (0, 1, SessionStatus::Failed),
    ] {
        assert_eq!(SessionStatus::of_counts(backed_up, failed), want, "{backed_up} {failed}");
    }
}

#[test]
fn every_fact_of_a_backup_has_its_column() {
    let tree = Tree::empty();
    let catalog = tree.open();
    let session = catalog.begin_session(&new_session(noon()));
    let by = session.stamp(noon() + seconds(61));
    let disk = DiskBackup {
        disk: "vda".into(),
        result: DiskResult::Copied,
        file: "vda.inc.virtnbdbackup.3.data".into(),
        file_bytes: 10,
        data_bytes: 30,
        reason: String::new(),
    };
    let left = DiskBackup {
        disk: "sda".into(),
        result: DiskResult::LeftOut,
        file: String::new(),
        file_bytes: 0,
        data_bytes: 0,
        reason: "empty drive".into(),
    };
    let row = VmBackup {
        vm_state: "running".into(),
        os: "linux".into(),
        backup_type: BackupType::Incremental,
        method: BackupMethod::Agent,
        policy: Some(RotationPolicy::Weekly),
        bytes_written: 1,
        chain_bytes: 2,
        folder_bytes: 3,
        restore_points: 4,
        restore_points_before: 5,
        took: Duration::from_millis(61_900),
        backup_path: Some("/b/web/2026-W47".into()),
        log_file: Some("/b/_state/logs/backup_web_1.log".into()),
        failure: Some(Failure { code: Some(ErrorCode::Storage), message: "disk full".into() }),
        detail: "auto +1B to checkpoint 4".into(),
        retries: 6,
        archived_points: 7,
        agent: true,
        paused: true,
        chain_archived: true,
        disks: vec![disk, left],
        ..VmBackup::new("web", VmStatus::Success)
    };
    catalog.vm_backup(by, &row);
    catalog.vm_backup(Stamp { session: None, at: noon() }, &row);
    let found = rows(&tree.sql(), "vm_backups");
    assert_eq!(found.len(), 1, "a row needs a session");
    assert_eq!(
        said(&found[0]),
        "archived_restore_points=7 backup_method=agent backup_path=/b/web/2026-W47 backup_type=auto bytes_written=1 \
         chain_archived=1 chain_size_bytes=2 created_at=2026-11-23 12:01:01 duration_sec=61 error_code=STORAGE \
         error_message=disk full event_detail=auto +1B to checkpoint 4 event_type=backup_completed id=1 \
         log_file=/b/_state/logs/backup_web_1.log os_type=linux qemu_agent=1 restore_points=4 restore_points_before=5 \
         retry_attempt=6 rotation_policy=weekly session_id=1795435200 status=success total_dir_bytes=3 vm_name=web \
         vm_paused=1 vm_status=running"
    );
    let disks: Vec<_> = rows(&tree.sql(), "disk_backups").iter().map(said).collect();
    assert_eq!(
        disks,
        [
            "data_bytes=30 disk=vda file=vda.inc.virtnbdbackup.3.data file_bytes=10 id=1 result=copied vm_backup_id=1",
            "disk=sda id=2 reason=empty drive result=left_out vm_backup_id=1",
        ]
    );
    let types: Vec<_> = [VmStatus::Failed, VmStatus::Skipped, VmStatus::Excluded]
        .into_iter()
        .map(|status| {
            catalog.vm_backup(by, &VmBackup::new("x", status));
            let row = rows(&tree.sql(), "vm_backups").pop().unwrap();
            [row["event_type"].clone(), row["backup_type"].clone(), row["backup_method"].clone()]
        })
        .collect();
    let text = |words: [&str; 3]| words.map(|word| Value::Text(word.into()));
    assert_eq!(
        types,
        [
            text(["backup_failed", "n/a", "unknown"]),
            text(["backup_skipped", "n/a", "unknown"]),
            text(["vm_excluded", "n/a", "excluded"]),
        ]
    );
}

fn health<'a>(vm: &'a str, period: &'a str, folder: &'a Path, points: u64) -> ChainHealth<'a> {
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

#[test]
fn the_health_of_a_chain_follows_its_life() {
    let tree = Tree::empty();
    let catalog = tree.open();
    let folder = Path::new("/b/web/202611");
    let last = || said(&rows(&tree.sql(), "chain_health").pop().unwrap());
    catalog.chain_active(&health("web", "202611", folder, 2), noon());
    let dates = "first_backup=2026-11-23 12:00:00 id=1 last_backup=2026-11-23 12:01:00";
    let tail = "rotation_policy=monthly total_checkpoints";
    let active = format!(
        "chain_location=/b/web/202611 chain_status=active created_at=2026-11-23 12:00:00 {dates} period_id=202611 \
         purge_eligible=1 restorable_count=2 {tail}=2 updated_at=2026-11-23 12:00:00 vm_name=web"
    );
    assert_eq!(last(), active);

    catalog.chain_failed(&health("web", "202611", folder, 2), "no space", noon());
    assert_eq!(
        last(),
        active.replacen("chain_location", "break_reason=backup_failed: no space chain_location", 1)
    );
    let broken = ChainHealth { restorable: 1, ..health("web", "202611", folder, 2) };
    catalog.chain_broken(&broken, "stream missing", noon());
    let want = active.replace("restorable_count=2", "restorable_count=1").replace("=active", "=broken");
    assert_eq!(last(), want.replacen("chain_l", "break_reason=stream missing broken_at=1 chain_l", 1));

    tree.sql().execute("UPDATE chain_health SET purge_eligible = 0", []).unwrap();
    let archive = folder.join(".archives/chain-2026-11-23");
    catalog.chain_archived("web", "202611", &archive, 99, noon() + seconds(1));
    let row = rows(&tree.sql(), "chain_health").pop().unwrap();
    let text = |column: &str| match &row[column] {
        Value::Text(text) => text.clone(),
        other => format!("{other:?}"),
    };
    assert_eq!(text("chain_status"), "archived");
    assert_eq!(text("chain_location"), archive.to_str().unwrap());
    assert_eq!(
        (text("archived_at").as_str(), text("archive_size_bytes").as_str()),
        ("2026-11-23 12:00:01", "Integer(99)")
    );
    catalog.chain_removed("web", "202611", folder, Remover::Retention, noon() + seconds(2));
    let removed = last();
    for part in [
        "chain_status=deleted",
        "break_reason=retention ",
        "marked_by=retention ",
        "deleted_at=2026-11-23 12:00:02",
    ] {
        assert!(removed.contains(part), "{removed}");
    }
    assert!(!removed.contains("restorable_count"), "{removed}");
    assert_eq!(
        catalog.protected().unwrap().into_iter().collect::<Vec<_>>(),
        [("web".into(), "202611".into())]
    );

    // It begins again: nothing is left of its end, and it is still protected.
    catalog.chain_active(&health("web", "202611", folder, 2), noon());
    let again = last();
    for gone in ["deleted_at", "purged_at", "marked_by", "break_reason", "purge_eligible=1"] {
        assert!(!again.contains(gone), "{again}");
    }
    for (vm, by, words) in [
        ("db", Remover::Prune, "purged_at=2026-11-23 12:00:00"),
        ("mail", Remover::OrphanRetention, "deleted_at=2026-11-23 12:00:00"),
    ] {
        catalog.chain_removed(vm, "202610", folder, by, noon());
        let row = last();
        assert!(row.contains(words) && row.contains(&format!("vm_name={vm}")), "{row}");
    }
    assert!(last().contains("chain_status=deleted") && last().contains("marked_by=retention_orphan"));
}

#[test]
fn events_say_what_happened() {
    let tree = Tree::empty();
    let catalog = tree.open();
    let session = catalog.begin_session(&new_session(noon()));
    let by = session.stamp(noon());
    let folder = Path::new("/b/web/202611");
    catalog.event(
        by,
        &ChainEvent {
            chain_id: "chain-2026-11-23".into(),
            backup_dir: folder.into(),
            location: folder.join(".archives/chain-2026-11-23"),
            first: Some(noon()),
            last: Some(noon() + seconds(5)),
            points: 2,
            bytes: 9,
            reason: Some(ArchiveReason::BitmapLost),
            trigger: Some(ArchiveTrigger::NewChain),
            source: Some(BackupType::Full),
            point_names: vec!["virtnbdbackup.0".into(), "virtnbdbackup.1".into()],
            ..ChainEvent::new(ChainEventKind::Archived, "web", "202611")
        },
    );
    catalog.event(
        by,
        &ConfigEvent {
            source: "/opt/vmbackup/config/default/vmbackup.conf".into(),
            vm: "web".into(),
            previous: "weekly".into(),
            applied_to: "web".into(),
            triggered_by: "policy".into(),
            detail: "d".into(),
            ..ConfigEvent::new(ConfigEventKind::PolicyChange, "BACKUP_ROTATION_POLICY", "monthly")
        },
    );
    catalog.event(
        by,
        &FileOperation {
            to: "/t".into(),
            bytes: 3,
            verification: "size:3:mtime:4".into(),
            reason: "r".into(),
            triggered_by: "p".into(),
            error: Some("e".into()),
            ..FileOperation::new(Operation::Move, FileType::Directory, "web", Path::new("/f"))
        },
    );
    catalog.event(
        by,
        &PeriodEvent {
            policy: Some(RotationPolicy::Monthly),
            first: Some(noon()),
            last: Some(noon()),
            chains: 1,
            points: 2,
            bytes: 3,
            previous: "202610".into(),
            remaining: Some(4),
            ..PeriodEvent::new(PeriodEventKind::Created, "web", "202611", folder)
        },
    );
    let target = RetentionTarget::OrphanPeriod;
    let (action, by_whom) = (RetentionAction::Skip, Remover::OrphanRetention);
    catalog.event(
        Stamp { session: None, at: noon() },
        &RetentionEvent {
            policy: Some(RotationPolicy::Daily),
            limit: Some(90),
            current: Some(3),
            age_days: Some(91),
            freed_bytes: 5,
            kept: Some(PreserveReason::Unreplicated),
            ..RetentionEvent::new(action, target, by_whom, ("web", "20261101"), folder)
        },
    );
    let one = |table: &str| {
        let found = rows(&tree.sql(), table);
        assert_eq!(found.len(), 1, "{table}");
        said(&found[0])
    };
    let head = "id=1";
    let tail = "session_id=1795435200";
    let time = "timestamp=2026-11-23 12:00:00";
    assert_eq!(
        one("chain_events"),
        format!(
            "archive_reason=bitmap_lost archive_trigger=archive_existing_checkpoint_chain backup_dir=/b/web/202611 \
             chain_end_time=2026-11-23 12:00:05 chain_id=chain-2026-11-23 \
             chain_location=/b/web/202611/.archives/chain-2026-11-23 chain_start_time=2026-11-23 12:00:00 \
             checkpoint_count=2 covers_from=2026-11-23 12:00:00 covers_to=2026-11-23 12:00:05 \
             event_type=chain_archived {head} period_id=202611 restore_point_ids=virtnbdbackup.0,virtnbdbackup.1 {tail} \
             source_backup_type=full {time} total_chain_bytes=9 vm_name=web"
        )
    );
    assert_eq!(
        one("config_events"),
        format!(
            "applied_to=web config_source=/opt/vmbackup/config/default/vmbackup.conf detail=d event_type=policy_change \
             {head} previous_value=weekly {tail} setting_name=BACKUP_ROTATION_POLICY setting_value=monthly {time} \
             triggered_by=policy vm_name=web"
        )
    );
    assert_eq!(
        one("file_operations"),
        format!(
            "dest_path=/t error_message=e file_size_bytes=3 file_type=directory {head} operation=move reason=r {tail} \
             source_path=/f {time} triggered_by=p verification_data=size:3:mtime:4 vm_name=web"
        )
    );
    assert_eq!(
        one("period_events"),
        format!(
            "chains_count=1 event_type=period_created {head} period_dir=/b/web/202611 period_end=2026-11-23 12:00:00 \
             period_id=202611 period_start=2026-11-23 12:00:00 previous_period=202610 retention_remaining=4 \
             rotation_policy=monthly {tail} {time} total_bytes=3 total_restore_points=2 vm_name=web"
        )
    );
    assert_eq!(
        one("retention_events"),
        format!(
            "action=skip action_source=orphan_retention age_days=91 current_count=3 freed_bytes=5 {head} \
             preserve_reason=unreplicated retention_limit=90 rotation_policy=daily success=1 target_path=/b/web/202611 \
             target_period=20261101 target_type=orphan_period {time} triggered_by=_remove_orphan_period vm_name=web"
        )
    );
}

#[test]
fn what_was_written_can_be_asked() {
    let tree = Tree::empty();
    let catalog = tree.open();
    let session = catalog.begin_session(&new_session(noon()));
    let back_up = |vm: &str, period: &str, status, after: i64, took: u64| {
        let row = VmBackup {
            policy: Some(RotationPolicy::Monthly),
            bytes_written: took * 100,
            took: Duration::from_secs(took),
            backup_path: Some(Path::new("/b").join(vm).join(period)),
            failure: (status == VmStatus::Failed)
                .then(|| Failure { code: Some(ErrorCode::Hypervisor), message: format!("after {after}") }),
            ..VmBackup::new(vm, status)
        };
        catalog.vm_backup(session.stamp(noon() + seconds(after)), &row);
    };
    for (after, took) in [(1, 1000), (2, 10), (3, 20), (4, 30), (5, 40), (6, 50)] {
        back_up("web", "202611", VmStatus::Success, after, took);
    }
    back_up("web", "20261122", VmStatus::Success, 7, 30);
    back_up("web", "202611", VmStatus::Failed, 8, 7);
    back_up("db", "202611", VmStatus::Failed, 9, 7);
    let last = catalog.last_success("web").unwrap().unwrap();
    assert_eq!((last.policy, last.at), (Some(RotationPolicy::Monthly), Some(noon() + seconds(7))));
    assert_eq!(last.path, Path::new("/b/web/20261122"));
    assert_eq!(catalog.last_success("db").unwrap(), None);
    let history = catalog.history("web").unwrap().unwrap();
    assert_eq!((history.took, history.bytes), (Duration::from_secs(34), 3400), "of the last five");
    assert_eq!(catalog.history("db").unwrap(), None);
    assert_eq!(
        catalog.newest_success("web", "202611").unwrap(),
        Some(noon() + seconds(6)),
        "not that of 20261122"
    );
    assert_eq!(catalog.newest_success("web", "2026").unwrap(), None);
    let errors = |vm| {
        let found = catalog.errors(vm, 10).unwrap();
        found.into_iter().map(|e| (e.vm, e.at.unwrap(), e.code, e.message)).collect::<Vec<_>>()
    };
    let error = |vm: &str, after| {
        (vm.to_owned(), noon() + seconds(after), "HYPERVISOR".into(), format!("after {after}"))
    };
    assert_eq!(errors(None), [error("db", 9), error("web", 8)]);
    assert_eq!(errors(Some("web")), [error("web", 8)]);
}

#[test]
fn replication_counts_for_the_period_it_took_along() {
    let tree = Tree::empty();
    let catalog = tree.open();
    let session = catalog.begin_session(&new_session(noon()));
    for (vm, period, policy) in [
        ("web", "/b/web/202611", RotationPolicy::Monthly),
        ("db", "/b/db", RotationPolicy::Accumulate),
        ("mail", "/b/mail/202611", RotationPolicy::Monthly),
    ] {
        let row = VmBackup {
            policy: Some(policy),
            backup_path: Some(period.into()),
            ..VmBackup::new(vm, VmStatus::Success)
        };
        catalog.vm_backup(session.stamp(noon()), &row);
    }
    assert_eq!(catalog.replicated().unwrap(), None, "never used");
    let id = session.id().unwrap().0;
    let run = "INSERT INTO replication_runs (session_id, endpoint_name, endpoint_type, status) VALUES (?1, 'nas', 'local', ?2)";
    let vm = "INSERT INTO replication_vms (run_id, vm_name, status) VALUES (?1, ?2, ?3)";
    let sql = tree.sql();
    sql.execute(run, (id, "failed")).unwrap();
    sql.execute(vm, (1, "mail", "failed")).unwrap();
    assert_eq!(catalog.replicated().unwrap(), None, "never well");
    sql.execute(run, (id, "success")).unwrap();
    for name in ["web", "db"] {
        sql.execute(vm, (2, name, "success")).unwrap();
    }
    let done: Vec<_> = catalog.replicated().unwrap().unwrap().into_iter().collect();
    assert_eq!(done, [("db".to_owned(), "accumulate".to_owned()), ("web".to_owned(), "202611".to_owned())]);
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

/// The golden chain, as rows have it. Its checkpoints tell when they were made.
const POINTS: [&str; 4] = [
    "disks=vda,vdb file_bytes=493152 folder=gold1/202611 period_id=202611 point=virtnbdbackup.0 restorable=1 taken_at=2026-11-22 20:02:25 taken_from=checkpoint vm_name=gold1",
    "disks=vda,vdb file_bytes=309464 folder=gold1/202611 period_id=202611 point=virtnbdbackup.1 restorable=1 taken_at=2026-11-22 20:02:29 taken_from=checkpoint vm_name=gold1",
    "disks=vda,vdb file_bytes=5369 folder=gold1/202611 period_id=202611 point=virtnbdbackup.2 restorable=1 taken_at=2026-11-22 20:02:33 taken_from=checkpoint vm_name=gold1",
    "disks=vda,vdb file_bytes=909 folder=gold1/202611 period_id=202611 point=virtnbdbackup.3 restorable=1 taken_at=2026-11-22 20:02:36 taken_from=checkpoint vm_name=gold1",
];

fn points(tree: &Tree) -> Vec<String> {
    let mut rows = rows(&tree.sql(), "restore_points");
    rows.iter_mut().for_each(|row| drop(row.remove("id")));
    rows.iter().map(said).collect()
}

#[test]
fn the_points_on_disk_are_known_from_the_first_run_on() {
    let tree = Tree::golden();
    let before = rows(&tree.sql(), "chain_health");
    let catalog = tree.open();
    assert_eq!(points(&tree), POINTS);
    assert_eq!(rows(&tree.sql(), "chain_health"), before, "what the Bash version wrote stays");
    drop(catalog);
    // Only once: what changes later is told by those who change it.
    let period = tree.path().join("gold1/202611");
    let archive = period.join(".archives/chain-2026-11-23");
    std::fs::create_dir_all(&archive).unwrap();
    for entry in std::fs::read_dir(&period).unwrap().map(Result::unwrap) {
        if entry.file_name() != ".archives" {
            std::fs::rename(entry.path(), archive.join(entry.file_name())).unwrap();
        }
    }
    let catalog = tree.open();
    assert_eq!(points(&tree), POINTS);
    catalog.chain_active(&health("gold1", "202611", &period, 0), noon());
    assert_eq!(points(&tree), [""; 0]);
    catalog.chain_archived("gold1", "202611", &archive, 1, noon());
    let archived = POINTS.map(|row| row.replace("gold1/202611", "gold1/202611/.archives/chain-2026-11-23"));
    assert_eq!(points(&tree), archived);
    catalog.points_gone(&tree.path().join("gold1/2026"));
    catalog.chain_removed("gold1", "accumulate", &tree.path().join("gold1"), Remover::Prune, noon());
    assert_eq!(points(&tree), archived, "of other folders");
    catalog.points_gone(&archive);
    assert_eq!(points(&tree), [""; 0]);
    catalog.chain_archived("gold1", "202611", &archive, 1, noon());
    catalog.chain_removed("gold1", "202611", &period, Remover::Retention, noon());
    assert_eq!(points(&tree), [""; 0]);
}

#[test]
fn a_lost_database_is_made_anew_from_the_disk() {
    let tree = Tree::golden();
    std::fs::remove_dir_all(tree.path().join("_state")).unwrap();
    // A chain in an archive alone, one with a hole, one without periods, a folder that is no VM's.
    let copy = |from: &str, to: &str| {
        let to = tree.path().join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        assert!(Command::new("cp").arg("-a").arg(tree.path().join(from)).arg(to).status().unwrap().success());
    };
    copy("gold1/202611", "gold1/2026-W40/.archives/chain-2026-10-04");
    copy("gold1/202611", "gold1/20261101");
    copy("gold1/202611", "flat");
    copy("gold1/202611", "_state/gold1/202611");
    std::fs::remove_file(tree.path().join("gold1/20261101/vda.inc.virtnbdbackup.2.data")).unwrap();
    std::fs::rename(tree.path().join("flat/gold1.cpt"), tree.path().join("flat/flat vm.cpt")).unwrap();
    let catalog = tree.open();
    let health: Vec<_> = rows(&tree.sql(), "chain_health").iter().map(said).collect();
    let row = |id: u32,
               vm: &str,
               period: &str,
               folder: &str,
               policy: &str,
               state: &str,
               broken: &str,
               good: u32| {
        let folder = tree.path().join(folder);
        format!(
            "{broken}chain_location={} chain_status={state} created_at=2026-11-23 12:00:00 \
             first_backup=2026-11-22 20:02:25 id={id} last_backup=2026-11-22 20:02:36 period_id={period} \
             purge_eligible=1 restorable_count={good} rotation_policy={policy} total_checkpoints=4 \
             updated_at=2026-11-23 12:00:00 vm_name={vm}",
            folder.display()
        )
    };
    let broken = "break_reason=streams are missing or damaged broken_at=2 ";
    let archive = "gold1/2026-W40/.archives/chain-2026-10-04";
    let want = [
        row(1, "flat vm", "accumulate", "flat", "accumulate", "active", "", 4),
        row(2, "gold1", "2026-W40", archive, "weekly", "archived", "", 4),
        row(3, "gold1", "202611", "gold1/202611", "monthly", "active", "", 4),
        row(4, "gold1", "20261101", "gold1/20261101", "daily", "broken", broken, 2),
    ];
    assert_eq!(health, want);
    let found = points(&tree);
    assert_eq!(found.len(), 16);
    assert_eq!(found.iter().filter(|row| row.contains("restorable=1")).count(), 14);
    let last = catalog.last_success("gold1").unwrap().unwrap();
    assert_eq!(last.at, Some("2026-11-22T20:02:36Z".parse().unwrap()));
    assert!(rows(&tree.sql(), "vm_backups").is_empty() && rows(&tree.sql(), "sessions").is_empty());
}

/// Breaks a database file. True when some of its rows can still be read.
type Damage = fn(&Path) -> bool;

#[test]
fn a_damaged_database_is_replaced_and_what_can_be_read_of_it_kept() {
    let damages: [(&str, Damage); 4] = [
        ("header", |file| {
            let mut bytes = std::fs::read(file).unwrap();
            bytes[..16].fill(b'x');
            std::fs::write(file, bytes).unwrap();
            false
        }),
        ("garbage", |file| {
            std::fs::write(file, "no database".repeat(9000)).unwrap();
            false
        }),
        ("truncated", |file| {
            std::fs::File::options().write(true).open(file).unwrap().set_len(102_400).unwrap();
            true
        }),
        ("one page", |file| {
            // A page with rows of config_events; the first page, where there are none.
            let mut bytes = std::fs::read(file).unwrap();
            let place = bytes.windows(14).position(|text| text == b"config_loaded/").unwrap_or(0);
            let page = place / 4096 * 4096;
            bytes[page..page + 4096].fill(0xaa);
            std::fs::write(file, bytes).unwrap();
            true
        }),
    ];
    for (name, damage) in damages {
        let tree = Tree::golden();
        tree.sql().execute("UPDATE chain_health SET purge_eligible = 0", []).unwrap();
        let rest = damage(&tree.file());
        let broken = std::fs::read(tree.file()).unwrap();
        let catalog = tree.open();
        let aside = tree.path().join("_state/vmbackup.db.corrupt-20261123T120000Z");
        assert!(std::fs::read(aside).unwrap() == broken, "{name}: kept as it was");
        assert_eq!(std::fs::metadata(tree.file()).unwrap().permissions().mode() & 0o7777, 0o640, "{name}");
        assert_eq!(points(&tree), POINTS, "{name}");
        let period = ("gold1".to_owned(), "202611".to_owned());
        assert_eq!(catalog.protected().unwrap().contains(&period), rest, "{name}");
        assert_eq!(rows(&tree.sql(), "vm_backups").len(), if rest { 4 } else { 0 }, "{name}");
        assert_eq!(rows(&tree.sql(), "chain_health").len(), 1, "{name}");
        let session = catalog.begin_session(&new_session(noon()));
        catalog.vm_backup(session.stamp(noon()), &VmBackup::new("gold1", VmStatus::Success));
        assert_eq!(catalog.last_success("gold1").unwrap().unwrap().at, Some(noon()), "{name}");
        let verdict: String = tree.sql().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok", "{name}");
        drop(session);
        drop(catalog);
        assert_eq!(tree.state(), ["vmbackup.db", "vmbackup.db.corrupt-20261123T120000Z"], "{name}");
        // Again, in the same second.
        damage(&tree.file());
        drop(tree.open());
        assert_eq!(tree.state().len(), 3, "{name}: {:?}", tree.state());
    }
}

const ROLE: &str = "VMBACKUP_TEST_WRITER";

/// Another process that writes: this test, called with a role.
fn writer(tree: &Tree, test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let (_, module) = module_path!().split_once("::").unwrap();
    command.args(["--exact", &format!("{module}::{test}"), "--nocapture"]).env(ROLE, tree.path());
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    command
}

fn write_backups(catalog: &Catalog, vm: &str, count: usize) {
    let session = catalog.begin_session(&new_session(noon()));
    for _ in 0..count {
        let disk = DiskBackup {
            disk: "vda".into(),
            result: DiskResult::Copied,
            file: "vda.full.data".into(),
            file_bytes: 1,
            data_bytes: 1,
            reason: String::new(),
        };
        let row = VmBackup { disks: vec![disk], ..VmBackup::new(vm, VmStatus::Success) };
        catalog.vm_backup(session.stamp(noon()), &row);
    }
}

#[test]
fn processes_that_write_at_once_wait_for_each_other() {
    if let Some(path) = std::env::var_os(ROLE) {
        return write_backups(&Catalog::open(Path::new(&path), noon()), "child", 300);
    }
    let tree = Tree::empty();
    let catalog = tree.open();
    let mut children: Vec<_> = (0..2)
        .map(|_| writer(&tree, "processes_that_write_at_once_wait_for_each_other").spawn().unwrap())
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| write_backups(&catalog, "parent", 300));
        }
    });
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let sql = tree.sql();
    let count = |vm: &str| {
        let ask = "SELECT COUNT(*) FROM vm_backups b JOIN disk_backups d ON d.vm_backup_id = b.id WHERE vm_name = ?1";
        sql.query_row(ask, [vm], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!((count("child"), count("parent")), (600, 600));
    assert_eq!(rows(&sql, "sessions").len(), 4, "four numbers for four sessions of one second");
}

#[test]
fn a_writer_that_is_killed_leaves_whole_rows() {
    if let Some(path) = std::env::var_os(ROLE) {
        return write_backups(&Catalog::open(Path::new(&path), noon()), "child", usize::MAX);
    }
    let tree = Tree::golden();
    for round in 1..=8 {
        let mut child = writer(&tree, "a_writer_that_is_killed_leaves_whole_rows").spawn().unwrap();
        let count = || {
            let sql = tree.sql();
            sql.busy_timeout(Duration::from_secs(60)).unwrap();
            let ask = "SELECT COUNT(*) FROM vm_backups WHERE vm_name = 'child'";
            sql.query_row(ask, [], |row| row.get::<_, i64>(0)).unwrap_or(0)
        };
        let before = count();
        while count() < before + 5 * round {
            assert!(child.try_wait().unwrap().is_none(), "it writes until it is killed");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let kept = count();
        let catalog = tree.open();
        assert_eq!(count(), kept, "round {round}");
        let lost = "SELECT COUNT(*) FROM vm_backups b LEFT JOIN disk_backups d ON d.vm_backup_id = b.id
            WHERE vm_name = 'child' AND d.id IS NULL";
        assert_eq!(tree.sql().query_row(lost, [], |row| row.get::<_, i64>(0)).unwrap(), 0, "half a backup");
        catalog.begin_session(&new_session(noon())).end(SessionStatus::Success, noon());
        let running = "SELECT COUNT(*) FROM sessions WHERE status = 'running'";
        assert_eq!(tree.sql().query_row(running, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
        let dead = "SELECT vms_success FROM sessions WHERE status = 'interrupted' ORDER BY id DESC LIMIT 1";
        assert!(tree.sql().query_row(dead, [], |row| row.get::<_, i64>(0)).unwrap() > 0);
        assert_eq!(
            tree.state(),
            ["vmbackup.db", "vmbackup.db-shm", "vmbackup.db-wal"],
            "nothing was moved aside"
        );
        assert_eq!(points(&tree), POINTS, "the disk was read once, whole");
    }
}

#[test]
fn a_write_that_fails_does_not_stop_the_run() {
    let tree = Tree::empty();
    let catalog = tree.open();
    tree.sql().execute("DROP TABLE config_events", []).unwrap();
    let session = catalog.begin_session(&new_session(noon()));
    for _ in 0..2 {
        catalog.event(session.stamp(noon()), &ConfigEvent::new(ConfigEventKind::Loaded, "a", "b"));
    }
    catalog.vm_backup(session.stamp(noon()), &VmBackup::new("web", VmStatus::Success));
    session.end(SessionStatus::Success, noon());
    assert_eq!(rows(&tree.sql(), "vm_backups").len(), 1);
    // A row needs its session.
    let stray = Stamp { session: Some(vmbackup::catalog::SessionId(1)), at: noon() };
    catalog.vm_backup(stray, &VmBackup::new("web", VmStatus::Success));
    assert_eq!(rows(&tree.sql(), "vm_backups").len(), 1);
}

#[test]
fn a_full_disk_costs_rows_and_nothing_else() {
    let lab = lab::Lab::new("catalog_full");
    let disk = lab.small_file_system("full", 2);
    disk.fill();
    let nothing = Catalog::open(disk.path(), noon());
    assert!(!nothing.is_available());
    disk.empty();
    let catalog = Catalog::open(disk.path(), noon());
    let session = catalog.begin_session(&new_session(noon()));
    let write = || catalog.vm_backup(session.stamp(noon()), &VmBackup::new("web", VmStatus::Success));
    write();
    disk.fill();
    let count = || successes(disk.path());
    let mut before = -1;
    // What is left in the last blocks of the log is used up first.
    while count() > before {
        before = count();
        write();
    }
    let full = count();
    write();
    assert_eq!(count(), full, "no room");
    disk.empty();
    write();
    assert_eq!(count(), full + 1, "there is room again");
    session.end(SessionStatus::Success, noon());
    drop(catalog);
    let catalog = Catalog::open(disk.path(), noon());
    assert!(catalog.is_available() && catalog.last_success("web").unwrap().is_some());
    assert_eq!(std::fs::read_dir(disk.path().join("_state")).unwrap().count(), 3, "nothing was moved aside");
}

fn successes(backup_path: &Path) -> i64 {
    let sql = Connection::open(backup_path.join("_state/vmbackup.db")).unwrap();
    sql.query_row("SELECT COUNT(*) FROM vm_backups", [], |row| row.get(0)).unwrap()
}

/// Words that people's queries ask for: they are what the Bash version writes.
#[test]
fn the_words_are_the_documented_ones() {
    fn check<T: Copy + PartialEq + std::fmt::Debug>(
        all: &[T],
        word: fn(T) -> &'static str,
        of_word: fn(&str) -> Option<T>,
        want: &str,
    ) {
        let words: Vec<_> = all.iter().map(|value| word(*value)).collect();
        assert_eq!(words.join(" "), want);
        for value in all {
            assert_eq!(of_word(word(*value)), Some(*value));
        }
        assert_eq!(of_word("other"), None);
    }
    macro_rules! check {
        ($($name:ident: $words:literal,)+) => {
            $(check($name::ALL, $name::word, $name::of_word, $words);)+
        };
    }
    check! {
        SessionKind: "standard targeted replicate_only prune",
        SessionStatus: "running success partial failed interrupted killed",
        VmStatus: "success failed skipped excluded",
        BackupType: "full auto none n/a archive recovery",
        BackupMethod: "agent paused offline unknown excluded",
        VmEvent: "backup_completed backup_failed backup_skipped vm_excluded",
        ErrorCode: "CHECKPOINT_STALE CHECKPOINT_BROKEN DIRECTORY_PREP_FAILED PAUSE_FAILED POLICY_CHANGE_ARCHIVE_FAILED BACKUP_FAILED FOREIGN_CHECKPOINTS STORAGE HYPERVISOR TOOL FOLDER_NAME STOPPED",
        DiskResult: "copied left_out",
        ChainStatus: "active archived broken deleted purged",
        Remover: "retention prune orphan_retention",
        ChainEventKind: "chain_created chain_archived chain_broken chain_deleted chain_purged",
        ArchiveReason: "policy_change period_boundary checkpoint_lost bitmap_lost broken_chain disk_resized disks_changed disk_replaced changed_unseen other_domain copy_backup offline_change accumulate_limit forced_full retry",
        ArchiveTrigger: "policy_change period_rotation archive_existing_checkpoint_chain",
        ConfigEventKind: "config_loaded config_changed config_removed policy_change manifest_rebuilt state_backup",
        Operation: "create copy move delete",
        FileType: "manifest config_xml directory tpm_state tpm backup checkpoint_xml host_config",
        PeriodEventKind: "period_closed period_created period_deleted",
        RetentionAction: "delete skip error",
        RetentionTarget: "period orphan_period archive_chain",
        PreserveReason: "protected last_period unreplicated safety_check_failed rm_failed unknown_age in_use needed",
        DateSource: "checkpoint stream",
    }
}

#[test]
fn without_a_database_a_run_goes_on() {
    let tree = Tree::empty();
    std::fs::write(tree.path().join("_state"), "in the way").unwrap();
    for catalog in [Catalog::open(tree.path(), noon()), Catalog::none()] {
        assert!(!catalog.is_available());
        let session = catalog.begin_session(&new_session(noon()));
        assert_eq!(session.id(), None);
        catalog.vm_backup(session.stamp(noon()), &VmBackup::new("web", VmStatus::Success));
        session.end(SessionStatus::Success, noon());
        assert!(catalog.protected().is_err(), "not known is not unprotected");
        assert!(catalog.replicated().is_err());
    }
}

#[test]
fn looking_changes_nothing() {
    let tree = Tree::golden();
    // A run that was killed leaves its write-ahead log.
    let killed = tree.open();
    let session = killed.begin_session(&new_session(noon()));
    killed.vm_backup(session.stamp(noon()), &VmBackup::new("gold1", VmStatus::Success));
    let copy = Tree::empty();
    assert!(
        Command::new("cp")
            .arg("-a")
            .arg(tree.path().join("_state"))
            .arg(copy.path())
            .status()
            .unwrap()
            .success()
    );
    let look = |tree: &Tree| {
        tree.state()
            .into_iter()
            .map(|name| (std::fs::read(tree.path().join("_state").join(&name)).unwrap(), name))
            .collect::<Vec<_>>()
    };
    let before = look(&copy);
    assert!(before.iter().any(|(bytes, name)| name == "vmbackup.db-wal" && !bytes.is_empty()));
    let peek = Catalog::peek(copy.path(), noon());
    assert_eq!(
        peek.last_success("gold1").unwrap().unwrap().at,
        Some(noon()),
        "what stands in the log counts"
    );
    drop(peek);
    assert!(look(&copy) == before, "the files are as they were");

    let nothing = Tree::empty();
    assert!(Catalog::peek(nothing.path(), noon()).protected().unwrap().is_empty());
    assert_eq!(std::fs::read_dir(nothing.path()).unwrap().count(), 0);
}
