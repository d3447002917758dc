//! A year of backups: one recorded as facts, day by day, and one on real VMs in long strides.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jiff::civil::{Date, DateTime, date};
use jiff::{ToSpan, Zoned};
use lab::{DiskSpec, History, Lab, Vm, VmSpec, must};
use random::Random;
use serde_json::Value;
use vmbackup::retention::{self, OrphanRule, PeriodFacts, PeriodId, Replica, RetentionDecision};
use vmconfig::value::{AutoRecovery, OfflineMode, RotationPolicy};
use vmplan::rotation::{Period, Placement};
use vmplan::{
    ChainFacts, CheckpointFacts, Decision, DiskFacts, Facts, ImageFacts, OfflineFacts, Origin, Rules, Why,
    plan_backup,
};
use vmstream::chain::CheckpointName;

const MIB: u64 = 1 << 20;

const POLICIES: [RotationPolicy; 4] =
    [RotationPolicy::Daily, RotationPolicy::Weekly, RotationPolicy::Monthly, RotationPolicy::Accumulate];

/// Restore points at which an accumulating chain ends, in both years.
const HARD_LIMIT: usize = 9;

// ---------------------------------------------------------------------------------------------------------------------
// The recorded year: facts only, so that every day of 400 and many VMs fit into a second.

/// What a folder would hold.
#[derive(Clone, Debug)]
struct Folder {
    /// Points of its chain.
    points: u32,
    began: Date,
    newest: DateTime,
    /// Points in its archives.
    archived: u32,
}

/// A VM as its folders and libvirt would tell.
#[derive(Clone, Debug)]
struct Recorded {
    policy: RotationPolicy,
    folders: BTreeMap<String, Folder>,
    /// Whose chain libvirt's checkpoints are.
    checkpoints_of: Option<String>,
    /// Every point ever taken, less what retention said it removed.
    promised: u32,
}

fn rules() -> retention::Rules {
    let orphans = OrphanRule { enabled: true, max_age_days: 60, min_age_days: 5, dry_run: false };
    retention::Rules { days: 5, weeks: 3, months: 2, orphans, require_replica: false }
}

impl Recorded {
    fn new(policy: RotationPolicy) -> Self {
        Self { policy, folders: BTreeMap::new(), checkpoints_of: None, promised: 0 }
    }

    fn seen(&self, placement: &Placement, key: &str) -> Facts {
        let chain = self.folders.get(key);
        let points: Vec<_> = (0..chain.map_or(0, |c| c.points)).map(CheckpointName::new).collect();
        let owner = self.checkpoints_of.as_ref();
        let of_owner = owner.and_then(|owner| self.folders.get(owner)).map_or(0, |chain| chain.points);
        let origin = |n| if owner.is_some_and(|o| o == key) { Origin::Chain(n) } else { Origin::OlderChain };
        let checkpoint = |n| {
            let name = CheckpointName::new(n);
            CheckpointFacts { name: name.to_string(), origin: origin(name) }
        };
        Facts {
            placement: placement.clone(),
            rules: Rules {
                warn_depth: 5,
                hard_limit: HARD_LIMIT as u32,
                full_day: 15,
                recovery: AutoRecovery::No,
                skip_unchanged: true,
                offline_settle: Duration::from_secs(60),
                offline_mode: OfflineMode::Copy,
            },
            failed: None,
            unseen_change: None,
            noted_changes: vec![],
            active: true,
            chain: ChainFacts {
                has_files: !points.is_empty(),
                points,
                began: chain.map(|chain| chain.began),
                ..ChainFacts::default()
            },
            checkpoints: (0..of_owner).map(checkpoint).collect(),
            redefinable: vec![],
            bitmap_fault: None,
            copies_disks: true,
            disks: vec![DiskFacts {
                target: "vda".into(),
                size: 1,
                keeps_bitmaps: true,
                has_bitmap: true,
                size_in_chain: Some(1),
                raw_in_chain: false,
                image: ImageFacts::Own,
            }],
            offline: OfflineFacts::Changed,
            obstacle: None,
        }
    }

