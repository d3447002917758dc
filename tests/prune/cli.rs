//! `vmbackup --prune` as a person uses it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use jiff::Zoned;
use lab::{DiskSpec, Lab, must, text};
use serde_json::Value;
use vmreport::{SessionKind, SessionStatus};

use super::tree::{write_chain, write_doubtful};
use crate::many_vms::session_reports;

const STORAGE_OK: i32 = 0;
const LOCKED: i32 = 3;
const VM: i32 = 5;
const USAGE: i32 = 7;

/// A backup path with `db` (two days, an archive), `web` (a month) and `acc` (accumulates, with archives), and what is
/// no backup beside them.
struct World {
    lab: Lab,
}

impl World {
    fn new(name: &str) -> Self {
        let lab = Lab::configured(name);
        let world = Self { lab };
        let today = Zoned::now().datetime();
        let ago = |days: i64| today - jiff::Span::new().days(days);
        world.chain("db/20260101", &[ago(9), ago(8)]);
        world.chain("db/20260102", &[ago(7)]);
        world.chain("db/20260102/.archives/chain-2026-01-02", &[ago(7)]);
        world.chain("db/20260102/.archives/chain-2026-01-02.1", &[ago(7)]);
        world.chain("web/202601", &[ago(5)]);
        world.chain("acc", &[ago(4), ago(3), ago(2)]);
        world.chain("acc/.archives/chain-2025-12-01", &[ago(40)]);
        for (dir, file) in [("notes", "a"), ("_state/logs", "b"), (".hidden/202601", "c"), ("web/lost", "d")]
        {
            fs::create_dir_all(world.at(dir)).expect("a folder");
            fs::write(world.at(dir).join(file), "theirs").expect("a file");
        }
        world
    }

    fn at(&self, path: &str) -> PathBuf {
        self.lab.backup_path().join(path)
    }

    fn chain(&self, path: &str, dates: &[jiff::civil::DateTime]) {
        let vm = path.split('/').next().expect("a VM");
        write_chain(&self.at(path), vm, dates);
    }

    /// Runs `--prune` with these arguments and answers.
    fn prune(&self, arguments: &[&str], answer: &str) -> Output {
        let mut command = self.lab.vmbackup_command();
        command.arg("--prune").args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("vmbackup can be started");
        let mut stdin = child.stdin.take().expect("a pipe");
        // It may end without reading.
        let _ = stdin.write_all(answer.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("vmbackup ends")
    }

    #[track_caller]
    fn says(&self, arguments: &[&str], answer: &str, code: i32) -> String {
        let output = self.prune(arguments, answer);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
        String::from_utf8(output.stdout).expect("text")
    }

    /// All that is a file, below the backup path and without its state.
    fn files(&self) -> Vec<String> {
        let root = self.lab.backup_path();
        let find = must(Command::new("find").arg(&root).args(["-type", "f", "-printf", "%P\\n"]));
        let mut files: Vec<String> =
            find.lines().filter(|path| !path.starts_with("_state/")).map(str::to_owned).collect();
        files.sort();
        files
    }

    /// The bytes of all files and folders below, those with many names once.
    fn bytes(&self, path: &str) -> u64 {
        let found = must(Command::new("find").arg(self.at(path)).args(["-printf", "%i %s\\n"]));
        let each = found.lines().map(|line| line.split_once(' ').expect("an inode and a size"));
        let sizes: BTreeMap<&str, &str> = each.collect();
        sizes.values().map(|size| size.parse::<u64>().expect("a number")).sum()
    }
}

/// Sizes as the listing has them.
fn human(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{}.{} KiB", bytes / 1024, bytes % 1024 * 10 / 1024),
        _ => panic!("nothing here is so large"),
    }
}

