//! Periods and policies on real VMs, with the clock in the test's hand.

use std::fs;
use std::path::{Path, PathBuf};

use lab::{Bed, DiskSpec, Ended, History, Lab, Vm, text};
use vmstream::chain::BackupSet;

const MIB: u64 = 1 << 20;

fn small_vm(lab: &Lab, name: &str) -> Vm {
    lab.running_vm(name, &[DiskSpec::new("vda", 2 * MIB)])
}

/// One VM's chains, wherever they are by now.
struct Chains<'a> {
    bed: Bed<'a>,
    chains: Vec<(PathBuf, History)>,
}

impl<'a> Chains<'a> {
    fn new(lab: &'a Lab, name: &str) -> Self {
        Self { bed: Bed::of(lab, small_vm(lab, name)), chains: vec![] }
    }

    /// Writes something, backs up on a day, and expects this level in this period, for this reason.
    #[track_caller]
    fn run(&mut self, now: &str, level: &str, period: &str, why: &str) -> Ended {
        let stamp = self.bed.stamp();
        let Bed { lab, vm, .. } = &self.bed;
        vm.write("vda", u64::from(stamp) * 4096, 512, stamp).expect("a write");
        let ended = lab.run_at(now, &[vm]);
        let (dir, got) = ended.place();
        assert_eq!((ended.level().as_str(), got.as_str()), (level, period), "{now}: {ended:#?}");
        assert!(ended.why().contains(why), "{now}: {:?} is not in {:?}", why, ended.why());
        assert!(!ended.log.contains("ERROR"), "{now}: {}", ended.log);
        let row = "SELECT status, backup_type, rotation_policy, backup_path, restore_points, retry_attempt, chain_archived,
            bytes_written > 0, chain_size_bytes > 0, created_at FROM vm_backups ORDER BY id DESC LIMIT 1";
        let (full, number) = (level == "full", level.trim_start_matches("incremental ").parse::<usize>());
        let (kind, points) = if full { ("full", 1) } else { ("auto", number.expect("a number") + 1) };
        let policy = match period.len() {
            4.. if period == "accumulate" => "accumulate",
            6 => "monthly",
            _ if period.contains('W') => "weekly",
            _ => "daily",
        };
        let archived = u8::from(ended.report("archived_to") != "null");
        let at = now.get(..16).expect("a time").replace('T', " ");
        let want = format!("success|{kind}|{policy}|{}|{points}|0|{archived}|1|1|{at}", dir.display());
        let got = lab.ask(row).concat();
        assert!(got.starts_with(&want), "{now}: {got} is not {want}");
        let there = self.chains.iter().position(|(chain, _)| *chain == dir);
        if level == "full" {
            let archive = ended.report("archived_to");
            match there {
                Some(there) => self.chains[there].0 = PathBuf::from(archive),
                None => assert_eq!(archive, "null", "{now}"),
            }
            self.chains.push((dir, History::default()));
        }
        let at = if level == "full" { self.chains.len() - 1 } else { there.expect("a chain goes on") };
        self.chains[at].1.note(lab, vm);
        ended
    }

    /// Everything that was ever taken can be restored where it is said to be, and the database knows of that and no more.
    #[track_caller]
    fn assert_all(&self) {
        let lab = self.bed.lab;
        let mut promised = Vec::new();
        for (dir, history) in &self.chains {
            history.assert_restorable(lab, dir);
            let folder = dir.strip_prefix(lab.backup_path()).expect("a folder below the backup path");
            let points = BackupSet::open(dir).expect("a chain").points;
            promised.extend(points.iter().map(|point| format!("{}|{}|1", folder.display(), point.id)));
        }
        promised.sort();
        let known = "SELECT folder, point, restorable FROM restore_points ORDER BY folder || '|' || point";
        assert_eq!(lab.ask(known), promised);
    }
}

fn overrides(lab: &Lab, file: &str, lines: &str) {
    fs::write(lab.config_dir().join("default").join(file), lines).expect("a configuration");
}

