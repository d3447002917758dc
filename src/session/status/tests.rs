use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;

use super::*;
use crate::catalog::newest_chain;
use crate::catalog::{ErrorCode, Failure, NewSession, VmBackup, VmStatus};
use crate::engine::domain::skip_reason::{SkipReason, Skipped};
use vmplan::RotationPolicy;
use vmplan::rotation::Policies;
use vmreport::{
    Fault, Health, LastRun, LeftOutDisk, LeftoverKind, NewestChain, RunResult, SessionKind, VmStanding,
};
use vmstore::VmLock;

/// The tree and database that the Bash version wrote.
fn golden() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let tar = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vmbackup-0.5.3-lz4.tar");
    let done = std::process::Command::new("tar").arg("xf").arg(tar).arg("-C").arg(dir.path()).status();
    assert!(done.unwrap().success());
    dir
}

fn noon() -> Zoned {
    "2026-11-23T12:00:00[UTC]".parse().unwrap()
}

/// Domains with one disk each, `vda`.
fn known(names: &[&str]) -> Vec<SeenDomain> {
    let xml = "<domain><devices><disk type='file'><driver type='qcow2'/><source file='/x'/><target dev='vda'/></disk></devices></domain>";
    let disks = || Ok(parse_domain(xml).unwrap().disks);
    names.iter().map(|name| SeenDomain { name: (*name).to_owned(), disks: disks() }).collect()
}

fn ask(base: &Path, catalog: &Catalog, domains: Option<&[SeenDomain]>) -> Vec<VmStanding> {
    ask_at(base, catalog, domains, &noon(), None)
}

fn ask_at(
    base: &Path,
    catalog: &Catalog,
    domains: Option<&[SeenDomain]>,
    now: &Zoned,
    max_age: Option<Duration>,
) -> Vec<VmStanding> {
    let by_vm = BTreeMap::from([
        ("web 1".to_owned(), RotationPolicy::Weekly),
        ("off".to_owned(), RotationPolicy::Never),
    ]);
    let policies = Policies { default: RotationPolicy::Monthly, by_vm, exclude: vec![] };
    let store = Store::open(base);
    let looks = Looks { state: &store.state(), policies: &policies, catalog, raw_disks: false, max_age, now };
    let vms = known_vms(&store, domains).vms;
    vms.iter().map(|vm| looks.standing(vm)).collect()
}

#[test]
fn a_vm_stands_as_database_and_disk_say() {
    let tree = golden();
    let at: Timestamp = "2026-11-22T20:02:38Z".parse().unwrap();
    let du = std::process::Command::new("sh")
        .args(["-c", "find \"$0\" -type f -printf '%s\\n' | paste -sd+ | bc"])
        .arg(tree.path().join("gold1"))
        .output();
    let bytes: u64 = String::from_utf8(du.unwrap().stdout).unwrap().trim().parse().unwrap();
    let gold = VmStanding {
        vm: "gold1".into(),
        defined: Some(false),
        policy: RotationPolicy::Monthly,
        at_work_pid: None,
        last_run: Some(LastRun { at: Some(at), result: RunResult::Success }),
        last_success: Some(at),
        failed_tries: 0,
        last_error: None,
        age: Some(Duration::from_secs(57_444)),
        next_period: Some(jiff::civil::date(2026, 12, 1)),
        chain: Some(NewestChain {
            period: "202611".into(),
            folder: tree.path().join("gold1/202611"),
            points: 4,
            restorable: 4,
            bytes: 493_152 + 309_464 + 5369 + 909,
        }),
        folder_bytes: bytes,
        archives_bytes: 0,
        health: Health::Good,
        left_out: vec![],
        leftovers: vec![],
        problems: vec![],
        faults: vec![],
    };
    let web = VmStanding {
        vm: "web 1".into(),
        defined: Some(true),
        policy: RotationPolicy::Weekly,
        last_run: None,
        last_success: None,
        age: None,
        next_period: Some(jiff::civil::date(2026, 11, 30)),
        chain: None,
        folder_bytes: 0,
        health: Health::NoBackup,
        faults: vec![Fault::NoRestorablePoint],
        ..gold.clone()
    };
    let domains = known(&["web 1"]);
    let peek = Catalog::peek(tree.path(), noon().timestamp());
    assert_eq!(ask(tree.path(), &peek, Some(&domains)), [gold.clone(), web]);
    let json = serde_json::to_value(&gold).unwrap();
    assert_eq!((&json["last_success"], &json["policy"]), (&"2026-11-22T20:02:38Z".into(), &"monthly".into()));

    // Without a database the disk still tells, and it is said what is missing.
    let alone = &ask(tree.path(), &Catalog::none(), None)[0];
    assert_eq!((alone.last_success, alone.defined), (Some("2026-11-22T20:02:36Z".parse().unwrap()), None));
    assert_eq!(alone.problems, ["history is not known: there is no usable database in this run"]);
}