#[test]
fn the_list_is_laid_out_as_documented() {
    let world = World::new("prune-list");
    let size = |path: &str| format!("{:>10}", human(world.bytes(path)));
    let active =
        |path: &str| format!("{:>10}", human(world.bytes(path) - world.bytes(&format!("{path}/.archives"))));
    let db = format!(
        "\
db                             {}    # --prune all --vm db
  20260101                     {}    # --prune period:20260101 --vm db
    active chain               {}    (2 data files)
    archives                            —

  20260102                     {}    # --prune period:20260102 --vm db
    active chain               {}    (1 data files)
    archives                   {}    (2 chains)     # --prune archives:20260102 --vm db
      chain-2026-01-02         {}{{one}}
      chain-2026-01-02.1       {}{{two}}

",
        size("db"),
        size("db/20260101"),
        size("db/20260101"),
        size("db/20260102"),
        active("db/20260102"),
        size("db/20260102/.archives"),
        size("db/20260102/.archives/chain-2026-01-02"),
        size("db/20260102/.archives/chain-2026-01-02.1"),
    );
    let own = fs::metadata(world.at("acc")).expect("a folder").len();
    let whole = world.bytes("acc") - own;
    let acc = format!(
        "\
acc                            {}    # --prune all --vm acc
  accumulate                   {:>10}    # --prune period:accumulate --vm acc
    active chain               {:>10}    (3 data files)
    archives                   {}    (1 chain)      # --prune archives:accumulate --vm acc
      chain-2025-12-01         {}

",
        size("acc"),
        human(whole),
        human(whole - world.bytes("acc/.archives")),
        size("acc/.archives"),
        size("acc/.archives/chain-2025-12-01"),
    );
    let web = format!(
        "\
web                            {}    # --prune all --vm web
  202601                       {}    # --prune period:202601 --vm web
    active chain               {}    (1 data files)
    archives                            —

",
        size("web"),
        size("web/202601"),
        size("web/202601"),
    );
    let archives = world.bytes("acc/.archives") + world.bytes("db/20260102/.archives");
    let total = world.bytes("acc") + world.bytes("db") + world.bytes("web");
    let footer = format!("Total: 3 VMs, {} (archives: {})", human(total), human(archives));
    let want = format!(
        "\nvmbackup prune — backup inventory\n\n{acc}{}{web}{footer:<40}    # --prune archives\n\n",
        db.replace("{one}", "").replace("{two}", "")
    );
    let before = world.files();
    assert_eq!(world.says(&["list"], "", STORAGE_OK), want);
    let commands = |name: &str| format!("    # --prune chain:{name} --vm db");
    let want = format!(
        "\nvmbackup prune — backup inventory\n\n{}Total: {} (archives: {})\n\n",
        db.replace("{one}", &commands("chain-2026-01-02")).replace("{two}", &commands("chain-2026-01-02.1")),
        human(world.bytes("db")),
        human(world.bytes("db/20260102/.archives")),
    );
    assert_eq!(world.says(&["list", "--vm", "db"], "", STORAGE_OK), want);
    let json: Value = serde_json::from_str(&world.says(&["list", "--json"], "", STORAGE_OK)).expect("JSON");
    assert_eq!(json["vms"][1]["periods"][1]["archives"][1]["name"], "chain-2026-01-02.1");
    assert_eq!(json["vms"][1]["size_bytes"], world.bytes("db"));
    assert_eq!(
        world.says(&["list", "--vm", "none"], "", STORAGE_OK),
        "No backup data found for VM: none\nWhat there is: vmbackup --prune list\n"
    );
    assert_eq!(world.files(), before);
    assert!(!world.at("_state/vmbackup.db").exists(), "a list only reads");
}