    /// One run, and what has to be true after it.
    fn run(&mut self, now: DateTime) {
        let folders: Vec<String> = self.folders.keys().cloned().collect();
        let placement = Placement::choose(self.policy, now.date(), &folders).expect("a policy with backups");
        let key = placement.folder.clone().unwrap_or_else(|| placement.period.clone());
        let plan = plan_backup(&self.seen(&placement, &key));
        match plan.decision {
            Decision::Incremental { parent, .. } => {
                assert_eq!(self.checkpoints_of.as_deref(), Some(key.as_str()), "{now}: {self:?}");
                let chain = self.folders.get_mut(&key).expect("a chain goes on");
                assert_eq!(parent.number() + 1, chain.points, "{now}");
                chain.points += 1;
                chain.newest = now;
                let today = Period::of(self.policy, now.date()).map(|period| period.to_string());
                assert!(placement.clock_behind || today.is_none_or(|today| today == key), "{now}: {key}");
                assert!(placement.policy != RotationPolicy::Accumulate || chain.points <= HARD_LIMIT as u32);
            }
            Decision::Full { archive } => {
                let before = self.folders.get(&key).map(|chain| chain.points + chain.archived);
                assert_eq!(archive, before.is_some(), "{now}: what is there is archived");
                let planned =
                    !matches!(plan.why, Why::CheckpointLost(_) | Why::BitmapLost(_) | Why::ChainBroken(_));
                assert!(planned, "{now}: {:?} is no reason here", plan.why);
                let chain =
                    Folder { points: 1, began: now.date(), newest: now, archived: before.unwrap_or(0) };
                self.folders.insert(key.clone(), chain);
                self.checkpoints_of = Some(key.clone());
            }
            other => panic!("{now}: {other:?}"),
        }
        self.promised += 1;
        self.retain(now, &placement);
        let there: u32 = self.folders.values().map(|chain| chain.points + chain.archived).sum();
        assert_eq!(there, self.promised, "{now}: {self:?}");
        assert!(self.folders.contains_key(&key), "{now}: what was just written is there");
    }

    fn retain(&mut self, now: DateTime, placement: &Placement) {
        let id = |name: &str| PeriodId::parse(name).expect("a period");
        let period = |(name, chain): (&String, &Folder)| PeriodFacts {
            id: id(name),
            size_bytes: 1,
            newest: Some(chain.newest),
            definition_only: false,
            protected: Some(false),
            doubtful: false,
            replica: Replica::NotUsed,
        };
        let seen = retention::Facts {
            policy: self.policy,
            current: id(&placement.period),
            complete: true,
            keeper: Some(id(&placement.period)),
            periods: self.folders.iter().map(period).collect(),
        };
        let plan = retention::plan(&seen, &rules(), now);
        for verdict in plan
            .verdicts
            .iter()
            .filter(|verdict| matches!(verdict.decision, RetentionDecision::Delete { .. }))
        {
            let gone = self.folders.remove(verdict.period.as_str()).expect("it was there");
            self.promised -= gone.points + gone.archived;
        }
        // What a wrong clock dated later than now does not count, and stays.
        let dated = self.folders.iter().filter(|(_, chain)| chain.newest <= now);
        let kept = dated.filter_map(|(name, _)| Period::parse(name));
        let kept = kept.filter(|period| period.policy() == self.policy).count();
        let limit = match self.policy {
            RotationPolicy::Daily => 5,
            RotationPolicy::Weekly => 3,
            _ => 2,
        };
        assert!(kept <= limit, "{now}: {kept} periods: {:?}", self.folders.keys());
    }
}

