//! Every fact of a session, a backup, a chain has its row, and can be asked for.

use std::path::Path;
use std::time::Duration;

use rusqlite::types::Value;
use vmbackup::catalog::{
    ArchiveReason, ArchiveTrigger, BackupMethod, BackupType, ChainEvent, ChainEventKind, ChainHealth,
    ChainStatus, ConfigEvent, ConfigEventKind, DateSource, DiskBackup, DiskResult, ErrorCode, Failure,
    FileOperation, FileType, Operation, PeriodEvent, PeriodEventKind, PreserveReason, Remover,
    RetentionAction, RetentionEvent, RetentionTarget, Stamp, VmBackup, VmEvent, VmStatus,
};
use vmconfig::value::RotationPolicy;
use vmreport::{SessionKind, SessionStatus};

use super::tree::{Tree, health, new_session, noon, rows, said, seconds};

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
    // The same second: the last number before it that is free.
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
        row(-2, "", "", "12:00:00", "12:00:00", "success", ""),
        row(-1, "", "", "12:00:00", "12:00:00", "interrupted", ""),
        row(0, "bytes_total=750 ", "duration_sec=90 ", "12:01:30", "12:00:00", "partial", counts),
        row(100, "", "", "12:01:40", "12:01:40", "failed", ""),
        row(199, "", "", "12:03:20", "12:03:20", "killed", ""),
        row(200, "", "", "12:03:20", "12:03:20", "interrupted", ""),
    ];
    assert_eq!(sessions, want);
}

/// The Bash program takes the second as the number, and has no other when that is taken.
#[test]
fn sessions_of_one_second_leave_the_seconds_after_it_to_others() {
    let tree = Tree::empty();
    let catalog = tree.open();
    for _ in 0..5 {
        catalog.begin_session(&new_session(noon())).end(SessionStatus::Success, noon());
    }
    let bash =
        "INSERT INTO sessions (id, instance, start_time, status) VALUES (?1, 'default', 'x', 'running')";
    for second in 1..10 {
        let written = tree.sql().execute(bash, [noon().as_second() + second]);
        assert_eq!(written, Ok(1), "{second} s later");
    }
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
        PreserveReason: "protected last_period doubtful unreplicated safety_check_failed rm_failed unknown_age in_use needed",
        DateSource: "checkpoint stream",
    }
}

/// A word that is written, or that older rows have, stands in the document of the database.
#[test]
fn the_document_names_each_event() {
    let document = include_str!("../../docs/database.md");
    let words =
        |all: Vec<&'static str>| all.into_iter().filter(|word| !document.contains(word)).collect::<Vec<_>>();
    macro_rules! missing {
        ($($name:ident)+) => { [$(words($name::ALL.iter().map(|value| value.word()).collect())),+].concat() };
    }
    let missing = missing!(
        SessionKind SessionStatus VmStatus BackupType BackupMethod ErrorCode DiskResult ChainStatus ChainEventKind
        ArchiveReason ConfigEventKind FileType Operation PeriodEventKind RetentionAction
    );
    assert_eq!(missing, Vec::<&str>::new());
}