#[test]
fn a_comma_in_a_name_is_no_list_also_where_there_are_only_copies() {
    let world = World::new("prune-comma");
    let list = world.says(&["list", "--vm", "db"], "", STORAGE_OK);
    assert_eq!(world.says(&["list", "--vm", "db,"], "", STORAGE_OK), list);
    world.chain("a_b/202601", &[Zoned::now().datetime()]);
    let set = world.at("a_b/202601");
    fs::rename(set.join("vda.full.data"), set.join("vda.copy.data")).expect("a stream");
    fs::rename(set.join("vmconfig.virtnbdbackup.0.xml"), set.join("vmconfig.copy.xml")).expect("a file");
    fs::remove_file(set.join("a_b.cpt")).expect("a list");
    fs::remove_dir_all(set.join("checkpoints")).expect("a folder");
    let refused = world.prune(&["all", "--vm", "a,b", "-y"], "");
    assert_eq!(refused.status.code(), Some(USAGE), "nobody says that it is one: {}", text(&refused));
    let definition = "<domain><name>a,b</name></domain>";
    fs::write(set.join("vmconfig.copy.xml"), definition).expect("a file");
    let list = world.says(&["list", "--vm", "a,b"], "", STORAGE_OK);
    assert!(list.contains("# --prune period:202601 --vm a_b\n"), "{list}");
    let shown = |vm: &str| world.says(&["period:202601", "--vm", vm, "--dry-run"], "", STORAGE_OK);
    for vm in ["a_b", "a,b", "a,b,"] {
        assert!(shown(vm).contains("period 202601 for"), "{vm}: {}", shown(vm));
    }
    world.says(&["all", "--vm", "a,b", "-y"], "", STORAGE_OK);
    assert!(!world.at("a_b").exists());
}

#[test]
fn nothing_is_removed_without_a_yes() {
    let world = World::new("prune-ask");
    let before = world.files();
    let preview = format!(
        "\nvmbackup prune — period 20260101 for db\n  Space to free: {}\n",
        human(world.bytes("db/20260101"))
    );
    let target = ["period:20260101", "--vm", "db"];
    let dry = world.says(&[&target[..], &["--dry-run"]].concat(), "y\n", STORAGE_OK);
    assert_eq!(dry, format!("{preview}  [DRY RUN] No data will be deleted.\n\n"));
    assert!(!world.at("_state/vmbackup.db").exists(), "a dry run writes no row");
    for (answer, end) in [("n\n", ""), ("\n", ""), ("yess\n", ""), ("", "\n")] {
        let said = world.says(&target, answer, STORAGE_OK);
        assert_eq!(said, format!("{preview}\n  Continue? [y/N] {end}Cancelled.\n"), "{answer:?}");
    }
    let json: Value = serde_json::from_str(&world.says(&[&target[..], &["--json"]].concat(), "", STORAGE_OK))
        .expect("JSON");
    assert_eq!(json["items"][0]["place"]["period"], "20260101");
    assert_eq!(json["free_bytes"], world.bytes("db/20260101"));
    assert_eq!(world.files(), before);
    let freed = human(world.bytes("db/20260101"));
    let said = world.says(&target, "YES\n", STORAGE_OK);
    let complete = format!("\nvmbackup prune — complete\n  Freed: {freed}\n");
    assert_eq!(said, format!("{preview}\n  Continue? [y/N] {complete}"));
    assert!(!world.at("db/20260101").exists());
    let log = fs::read_to_string(world.at("_state/logs/vmprune.log")).expect("a log");
    for marker in ["===== PRUNE MODE START =====", "===== PRUNE MODE END (exit=0) ====="] {
        assert_eq!(log.matches(marker).count(), 7, "{log}");
    }
}