#[test]
fn failures_and_losses_are_seen() {
    let tree = golden();
    let catalog = Catalog::open(tree.path(), noon().timestamp());
    let new = NewSession {
        instance: "default",
        kind: SessionKind::Standard,
        log_file: Path::new(""),
        at: noon().timestamp(),
    };
    let session = catalog.begin_session(&new);
    let failure = Some(Failure { code: Some(ErrorCode::Storage), message: "no space".into() });
    let row = VmBackup { failure, ..VmBackup::new("gold1", VmStatus::Failed) };
    catalog.vm_backup(session.stamp(noon().timestamp()), &row);
    let now = || ask(tree.path(), &catalog, None).pop();
    assert_eq!(now().unwrap().last_error.as_deref(), Some("no space"));
    catalog.vm_backup(session.stamp(noon().timestamp()), &VmBackup::new("gold1", VmStatus::Success));
    assert_eq!(now().unwrap().last_error, None, "there was a success since");

    std::fs::remove_file(tree.path().join("gold1/202611/vdb.inc.virtnbdbackup.3.data")).unwrap();
    let damaged = now().unwrap();
    assert_eq!((damaged.health, damaged.chain.unwrap().restorable), (Health::Damaged, 3));
    assert_eq!(damaged.problems, ["Disk vdb has no stream at virtnbdbackup.3"]);
    let domains = known(&["gold1"]);
    std::fs::remove_dir_all(tree.path().join("gold1")).unwrap();
    let gone = ask(tree.path(), &catalog, Some(&domains)).pop().unwrap();
    assert_eq!(gone.health, Health::NoBackup);
    assert!(gone.problems[0].contains("the database has a backup, but"), "{:?}", gone.problems);
    assert!(now().is_none(), "nobody knows it");
}

#[test]
fn the_newest_chain_counts() {
    let tree = golden();
    let copy = |to: &str| {
        let (from, to) = (tree.path().join("gold1/202611"), tree.path().join("gold1").join(to));
        let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
        assert!(done.unwrap().success());
    };
    let newest = || newest_chain(&Store::open(tree.path()).vm("gold1")).unwrap().period;
    copy("2026-W30");
    assert_eq!(newest(), "202611");
    copy("20261122");
    assert_eq!(newest(), "20261122");
    std::fs::create_dir(tree.path().join("gold1/202701")).unwrap();
    assert_eq!(newest(), "20261122", "an empty folder is no chain");
}