fn folders(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a folder").flatten().filter(|entry| entry.path().is_dir());
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

#[test]
fn periods_begin_by_the_calendar_and_the_day_of_fulls() {
    let lab = Lab::new("periods");
    let mut chains = Chains::new(&lab, "calendar");
    let name = chains.bed.vm.name().to_owned();
    // Local time decides, not UTC.
    lab.configure(&[("DEFAULT_ROTATION_POLICY", "monthly"), ("CHECKPOINT_FORCE_FULL_ON_DAY", "20")]);
    chains.run("2026-11-22T01:00:00Z", "full", "202611", "first backup");
    chains.run("2026-11-30T23:30:00Z", "incremental 1", "202611", "continues");
    chains.run("2026-12-01T01:00:00Z", "full", "202612", "a new period begins, after 202611");
    chains.run("2026-12-20T01:00:00Z", "full", "202612", "day 20");
    chains.run("2026-12-20T23:00:00Z", "incremental 1", "202612", "continues");
    // The clock is set back over the boundary: no second chain.
    chains.run("2027-01-01T01:00:00Z", "full", "202701", "a new period begins");
    let ended = chains.run("2026-12-31T23:00:00Z", "incremental 1", "202701", "continues");
    assert!(ended.warnings().contains("the clock says 2026-12-31"), "{}", ended.warnings());
    chains.run("2027-01-02T01:00:00Z", "incremental 2", "202701", "continues");
    chains.assert_all();
    let periods = "SELECT event_type, period_id, previous_period FROM period_events ORDER BY id";
    let want = [
        "period_created|202611|",
        "period_closed|202611|",
        "period_created|202612|202611",
        "period_closed|202612|",
        "period_created|202701|202612",
    ];
    assert_eq!(lab.ask(periods), want);
    let archived =
        "SELECT period_id, archive_reason, checkpoint_count, total_chain_bytes > 0 FROM chain_events
        WHERE event_type = 'chain_archived'";
    assert_eq!(lab.ask(archived), ["202612|forced_full|1|1"]);
    let health = "SELECT period_id, chain_status, total_checkpoints FROM chain_health ORDER BY period_id";
    assert_eq!(lab.ask(health), ["202611|active|2", "202612|active|2", "202701|active|3"]);
    assert_eq!(lab.ask("SELECT DISTINCT status, session_type FROM sessions"), ["success|targeted"]);
    assert_eq!(folders(&lab.backup_path().join(&name)), ["202611", "202612", "202701"]);
}

#[test]
fn a_policy_may_change_to_any_other_and_back() {
    let lab = Lab::new("policies");
    let mut chains = Chains::new(&lab, "policies");
    let name = chains.bed.vm.name().to_owned();
    let policy =
        |word: &str| lab.configure(&[("DEFAULT_ROTATION_POLICY", word), ("ACCUMULATE_HARD_LIMIT", "3")]);
    policy("monthly");
    chains.run("2026-11-22T01:00:00Z", "full", "202611", "first backup");
    policy("weekly");
    chains.run("2026-11-23T01:00:00Z", "full", "2026-W48", "under the policy weekly");
    // By its exact name, and a pattern for another VM that does not match.
    overrides(
        &lab,
        "vm_overrides.conf",
        &format!("declare -A VM_POLICY\nVM_POLICY[\"{}\"]=\"daily\"\n", name),
    );
    overrides(&lab, "exclude_patterns.conf", "EXCLUDE_PATTERNS+=(\"nobody-*\")\n");
    chains.run("2026-11-24T01:00:00Z", "full", "20261124", "under the policy daily");
    chains.run("2026-11-25T01:00:00Z", "full", "20261125", "after 20261124");
    overrides(&lab, "vm_overrides.conf", &format!("VM_POLICY[{}]=accumulate\n", name));
    chains.run("2026-11-26T01:00:00Z", "full", "accumulate", "under the policy accumulate");
    chains.run("2027-03-01T01:00:00Z", "incremental 1", "accumulate", "continues");
    chains.run("2027-03-02T01:00:00Z", "incremental 2", "accumulate", "continues");
    chains.run("2027-03-03T01:00:00Z", "full", "accumulate", "3 restore points, its limit");
    assert_eq!(chains.chains.last().expect("chains").0, lab.backup_path().join(&name));
    overrides(&lab, "vm_overrides.conf", "");
    policy("monthly");
    // Back in a period whose chain the VM has left, and which could not be repaired: that is no damage.
    lab.configure(&[("ENABLE_AUTO_RECOVERY_ON_CHECKPOINT_CORRUPTION", "no")]);
    chains.run("2026-11-27T01:00:00Z", "full", "202611", "newer chain in another folder");
    chains.run("2026-11-28T01:00:00Z", "incremental 1", "202611", "continues");
    chains.assert_all();
    let changes = "SELECT previous_value || '->' || setting_value FROM config_events
        WHERE event_type = 'policy_change' ORDER BY id";
    let want = ["monthly->weekly", "weekly->daily", "daily->accumulate", "accumulate->monthly"];
    assert_eq!(lab.ask(changes), want);
    let names = "SELECT DISTINCT setting_name, config_source, triggered_by FROM config_events
        WHERE event_type = 'policy_change'";
    assert_eq!(lab.ask(names), ["rotation_policy||detect_policy_change"]);
    let told = "SELECT status, error_code, substr(error_message, 16) FROM vm_backups WHERE error_code <> '' ORDER BY id";
    assert_eq!(lab.ask(told), want.map(|change| format!("success|POLICY_CHANGE|{change}")));
    let defaults =
        "SELECT previous_value, setting_value FROM config_events WHERE event_type = 'config_changed'";
    assert_eq!(lab.ask(defaults), ["monthly|weekly", "weekly|monthly"]);
    // To exclude a VM takes no backup under another policy.
    policy("never");
    assert_eq!(lab.run(&chains.bed.vm).vm_status(), "excluded");
    assert_eq!(lab.ask(changes).len(), want.len());
    assert_eq!(lab.ask("SELECT status, error_code FROM vm_backups ORDER BY id DESC LIMIT 1"), ["excluded|"]);
}

#[test]
fn a_period_without_a_replica_stays_where_replicas_are_required() {
    let lab = Lab::new("replicas");
    let mut chains = Chains::new(&lab, "replicas");
    let name = chains.bed.vm.name().to_owned();
    let require = |rule: &str| {
        let policy = [("DEFAULT_ROTATION_POLICY", "daily"), ("RETENTION_DAYS", "2")];
        lab.configure(&[&policy[..], &[("RETENTION_REQUIRE_REPLICATION", rule)]].concat());
    };
    // As a replication writes it down.
    let replicated = |period: &str, status: &str| {
        let rows = "INSERT INTO replication_runs (session_id, endpoint_name, endpoint_type, status)
            SELECT session_id, 'nas', 'local', 'STATUS' FROM vm_backups WHERE backup_path LIKE '%/PERIOD';
            INSERT INTO replication_vms (run_id, vm_name, status)
            SELECT (SELECT MAX(id) FROM replication_runs), vm_name, 'STATUS' FROM vm_backups WHERE backup_path LIKE '%/PERIOD'";
        let rows = rows.replace("PERIOD", period).replace("STATUS", status);
        lab.database().execute_batch(&rows).expect("rows");
    };
    let periods = || folders(&lab.backup_path().join(&name));
    let told = "SELECT action, target_period, preserve_reason FROM retention_events ORDER BY id DESC LIMIT 1";
    require("block");
    chains.run("2026-11-01T01:00:00Z", "full", "20261101", "first backup");
    chains.run("2026-11-02T01:00:00Z", "full", "20261102", "after 20261101");
    replicated("20261102", "success");
    replicated("20261101", "failed");
    chains.run("2026-11-03T01:00:00Z", "full", "20261103", "after 20261102");
    assert_eq!(periods(), ["20261101", "20261102", "20261103"]);
    assert_eq!(lab.ask(told), ["skip|20261101|unreplicated"]);
    chains.assert_all();
    replicated("20261101", "success");
    chains.run("2026-11-04T01:00:00Z", "full", "20261104", "after 20261103");
    assert_eq!(periods(), ["20261103", "20261104"]);
    require("warn");
    let ended = chains.run("2026-11-05T01:00:00Z", "full", "20261105", "after 20261104");
    assert_eq!(periods(), ["20261104", "20261105"]);
    assert_eq!(lab.ask(told), ["delete|20261103|"]);
    assert!(ended.log.contains("20261103") && ended.log.contains("replica"), "{}", ended.log);
}

#[test]
fn a_vm_that_is_excluded_is_left_alone_also_when_it_is_named() {
    let lab = Lab::configured("excluded");
    let vm = small_vm(&lab, "excluded");
    overrides(
        &lab,
        "exclude_patterns.conf",
        &format!("EXCLUDE_PATTERNS+=(\"{}@(exc|inc)*\")\n", lab.prefix()),
    );
    overrides(&lab, "vm_overrides.conf", &format!("VM_POLICY[\"{}\"]=\"daily\"\n", vm.name()));
    let ended = lab.run(&vm);
    assert_eq!((ended.status.code(), ended.vm_status().as_str()), (Some(0), "excluded"), "{ended:#?}");
    assert!(ended.log.contains("policy never (EXCLUDE_PATTERNS"), "{}", ended.log);
    assert!(!lab.backup_path().join(vm.name()).exists());
    let row = "SELECT status, backup_type, backup_method, rotation_policy, event_type FROM vm_backups";
    assert_eq!(lab.ask(row), ["excluded|n/a|excluded|never|vm_excluded"]);
    let row = "SELECT event_type, setting_name, setting_value, applied_to, config_source FROM config_events
        WHERE event_type LIKE 'config%'";
    let file = lab.config_dir().join("default/vmbackup.conf");
    let want = format!("config_loaded|BACKUP_ROTATION_POLICY|monthly|all_vms|{}", file.display());
    assert_eq!(lab.ask(row), [want]);
    let log = fs::read_to_string(lab.backup_path().join("_state/logs/vmbackup.log")).expect("a log");
    assert!(
        log.contains(" │ EXCLUDED │ ") && !log.contains("BACKUP END: "),
        "one line for it is enough: {log}"
    );
    let plan = lab.vmbackup(&["--run", "--dry-run", "--vm", vm.name()]);
    assert!(text(&plan).contains("not backed up: policy never"), "{}", text(&plan));
    // What names nothing is told once, by a run and by a look.
    overrides(&lab, "vm_overrides.conf", "VM_POLICY[\"no-such-vm\"]=\"daily\"\n");
    overrides(&lab, "exclude_patterns.conf", "EXCLUDE_PATTERNS+=(\"no-such-*\" \"*\")\n");
    overrides(&lab, "fstrim_exclude.conf", "no-such-?\n");
    lab.configure(&[("VIRTNBD_EXCLUDE_DISKS", "vda,xvdq")]);
    let run = text(&lab.vmbackup(&["--run", "--vm", vm.name()]));
    let check = text(&lab.vmbackup(&["--check", "--vm", vm.name()]));
    for words in [
        "VM_POLICY[no-such-vm]: this host has no VM of that name",
        "EXCLUDE_PATTERNS: \"no-such-*\" fits no VM of this host",
        "fstrim_exclude.conf: \"no-such-?\" fits no VM of this host",
        "VIRTNBD_EXCLUDE_DISKS: no VM of this host has a disk xvdq",
    ] {
        for said in [&run, &check] {
            assert_eq!(said.matches(words).count(), 1, "{words:?}: {said}");
        }
    }
    assert!(!run.contains("a disk vda") && !run.contains("\"*\" fits"), "{run}");
    overrides(&lab, "vm_overrides.conf", &format!("VM_POLICY[\"{}\"]=\"fortnightly\"\n", vm.name()));
    let refused = lab.vmbackup(&["--run", "--vm", vm.name()]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
    assert!(text(&refused).contains("daily, weekly, monthly, accumulate or never"), "{}", text(&refused));
}