#[test]
fn each_target_removes_its_part_and_says_so_in_the_database() {
    let world = World::new("prune-targets");
    let cases: [(&[&str], &str); 6] = [
        (&["chain:chain-2026-01-02.1", "--vm", "db"], "db/20260102/.archives/chain-2026-01-02.1/"),
        (&["archives:accumulate", "--vm", "acc"], "acc/.archives/"),
        (&["archives"], "db/20260102/.archives/"),
        (&["period:20260101", "--vm", "db"], "db/20260101/"),
        (&["all", "--vm", "acc"], "acc/"),
        (&["all", "--vm", "web"], "web/202601/"),
    ];
    for (arguments, gone) in cases {
        let mut want = world.files();
        want.retain(|file| !file.starts_with(gone));
        world.says(&[arguments, &["--yes"]].concat(), "", STORAGE_OK);
        assert_eq!(world.files(), want, "{arguments:?}");
    }
    assert!(!world.at("acc").exists() && !world.at("db/20260102/.archives").exists());
    assert!(world.at("web/lost/d").exists(), "what is no backup stays");
    let paths = |sql: &str| {
        let root = format!("{}/", world.lab.backup_path().display());
        world.lab.ask(sql).into_iter().map(|path| path.replace(&root, "")).collect::<Vec<_>>()
    };
    let want = [
        "archive_chain db/20260102/.archives/chain-2026-01-02.1",
        "archive_chain acc/.archives/chain-2025-12-01",
        "archive_chain db/20260102/.archives/chain-2026-01-02",
        "period db/20260101",
        "period acc",
        "period web/202601",
    ];
    let sql = "SELECT target_type || ' ' || target_path FROM retention_events
        WHERE action = 'delete' AND action_source = 'prune' AND freed_bytes > 0 ORDER BY id";
    assert_eq!(paths(sql), want);
    let sql = "SELECT vm_name || ' ' || period_id FROM chain_health WHERE chain_status = 'purged' ORDER BY 1";
    assert_eq!(world.lab.ask(sql), ["acc accumulate", "db 20260101", "web 202601"]);
    assert_eq!(world.lab.ask("SELECT folder FROM restore_points"), ["db/20260102"]);
    let sql = "SELECT period_id FROM period_events WHERE event_type = 'period_deleted' ORDER BY id";
    assert_eq!(world.lab.ask(sql), ["20260101", "accumulate", "202601"]);
    let sql = "SELECT event_type || ' ' || vm_name FROM chain_events ORDER BY id";
    assert_eq!(world.lab.ask(sql).len(), 6);
    assert_eq!(world.lab.ask("SELECT operation FROM file_operations"), vec!["delete"; 6]);
    assert_eq!(world.lab.ask("SELECT session_type || status FROM sessions"), vec!["prunesuccess"; 6]);
    let mut removed = vec![];
    for session in session_reports(&world.lab) {
        assert_eq!(session.session.kind, SessionKind::Prune);
        assert_eq!(session.end.expect("it ended").status, SessionStatus::Success);
        let prune = session.prune.expect("what was deleted");
        let freed_bytes: u64 = prune.removals.iter().map(|one| one.freed_bytes).sum();
        // Of a chain without periods also the folder counts that it was put into for its removal.
        let is_exact = !prune.removals[0].what.starts_with("period accumulate");
        assert!(freed_bytes == prune.selected_bytes || !is_exact && freed_bytes > prune.selected_bytes);
        removed.extend(prune.removals.into_iter().map(|one| one.what));
    }
    let want = [
        "chain chain-2026-01-02.1 in db/20260102",
        "chain chain-2025-12-01 in acc/accumulate",
        "chain chain-2026-01-02 in db/20260102",
        "period 20260101 for db",
        "period accumulate for acc",
        "period 202601 for web",
    ];
    assert_eq!(removed, want);
}