#[test]
fn whatever_a_vm_is_called_everybody_sees_its_folder() {
    use crate::retention::{Look, read, read_vm};
    let tree = golden();
    let store = Store::open(tree.path());
    let long = "a".repeat(200);
    let names = ["übung", "web 1", "🦀", "_lead", "-dash", "k.", long.as_str()];
    for name in names {
        let to = store.vm_of(name).path().to_owned();
        let done =
            std::process::Command::new("cp").arg("-a").arg(tree.path().join("gold1")).arg(&to).status();
        assert!(done.unwrap().success());
        let list = |name: &str| to.join("202611").join(format!("{name}.cpt"));
        std::fs::rename(list("gold1"), list(name)).unwrap();
    }
    for gone in ["gold1", "_state"] {
        std::fs::remove_dir_all(tree.path().join(gone)).unwrap();
    }
    // None of these is a VM's.
    std::os::unix::fs::symlink("_bung", tree.path().join("linked")).unwrap();
    for folder in [".snapshot/202611", "tpm-state/202611", "__HOST_CONFIG__/202611"] {
        let to = tree.path().join(folder);
        std::fs::create_dir_all(&to).unwrap();
        std::fs::copy(tree.path().join("_bung/202611/vda.full.data"), to.join("vda.full.data")).unwrap();
    }
    let mut want: Vec<String> = names.map(str::to_owned).to_vec();
    want.sort();
    let sorted = |mut found: Vec<String>| {
        found.sort();
        found
    };
    let kept = read(&store, Look::Dates).unwrap();
    assert_eq!(sorted(kept.vms.iter().map(|vm| vm.name().to_owned()).collect()), want, "retention");
    for name in names {
        assert_eq!(read_vm(&store, &store.vm_of(name), Look::Sizes).unwrap().vms.len(), 1, "{name}");
    }
    let catalog = Catalog::open(tree.path(), noon().timestamp());
    let all = known(&want.iter().map(String::as_str).collect::<Vec<_>>());
    for domains in [None, Some(&all[..])] {
        let reports = ask(tree.path(), &catalog, domains);
        assert!(reports.iter().all(|report| report.health == Health::Good), "{reports:?}");
        assert_eq!(sorted(reports.into_iter().map(|report| report.vm).collect()), want, "status");
    }
    let database = rusqlite::Connection::open(tree.path().join("_state/vmbackup.db")).unwrap();
    let mut rows = database.prepare("SELECT DISTINCT vm_name FROM chain_health").unwrap();
    let rows = rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(sorted(rows), want, "the database that was filled from the disk");
}

#[test]
fn failing_tries_are_counted_and_make_a_good_chain_failing() {
    let tree = golden();
    let catalog = Catalog::open(tree.path(), noon().timestamp());
    let at = noon().timestamp();
    let new = NewSession { instance: "default", kind: SessionKind::Standard, log_file: Path::new(""), at };
    let session = catalog.begin_session(&new);
    let fail = |why: &str| {
        let failure = Some(Failure { code: Some(ErrorCode::Storage), message: why.into() });
        catalog
            .vm_backup(session.stamp(at), &VmBackup { failure, ..VmBackup::new("gold1", VmStatus::Failed) });
    };
    let now = || ask(tree.path(), &catalog, None).remove(0);
    fail("no space");
    fail("no space at all");
    let found = now();
    assert_eq!((found.health, found.failed_tries), (Health::Failing, 2));
    assert_eq!(found.last_error.as_deref(), Some("no space at all"));
    assert_eq!(found.last_run.unwrap().result, RunResult::Failed);
    // Unchanged since: what is there is as good as new.
    let unchanged = VmBackup {
        backup_type: crate::catalog::BackupType::Unchanged,
        ..VmBackup::new("gold1", VmStatus::Skipped)
    };
    catalog.vm_backup(session.stamp(at), &unchanged);
    let found = now();
    assert_eq!((found.health, found.failed_tries, found.age), (Health::Good, 0, Some(Duration::ZERO)));
    assert_eq!(found.last_run.unwrap().result, RunResult::Unchanged);
}

