//! Several processes at one database, writes that fail, and looks that change nothing.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rusqlite::Connection;
use vmbackup::catalog::{
    Catalog, ConfigEvent, ConfigEventKind, DiskBackup, DiskResult, Stamp, VmBackup, VmStatus,
};
use vmreport::SessionStatus;

use super::tree::{POINTS, Tree, new_session, noon, points, rows};

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