#[test]
fn four_hundred_days_of_six_vms_by_their_facts() {
    let mut random = Random::from_environment("LAB_SEED");
    let mut vms: Vec<Recorded> = (0..6).map(|n| Recorded::new(POLICIES[n % 4])).collect();
    let mut day = date(2026, 9, 1);
    for run in 0..400_u64 {
        day = day.tomorrow().expect("a day");
        // Now and then the clock is off by some days, or months, for one run.
        let off = match random.below(40) {
            0 => -(random.below(20) as i64),
            1 => random.below(20) as i64,
            2 => 200,
            _ => 0,
        };
        let shown = day.saturating_add(off.days());
        if random.below(12) == 0 {
            let vm = random.below(6) as usize;
            vms[vm].policy = POLICIES[random.below(4) as usize];
        }
        if run % 97 == 96 {
            let vm = random.below(6) as usize;
            vms[vm] = Recorded::new(vms[vm].policy);
        }
        for (number, vm) in vms.iter_mut().enumerate() {
            // Some VMs are backed up twice a day, some not on every day.
            for hour in 0..random.below(3) as i8 {
                vm.run(shown.at(hour * 8 + number as i8, 0, 0, 0));
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The real year: two VMs, daylight saving, New Year, changing policies, a VM that goes and one that comes.

/// Where the clock is put forward and back, twice a year.
const ZONE: &str = "Europe/Berlin";

/// One VM's chains that were not removed, each where it is now.
struct Real {
    vm: Vm,
    chains: Vec<(PathBuf, History)>,
    stamp: u64,
}

impl Real {
    fn new(vm: Vm) -> Self {
        vm.resume();
        Self { vm, chains: vec![], stamp: 0 }
    }

    fn change(&mut self) {
        self.stamp += 1;
        let offset = (self.stamp * 8192) % MIB;
        self.vm.write("vda", offset, 4096, (self.stamp % 250) as u8 + 1).expect("a write");
    }

    /// Takes note of what a run did: the new point, the archive, the periods that retention removed.
    fn note(&mut self, lab: &Lab, now: &str, outcome: &Value) {
        assert_eq!(outcome["status"], "ok", "{now}: {outcome:#}");
        let dir = PathBuf::from(outcome["dir"].as_str().expect("a folder"));
        let report = &outcome["report"];
        let full = report["plan"]["decision"].get("Full").is_some();
        if let Some(archive) = report["archived_to"].as_str() {
            let chain = self.chains.iter_mut().find(|(chain, _)| *chain == dir).expect("a chain is archived");
            chain.0 = PathBuf::from(archive);
        }
        if full {
            self.chains.push((dir.clone(), History::default()));
        }
        let chain = self.chains.iter_mut().find(|(chain, _)| *chain == dir);
        let chain = chain.unwrap_or_else(|| panic!("{now}: no chain to go on with in {}", dir.display()));
        chain.1.note(lab, &self.vm);
        let verdicts = outcome["retention"]["plan"]["verdicts"].as_array().expect("retention has its say");
        for gone in verdicts.iter().filter(|verdict| verdict["fate"].get("delete").is_some()) {
            let period = gone["period"].as_str().or(gone["period"]["text"].as_str()).expect("a period");
            assert_ne!(Some(period), outcome["period"].as_str(), "{now}");
            let folder = lab.backup_path().join(self.vm.name()).join(period);
            assert!(!folder.exists(), "{now}: {} was to go", folder.display());
            self.chains.retain(|(chain, _)| !chain.starts_with(&folder));
        }
    }

    /// Every chain that was not removed is there, and the database says so too.
    fn assert_there(&self, lab: &Lab, now: &str) {
        for (dir, history) in &self.chains {
            let text = dir.to_str().expect("text");
            let quick = lab.vmstream(&["verify", "--quick", "--json", "--no-archives", text]);
            let found: Value = serde_json::from_slice(&quick.stdout).expect("JSON");
            let good = found["sets"][0]["good_points"].as_array().map_or(0, Vec::len);
            assert_eq!(good, history.len(), "{now}: {text}: {found:#}");
        }
        let name = self.vm.name();
        let sql = format!(
            "SELECT chain_location, total_checkpoints FROM chain_health WHERE vm_name = '{name}' AND chain_status = 'active'"
        );
        for row in lab.ask(&sql) {
            let (dir, points) = row.rsplit_once('|').expect("two columns");
            let chain = self.chains.iter().find(|(chain, _)| chain == Path::new(dir));
            let (_, history) = chain.unwrap_or_else(|| panic!("{now}: the database promises {dir}"));
            assert_eq!(history.len().to_string(), points, "{now}: {dir}");
        }
    }

    fn assert_restorable(&self, lab: &Lab) {
        for (dir, history) in &self.chains {
            history.assert_restorable(lab, dir);
        }
    }
}

fn run(lab: &Lab, now: &Zoned, vms: &mut [&mut Real]) {
    vms.iter_mut().for_each(|real| real.change());
    let handles: Vec<&Vm> = vms.iter().map(|real| &real.vm).collect();
    let mut command = lab.run_command(&handles);
    command.env("VMBACKUP_TEST_NOW", now.timestamp().to_string()).env("TZ", ZONE);
    let output = command.output().expect("vmbackup can be started");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{now}: {log}");
    assert!(!log.contains("ERROR"), "{now}: {log}");
    let result: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for real in vms {
        let outcomes = result["vms"].as_array().expect("VMs").iter();
        let outcome = outcomes.clone().find(|o| o["vm"] == real.vm.name()).expect("each VM has a result");
        real.note(lab, &now.to_string(), outcome);
        real.assert_there(lab, &now.to_string());
    }
}

#[test]
fn a_year_of_two_vms_on_the_real_thing() {
    let lab = Lab::new("year");
    let one = |name: &str| {
        let vm = lab.define(&VmSpec::new(name).disk(DiskSpec::new("vda", MIB)));
        vm.start_paused();
        Real::new(vm)
    };
    let limits = [
        ("RETENTION_DAYS", "3"),
        ("RETENTION_WEEKS", "2"),
        ("RETENTION_MONTHS", "2"),
        ("RETENTION_ORPHAN_MAX_AGE_DAYS", "40"),
        ("RETENTION_ORPHAN_MIN_AGE_DAYS", "5"),
        ("ACCUMULATE_HARD_LIMIT", "9"),
        ("CHECKPOINT_FORCE_FULL_ON_DAY", "15"),
    ];
    let policy = |word: &str| lab.configure(&[&limits[..], &[("DEFAULT_ROTATION_POLICY", word)]].concat());
    let at = |text: &str| -> Zoned { format!("{text}[{ZONE}]").parse().expect("a moment") };
    let mut stays = one("stays");
    let mut comes_and_goes = None;
    // (begins, stride in hours, runs, policy): over both changes of the clock, and New Year under two policies.
    let stretches = [
        ("2026-10-24T22:30", 12, 8, "daily"),
        ("2026-11-01T01:00", 24 * 4, 8, "weekly"),
        ("2026-12-27T23:30", 24, 9, "weekly"),
        ("2027-01-10T02:30", 24 * 9, 8, "monthly"),
        ("2027-03-27T02:30", 12, 6, "daily"),
        ("2027-04-02T01:00", 24 * 5, 11, "accumulate"),
        ("2027-06-01T01:00", 24 * 6, 8, "weekly"),
        ("2027-08-01T01:00", 24 * 20, 5, "monthly"),
    ];
    for (number, (begins, hours, runs, word)) in stretches.into_iter().enumerate() {
        policy(word);
        match number {
            1 => comes_and_goes = Some(one("comes")),
            // Gone: its backups stay as they are, with nobody to add to them.
            3 => must(
                Command::new("virsh")
                    .args(["-q", "destroy"])
                    .arg(comes_and_goes.as_ref().expect("a VM").vm.name()),
            )
            .clear(),
            _ => {}
        }
        let begins = at(begins);
        for step in 0..runs {
            let now = begins.saturating_add((i64::from(step) * hours).hours());
            let mut vms = vec![&mut stays];
            if (1..3).contains(&number) {
                vms.extend(comes_and_goes.as_mut());
            }
            run(&lab, &now, &mut vms);
        }
        stays.assert_restorable(&lab);
    }
    let comes_and_goes = comes_and_goes.expect("a VM");
    comes_and_goes.assert_restorable(&lab);
    comes_and_goes.assert_there(&lab, "in the end");
    let entries = fs::read_dir(lab.backup_path()).expect("a folder").flatten();
    let folders: BTreeSet<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let want = [stays.vm.name(), comes_and_goes.vm.name(), "_state"].map(str::to_owned);
    assert_eq!(folders, BTreeSet::from(want));
}