#[test]
fn guards_hold_and_say_why() {
    let world = World::new("prune-guards");
    // Makes the database.
    world.says(&["archives:20260102", "--vm", "db", "--yes"], "", STORAGE_OK);
    let insert = "INSERT INTO chain_health (vm_name, period_id, chain_location, purge_eligible) VALUES (?1, ?2, '.', 0)
        ON CONFLICT(vm_name, period_id) DO UPDATE SET purge_eligible = 0";
    world.lab.database().execute(insert, ["db", "20260101"]).expect("a row");
    fs::write(world.at("acc/.archives/chain-2025-12-01/vda.full.data"), "broken").expect("a file");
    let protected = "Kept: period 20260101 for db: it is protected (purge_eligible = 0 in chain_health)";
    let last = "nothing else of this VM can be restored; --prune all removes everything of the VM";
    let cases: [(&[&str], &str); 4] = [
        (&["period:20260101", "--vm", "db"], protected),
        (&["all", "--vm", "db", "--dry-run"], protected),
        (&["period:202601", "--vm", "web"], last),
        (&["period:accumulate", "--vm", "acc"], last),
    ];
    let before = world.files();
    for (arguments, why) in cases {
        let said = world.says(&[arguments, &["--yes"]].concat(), "", STORAGE_OK);
        assert!(said.contains(why), "{arguments:?}: {said}");
        assert_eq!(world.files(), before, "{arguments:?}");
    }
    // With a database that cannot be asked nothing is known to be free.
    for helper in ["vmbackup.db", "vmbackup.db-wal", "vmbackup.db-shm"] {
        let _ = fs::remove_file(world.at("_state").join(helper));
    }
    fs::create_dir(world.at("_state/vmbackup.db")).expect("a folder in its place");
    let said = world.says(&["all", "--vm", "db", "--yes"], "", STORAGE_OK);
    assert!(said.contains("could not be asked"), "{said}");
    assert_eq!(world.files(), before);
}

#[test]
fn what_is_in_doubt_is_said_and_stays_unless_something_good_does() {
    let world = World::new("prune-doubt");
    let date = Zoned::now().datetime() - jiff::Span::new().days(2);
    write_doubtful(&world.at("doubt/20260102"), "doubt", date);
    let why = "nobody can tell whether it can be restored: files in it contradict each other; vmstream verify says more";
    let list = |more: &[&str]| world.says(&[&["list", "--vm", "doubt"], more].concat(), "", STORAGE_OK);
    let active = list(&[]);
    assert!(active.contains(&format!("(2 data files)\n      kept: {why}\n    archives ")), "{active}");
    let json: Value = serde_json::from_str(&list(&["--json"])).expect("JSON");
    assert_eq!(json["vms"][0]["periods"][0]["active"]["doubtful"], true);
    assert_eq!(world.says(&["list", "--vm", "db"], "", STORAGE_OK).matches("kept").count(), 0);
    let said = world.says(&["period:20260102", "--vm", "doubt", "--yes"], "", STORAGE_OK);
    assert!(said.contains(&format!("Kept: period 20260102 for doubt: {why}; --prune all")), "{said}");
    assert!(world.at("doubt/20260102/vda.full.data").exists());
    // Nor does it count as what the last good one may go for.
    world.chain("doubt/20260101", &[date - jiff::Span::new().days(1)]);
    let last = "nothing else of this VM can be restored";
    let said = world.says(&["period:20260101", "--vm", "doubt", "--yes"], "", STORAGE_OK);
    assert!(said.contains(last) && world.at("doubt/20260101").exists(), "{said}");
    world.says(&["period:20260102", "--vm", "doubt", "--yes"], "", STORAGE_OK);
    assert!(!world.at("doubt/20260102").exists(), "another one stays, and is good");
    write_doubtful(&world.at("doubt/20260101/.archives/chain-2026-01-01"), "doubt", date);
    let archived = list(&[]);
    assert!(
        archived.contains(&format!("chain:chain-2026-01-01 --vm doubt\n        kept: {why}\n")),
        "{archived}"
    );
    world.says(&["all", "--vm", "doubt", "--yes"], "", STORAGE_OK);
    assert!(!world.at("doubt").exists());
}