#[test]
fn what_needs_somebody_has_a_fault() {
    let tree = golden();
    let faults = |domains: &[SeenDomain], hours: i64, max_age: Option<u64>| {
        let now = &noon() + jiff::Span::new().hours(hours);
        let max_age = max_age.map(|hours| Duration::from_secs(hours * 3600));
        let vms = ask_at(tree.path(), &Catalog::none(), Some(domains), &now, max_age);
        vms.into_iter().map(|vm| (vm.vm, vm.faults)).collect::<Vec<_>>()
    };
    let of = |name: &str, faults: &[Fault]| (name.to_owned(), faults.to_vec());
    let gold = known(&["gold1"]);
    // The newest point is 16 hours old at noon.
    assert_eq!(faults(&gold, 0, Some(17)), [of("gold1", &[])]);
    assert_eq!(faults(&gold, 2, Some(17)), [of("gold1", &[Fault::TooOld])]);
    assert_eq!(faults(&gold, 9999, None), [of("gold1", &[])], "no age is judged");
    // Nobody can back up what is gone, and nobody wants what is excluded.
    assert_eq!(faults(&known(&["off"]), 99, Some(1)), [of("gold1", &[]), of("off", &[])]);
    let mut more = known(&["gold1"]);
    let disks = more[0].disks.as_mut().unwrap();
    disks.skipped.extend([
        Skipped { target: "vdc".into(), reason: SkipReason::Network("rbd".into()) },
        Skipped { target: "vdd".into(), reason: SkipReason::Excluded("VM_EXCLUDE_DISKS") },
        Skipped { target: "sda".into(), reason: SkipReason::NoMedium },
    ]);
    assert_eq!(faults(&more, 0, None), [of("gold1", &[Fault::DiskInNoBackup])]);
    let vm = ask(tree.path(), &Catalog::none(), Some(&more)).remove(0);
    let why = SkipReason::Network("rbd".into()).to_string();
    assert_eq!(vm.left_out, [LeftOutDisk { disk: "vdc".into(), why }]);
    // The newest point is damaged, the one before counts; then none is left, and at last only an archive.
    let file = |name: &str| tree.path().join("gold1/202611").join(name);
    std::fs::remove_file(file("vdb.inc.virtnbdbackup.3.data")).unwrap();
    assert_eq!(faults(&gold, 0, Some(17)), [of("gold1", &[])]);
    std::fs::rename(file("vda.full.data"), file("vda.full.away")).unwrap();
    assert_eq!(faults(&gold, 0, None), [of("gold1", &[Fault::NoRestorablePoint])]);
    let archive = file(".archives/chain-2026-11-22");
    std::fs::create_dir_all(archive.parent().unwrap()).unwrap();
    let fresh = golden();
    std::fs::rename(fresh.path().join("gold1/202611"), &archive).unwrap();
    assert_eq!(faults(&gold, 0, None), [of("gold1", &[])]);
    let vm = ask(tree.path(), &Catalog::none(), Some(&gold)).remove(0);
    assert!(vm.archives_bytes > 0 && vm.folder_bytes > vm.archives_bytes, "{vm:?}");
}

#[test]
fn leftovers_and_who_is_at_work_are_told() {
    let tree = golden();
    let state = Store::open(tree.path()).state();
    let make = |path: &str| {
        let path = tree.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "12345").unwrap();
    };
    make("gold1/202611/vda.inc.virtnbdbackup.9.data.partial");
    make("gold1/202611/vda.inc.virtnbdbackup.8.data.leftover");
    make("gold1/.deleting-retention-202610/vda.full.data");
    make("_state/journal/gold1.json");
    let kinds =
        [LeftoverKind::PutAside, LeftoverKind::Unfinished, LeftoverKind::Removal, LeftoverKind::Journal];
    let vm = ask(tree.path(), &Catalog::none(), None).remove(0);
    let found: Vec<_> = vm.leftovers.iter().map(|left| (left.kind, left.bytes)).collect();
    assert_eq!(found, kinds.map(|kind| (kind, 5)));
    assert_eq!(vm.at_work_pid, None);
    // This process does not count, whoever else has the lock does.
    let _lock = VmLock::take(&state, "gold1", Duration::ZERO).unwrap();
    assert_eq!(ask(tree.path(), &Catalog::none(), None)[0].at_work_pid, None);
    assert_eq!(running::session(&state), None);
}