#[test]
fn what_is_not_there_or_no_target_is_refused() {
    let world = World::new("prune-refused");
    let before = world.files();
    let cases: [(&[&str], i32, &str); 8] = [
        (&["period:../web/202601", "--vm", "db"], USAGE, "is no period"),
        (&["period:config", "--vm", "db"], USAGE, "is no period"),
        (&["chain:", "--vm", "db"], USAGE, "is no archived chain"),
        (&["chain:../20260101", "--vm", "db"], USAGE, "is no archived chain"),
        (&["archives:.", "--vm", "db"], USAGE, "is no period"),
        (&["period:20260103", "--vm", "db"], VM, "VM db has no period 20260103"),
        (&["chain:chain-2020-01-01", "--vm", "db"], VM, "VM db has no archived chain chain-2020-01-01"),
        (&["all", "--vm", "nobody"], VM, "There are no backups of VM nobody"),
    ];
    for (arguments, code, why) in cases {
        let said = world.says(&[arguments, &["--yes"]].concat(), "", code);
        assert!(said.starts_with("Error: ") && said.contains(why), "{arguments:?}: {said}");
        assert_eq!(world.files(), before, "{arguments:?}");
    }
}

#[test]
fn a_vm_that_somebody_works_on_is_left_alone() {
    let world = World::new("prune-locked");
    let before = world.files();
    // The name is what the Bash programs go by.
    let mut worker = Command::new("bash")
        .args(["-c", "exec -a virtnbdbackup sleep 60"])
        .stdin(Stdio::null())
        .spawn()
        .expect("bash can be started");
    let named = |pid: u32| {
        fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline"))
            .is_ok_and(|line| line.starts_with(b"virt"))
    };
    while !named(worker.id()) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    fs::create_dir_all(world.at("_state/locks")).expect("a folder");
    fs::write(world.at("_state/locks/vmbackup-db.lock"), format!("{}\n", worker.id())).expect("a lock");
    let said = world.says(&["period:20260101", "--vm", "db", "--yes"], "", LOCKED);
    worker.kill().expect("it is ours");
    worker.wait().expect("it ends");
    assert!(said.contains("Freed: 0 B\n  Errors: 1 (check "), "{said}");
    assert_eq!(world.files(), before);
    fs::create_dir_all(world.at("_state/journal")).expect("a folder");
    fs::write(world.at("_state/journal/db.json"), "{}").expect("a journal");
    world.says(&["period:20260101", "--vm", "db", "--yes"], "", VM);
    assert_eq!(world.files(), before);
    fs::remove_file(world.at("_state/journal/db.json")).expect("it is there");
    world.says(&["period:20260101", "--vm", "db", "--yes"], "", STORAGE_OK);
    assert!(!world.at("db/20260101").exists());
}

#[test]
fn checkpoints_of_what_was_removed_are_still_ours() {
    let lab = Lab::new("prune-checkpoints");
    lab.configure(&[("DEFAULT_ROTATION_POLICY", "daily"), ("RETENTION_DAYS", "1")]);
    let vm = lab.paused_vm("web", &[DiskSpec::new("vda", 1 << 20)]);
    lab.run_well(&vm);
    lab.run_well(&vm);
    let output = lab.vmbackup(&["--prune", "all", "--yes", "--vm", vm.name()]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(lab.run_well(&vm).level(), "full");
    assert_eq!(vm.checkpoints(), ["virtnbdbackup.0"]);

    // While the VM is off libvirt keeps its checkpoint, and retention removes the chain.
    vm.destroy();
    let first = lab.chain_dir(&vm);
    let tomorrow = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24);
    let log = lab.run_at(&tomorrow.to_string(), &[&vm]).log;
    let day = first.file_name().and_then(|name| name.to_str()).expect("a period");
    assert!(
        !first.exists() && log.contains(&format!("] {}: period {day} was removed, ", vm.name())),
        "{log}"
    );
    assert!(log.contains(&format!("] {}: retention: deleted=1 aging=0 ", vm.name())), "{log}");
    vm.start_paused();
    assert_eq!(vm.checkpoints(), ["virtnbdbackup.0"]);
    lab.run_at(&tomorrow.to_string(), &[&vm]);
    assert_eq!(vm.checkpoints(), ["virtnbdbackup.0"]);
    assert!(lab.chain_dir(&vm).join("vda.full.data").exists());
    let noted = lab.backup_path().join("_state/removed-checkpoints").join(vm.name());
    assert!(!noted.exists(), "libvirt has none of them any more");
}
