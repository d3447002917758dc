//! Each row of the decision table.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, date};
use vmstream::chain::CheckpointName;

use super::rotation::Placement;
use super::*;
use crate::{AutoRecovery, OfflineMode, RotationPolicy};

/// A Sunday, and no day of fulls.
const TODAY: Date = date(2026, 11, 22);

fn cp(n: u32) -> CheckpointName {
    CheckpointName::new(n)
}

fn known(n: u32) -> CheckpointFacts {
    CheckpointFacts { name: cp(n).to_string(), origin: Origin::Chain(cp(n)) }
}

fn placement(policy: RotationPolicy, today: Date, folders: &[&str]) -> Placement {
    let folders: Vec<String> = folders.iter().map(|name| (*name).to_owned()).collect();
    Placement::choose(policy, today, &folders).unwrap()
}

fn disk(target: &str) -> DiskFacts {
    DiskFacts {
        target: target.into(),
        size: 10,
        keeps_bitmaps: true,
        has_bitmap: true,
        size_in_chain: Some(10),
        raw_in_chain: false,
        image: ImageFacts::Own,
    }
}

/// A running domain with a chain of two points, all well.
fn healthy() -> Facts {
    Facts {
        placement: placement(RotationPolicy::Monthly, TODAY, &["202611"]),
        rules: Rules {
            warn_depth: 100,
            hard_limit: 365,
            full_day: 1,
            recovery: AutoRecovery::Yes,
            skip_unchanged: true,
            offline_settle: Duration::from_secs(60),
            offline_mode: OfflineMode::Copy,
        },
        failed: None,
        unseen_change: None,
        noted_changes: vec![],
        active: true,
        chain: ChainFacts {
            points: vec![cp(0), cp(1)],
            has_files: true,
            began: Some(date(2026, 11, 3)),
            ..ChainFacts::default()
        },
        checkpoints: vec![known(0), known(1)],
        redefinable: vec![],
        bitmap_fault: None,
        copies_disks: true,
        disks: vec![disk("vda")],
        offline: OfflineFacts::Changed,
        obstacle: None,
    }
}

fn copy_on_disk() -> ChainFacts {
    ChainFacts { is_copy: true, has_files: true, ..ChainFacts::default() }
}

/// What a row of the table says, before it is written out.
#[derive(Clone)]
enum Want {
    Incremental,
    Full { archive: bool, drops: usize },
    Copy,
    Skip,
    Refuse(Refusal),
}

#[track_caller]
fn check(case: &str, change: impl Fn(&mut Facts), want: Want, why: Why) {
    let mut seen = healthy();
    change(&mut seen);
    let plan = plan_backup(&seen);
    let (decision, drops) = match want {
        Want::Incremental => (Decision::Incremental { parent: cp(1), name: cp(2) }, 0),
        Want::Full { archive, drops } => (Decision::Full { archive }, drops),
        Want::Copy => (Decision::Copy { archive: seen.chain.has_files }, 0),
        Want::Skip => (Decision::Skip, 0),
        Want::Refuse(refusal) => (Decision::Refuse(refusal), 0),
    };
    assert_eq!((&plan.decision, &plan.why), (&decision, &why), "{case}");
    assert_eq!(plan.drop_checkpoints.len(), drops, "{case}: {plan:?}");
}

/// The chain is archived and the two checkpoints go.
const ANEW: Want = Want::Full { archive: true, drops: 2 };

#[test]
fn a_chain_begins() {
    let empty = |s: &mut Facts, folders: &[&str], policy| {
        s.chain = ChainFacts::default();
        s.placement = placement(policy, TODAY, folders);
        s.checkpoints.iter_mut().for_each(|c| c.origin = Origin::OlderChain);
    };
    let first = |s: &mut Facts| {
        empty(s, &[], RotationPolicy::Monthly);
        s.checkpoints.clear();
    };
    let full = |drops| Want::Full { archive: false, drops };
    check("first", first, full(0), Why::NoChain);
    let boundary = |s: &mut Facts| empty(s, &["202610"], RotationPolicy::Monthly);
    check("boundary", boundary, full(2), Why::NewPeriod("202610".into()));
    // A boundary is planned: no setting about damage has a say.
    for recovery in [AutoRecovery::Warn, AutoRecovery::No] {
        let off = |s: &mut Facts| {
            boundary(s);
            s.rules.recovery = recovery;
        };
        check("boundary, recovery off", off, full(2), Why::NewPeriod("202610".into()));
    }
    let policy = |s: &mut Facts| empty(s, &["202611"], RotationPolicy::Weekly);
    check("policy changed", policy, full(2), Why::NewPolicy(RotationPolicy::Weekly));
    let back = |s: &mut Facts| {
        s.checkpoints.iter_mut().for_each(|c| c.origin = Origin::OlderChain);
        s.rules.recovery = AutoRecovery::No;
    };
    check("policy changed to and fro", back, ANEW, Why::WasElsewhere);
    check("after a copy", |s| s.chain = copy_on_disk(), ANEW, Why::AfterCopy);
}

#[test]
fn a_disk_with_a_new_image_is_added_to_the_chain_that_goes_on() {
    let replaced = |s: &mut Facts| {
        let new = DiskFacts { image: ImageFacts::Replaced, has_bitmap: false, ..disk("vdb") };
        s.disks.push(new);
    };
    check("replaced", replaced, Want::Incremental, Why::ChainContinues);
    let mut seen = healthy();
    replaced(&mut seen);
    assert_eq!(plan_backup(&seen).notes, [Note::DiskReplaced("vdb".into())]);
    let resized = |s: &mut Facts| {
        replaced(s);
        s.disks[1].size = 11;
    };
    check("of another size", resized, ANEW, Why::DiskResized("vdb".into()));
}

#[test]
fn where_no_disk_keeps_bitmaps_all_is_copied() {
    let without = |s: &mut Facts| s.disks[0].keeps_bitmaps = false;
    check("qcow2 of version 2", without, Want::Copy, Why::NoBitmaps);
    check("raw", |s| s.disks.clear(), Want::Copy, Why::NoBitmaps);
    let foreign = |s: &mut Facts| {
        without(s);
        s.checkpoints[0].origin = Origin::Foreign;
    };
    check("beside checkpoints of others", foreign, Want::Copy, Why::NoBitmaps);
    let none = |s: &mut Facts| {
        s.disks.clear();
        s.copies_disks = false;
    };
    check("no disk", none, Want::Copy, Why::DefinitionOnly);
    let off = |s: &mut Facts| {
        without(s);
        s.active = false;
        s.rules.offline_mode = OfflineMode::Incremental;
    };
    check("off, to be incremental", off, Want::Copy, Why::ShutOff);
    let off = |s: &mut Facts| {
        none(s);
        s.active = false;
    };
    check("off, no disk", off, Want::Copy, Why::DefinitionOnly);
}

#[test]
fn a_chain_goes_on_or_begins_anew() {
    check("all well", |_| {}, Want::Incremental, Why::ChainContinues);
    check("other VM", |s| s.chain.other_vm = Some("u".into()), ANEW, Why::OtherVm("u".into()));
    let failed = Why::LastTryFailed("x".into());
    check("last try failed", |s| s.failed = Some("x".into()), ANEW, failed);
    check("zstd from now on", |s| s.chain.has_other_suffix = true, ANEW, Why::OtherCompression);
    check("disk shrank", |s| s.disks[0].size = 9, ANEW, Why::DiskResized("vda".into()));
    check("disk grew", |s| s.disks[0].size = 11, ANEW, Why::DiskResized("vda".into()));
    check("disk converted", |s| s.disks[0].raw_in_chain = true, ANEW, Why::DiskConverted("vda".into()));
    check("all disks replaced", |s| s.disks[0].has_bitmap = false, ANEW, Why::OtherDisks);
    let added =
        |s: &mut Facts| s.disks.push(DiskFacts { has_bitmap: false, size_in_chain: None, ..disk("vdb") });
    check("disk added", added, Want::Incremental, Why::ChainContinues);
    let removed = |s: &mut Facts| s.disks = vec![disk("vdb")];
    check("disk removed", removed, Want::Incremental, Why::ChainContinues);
    let older = |s: &mut Facts| {
        s.checkpoints.push(CheckpointFacts { name: cp(7).to_string(), origin: Origin::OlderChain });
    };
    let mut seen = healthy();
    older(&mut seen);
    assert_eq!(plan_backup(&seen).drop_checkpoints, [cp(7).to_string()], "only what no chain goes on from");
}

#[test]
fn damage_is_repaired_unless_that_is_switched_off() {
    type Change = fn(&mut Facts);
    let list = |s: &mut Facts| s.chain.broken = Some(Broken::List("x".into()));
    let data = |s: &mut Facts| s.chain.broken = Some(Broken::Data("x".into()));
    let lost = |s: &mut Facts| drop(s.checkpoints.pop());
    let bitmap = |s: &mut Facts| s.bitmap_fault = Some("x".into());
    let broken = Why::ChainBroken("x".into());
    // (case, change, why, checkpoints left, whether the setting has a say)
    let put_back = |s: &mut Facts| s.disks[0].image = ImageFacts::PutBack;
    let exchanged = |s: &mut Facts| s.disks[0].image = ImageFacts::OfDisk("vdb".into());
    let unseen = |s: &mut Facts| {
        s.unseen_change =
            Some(UnseenChange { disk: "vda".into(), at: 65_536, doubtful: vec![], again: false });
    };
    let changed_unseen = Why::ChangedUnseen { disk: "vda".into(), at: 65_536 };
    let of_other = Why::DiskExchanged { target: "vda".into(), of: "vdb".into() };
    let cases: [(&str, Change, Why, usize, bool); 7] = [
        ("checkpoint lost", lost, Why::CheckpointLost(cp(1).to_string()), 1, true),
        ("bitmap lost", bitmap, Why::BitmapLost("x".into()), 2, true),
        ("image put back", put_back, Why::DiskPutBack("vda".into()), 2, true),
        ("changed unseen", unseen, changed_unseen, 2, true),
        ("image of another disk", exchanged, of_other, 2, true),
        ("list damaged", list, broken.clone(), 2, true),
        ("data lost", data, broken, 2, false),
    ];
    for (case, change, why, drops, has_a_say) in cases {
        check(case, change, Want::Full { archive: true, drops }, why.clone());
        for recovery in [AutoRecovery::Warn, AutoRecovery::No] {
            let off = |s: &mut Facts| {
                change(s);
                s.rules.recovery = recovery;
            };
            let refused = Want::Refuse(Refusal::RecoveryOff);
            let want = if has_a_say { refused } else { Want::Full { archive: true, drops } };
            check(case, off, want, why.clone());
        }
    }
}

#[test]
fn what_can_be_given_back_is_and_the_chain_goes_on() {
    let mut seen = healthy();
    seen.rules.recovery = AutoRecovery::No;
    seen.checkpoints.clear();
    seen.redefinable = vec![cp(0).to_string(), cp(1).to_string()];
    let plan = plan_backup(&seen);
    assert_eq!(plan.decision, Decision::Incremental { parent: cp(1), name: cp(2) });
    let back = |n| Repair::RedefineCheckpoint(cp(n).to_string());
    assert_eq!(plan.repairs, [back(0), back(1)]);
    // An older one helps nobody without the last.
    seen.redefinable.pop();
    seen.rules.recovery = AutoRecovery::Yes;
    let plan = plan_backup(&seen);
    assert_eq!((plan.decision, plan.repairs), (Decision::Full { archive: true }, vec![]));
    let mut seen = healthy();
    seen.chain.lost_xml = vec![cp(0).to_string()];
    let plan = plan_backup(&seen);
    assert_eq!(plan.decision, Decision::Incremental { parent: cp(1), name: cp(2) });
    assert_eq!(plan.repairs, [Repair::WriteCheckpointXml(cp(0).to_string())]);
}

#[test]
fn a_domain_that_is_shut_off() {
    let off = |s: &mut Facts| s.active = false;
    let copied = |s: &mut Facts| {
        off(s);
        s.chain = copy_on_disk();
        s.offline = OfflineFacts::Unchanged;
    };
    check("a chain is there", off, Want::Copy, Why::ShutOff);
    check("copied before", copied, Want::Skip, Why::Unchanged);
    let changed = |s: &mut Facts| {
        copied(s);
        s.offline = OfflineFacts::Changed;
    };
    check("changed since", changed, Want::Copy, Why::ShutOff);
    let always = |s: &mut Facts| {
        copied(s);
        s.rules.skip_unchanged = false;
    };
    check("never skipped", always, Want::Copy, Why::ShutOff);
    let unnoted = |same_definition| {
        move |s: &mut Facts| {
            copied(s);
            let disk = DiskSize { target: "vda".into(), size: 10 };
            let [began, written] = [1000, 1005].map(|second| Some(Timestamp::from_second(second).unwrap()));
            s.offline = OfflineFacts::Unnoted(UnnotedCopy {
                same_definition,
                disks: vec![disk.clone()],
                copied: vec![CopiedDisk { disk, began, written: written.unwrap() }],
                files: Ok(vec![]),
                untold: None,
            });
        }
    };
    check("copied by another program", unnoted(true), Want::Skip, Why::Unchanged);
    let in_doubt = Why::ShutOffInDoubt(Doubt::OtherDefinition.to_string());
    check("redefined since", unnoted(false), Want::Copy, in_doubt);
    for active in [false, true] {
        let to_start = |s: &mut Facts| {
            unnoted(false)(s);
            (s.active, s.rules.offline_mode) = (active, OfflineMode::Incremental);
        };
        let why = Why::AfterCopyInDoubt(Doubt::OtherDefinition.to_string());
        check("redefined since, and to be started", to_start, ANEW, why);
    }
    let damaged = |s: &mut Facts| {
        unnoted(true)(s);
        s.chain.broken = Some(Broken::Data("x".into()));
    };
    check("that copy is damaged", damaged, Want::Copy, Why::ShutOffInDoubt("it is not complete: x".into()));
    let never = |s: &mut Facts| {
        unnoted(true)(s);
        s.rules.skip_unchanged = false;
    };
    check("it is never skipped", never, Want::Copy, Why::ShutOff);
    let foreign = |s: &mut Facts| {
        copied(s);
        s.checkpoints[0].origin = Origin::Foreign;
    };
    check("somebody else's checkpoint is not in the way", foreign, Want::Skip, Why::Unchanged);
}

#[test]
fn a_domain_that_is_shut_off_and_may_be_started() {
    let off = |s: &mut Facts| {
        s.active = false;
        s.rules.offline_mode = OfflineMode::Incremental;
    };
    let with = |change: &dyn Fn(&mut Facts)| {
        let mut seen = healthy();
        off(&mut seen);
        change(&mut seen);
        plan_backup(&seen)
    };
    check("a chain is there", off, Want::Incremental, Why::ChainContinues);
    assert!(with(&|_| {}).start && !plan_backup(&healthy()).start);
    let copied = |s: &mut Facts| {
        off(s);
        s.chain = copy_on_disk();
    };
    check("a copy is there", copied, ANEW, Why::AfterCopy);
    let lost = |s: &mut Facts| {
        off(s);
        s.bitmap_fault = Some("x".into());
    };
    check("its bitmaps are gone", lost, ANEW, Why::BitmapLost("x".into()));
    let unchanged = |s: &mut Facts| {
        off(s);
        s.offline = OfflineFacts::Unchanged;
    };
    check("nothing changed since its last point", unchanged, Want::Skip, Why::Unchanged);
    let broken = |s: &mut Facts| {
        unchanged(s);
        s.chain.broken = Some(Broken::Data("x".into()));
    };
    check("but that point is damaged", broken, ANEW, Why::ChainBroken("x".into()));
    let foreign = |s: &mut Facts| s.checkpoints[0].origin = Origin::Foreign;
    let plan = with(&foreign);
    assert!(matches!(plan.decision, Decision::Refuse(_)) && !plan.start, "{plan:?}");
    let plan = with(&|s| s.obstacle = Some("x".into()));
    assert_eq!((plan.decision, plan.start), (Decision::Copy { archive: true }, false));
    assert_eq!(plan.notes, [Note::NotStarted("x".into())]);
}

#[test]
fn the_day_of_fulls_comes_once_and_only_for_chains_that_end_by_date() {
    let on = |policy, today: Date, began: Date, full_day| {
        move |s: &mut Facts| {
            s.placement = placement(policy, today, &[]);
            s.chain.began = Some(began);
            s.rules.full_day = full_day;
        }
    };
    let (weekly, monthly) = (RotationPolicy::Weekly, RotationPolicy::Monthly);
    let first = date(2026, 12, 1);
    let day = |n| date(2026, 11, n);
    let goes_on = |case, change| check(case, change, Want::Incremental, Why::ChainContinues);
    check("in mid-week", on(weekly, first, day(30), 1), ANEW, Why::FullDay(1));
    check("in mid-month", on(monthly, TODAY, day(3), 22), ANEW, Why::FullDay(22));
    check("day 31 of a shorter month", on(monthly, day(30), day(3), 31), ANEW, Why::FullDay(31));
    goes_on("its second run", on(monthly, TODAY, TODAY, 22));
    goes_on("another day", on(monthly, TODAY, day(3), 21));
    goes_on("daily chains are of that day", on(RotationPolicy::Daily, TODAY, TODAY, 22));
    goes_on("accumulating chains do not end by date", on(RotationPolicy::Accumulate, TODAY, day(3), 22));
    goes_on("31 on the 30th of a longer month", on(monthly, date(2026, 12, 30), date(2026, 12, 1), 31));
}

#[test]
fn an_accumulating_chain_warns_and_ends_by_its_restore_points() {
    let with = |points: u32| {
        let mut seen = healthy();
        seen.placement = placement(RotationPolicy::Accumulate, TODAY, &[]);
        seen.rules = Rules { warn_depth: 3, hard_limit: 4, ..seen.rules };
        seen.chain.points = (0..points).map(cp).collect();
        seen.checkpoints = (0..points).map(known).collect();
        plan_backup(&seen)
    };
    let long = |points| vec![Note::LongChain { points, limit: 4 }];
    // (points before, why, notes)
    let cases = [
        (1, Why::ChainContinues, vec![]),
        (2, Why::ChainContinues, long(3)),
        (3, Why::ChainContinues, long(4)),
        (4, Why::ChainLimit(4), vec![]),
    ];
    for (points, why, notes) in cases {
        let plan = with(points);
        assert_eq!((plan.why, plan.notes), (why, notes), "{points}");
        let full = Decision::Full { archive: true };
        assert_eq!(plan.decision == full, points == 4, "{points}");
    }
}

#[test]
fn a_clock_that_was_set_back_is_said() {
    let mut seen = healthy();
    seen.placement = placement(RotationPolicy::Monthly, TODAY, &["202612", "202611"]);
    let plan = plan_backup(&seen);
    assert_eq!(plan.decision, Decision::Incremental { parent: cp(1), name: cp(2) });
    assert_eq!(plan.notes, [Note::ClockBehind { period: "202612".into(), today: TODAY }]);
}

#[test]
fn a_foreign_checkpoint_is_never_touched() {
    for name in ["mine", "virtnbdbackup.2"] {
        let mut seen = healthy();
        seen.checkpoints.push(CheckpointFacts { name: name.into(), origin: Origin::Foreign });
        let plan = plan_backup(&seen);
        assert_eq!(plan.decision, Decision::Refuse(Refusal::ForeignCheckpoints(vec![name.into()])));
        assert!(plan.drop_checkpoints.is_empty());
    }
}

#[test]
fn whatever_archives_a_chain_tells_that_it_changed_unseen() {
    let change = |disk: &str| UnseenChange {
        disk: disk.into(),
        at: 65_536,
        doubtful: vec![cp(1).to_string()],
        again: false,
    };
    type Change = fn(&mut Facts);
    let retry: Change = |s| s.failed = Some("x".into());
    let lost: Change = |s| s.checkpoints.clear();
    let copied: Change = |s| s.active = false;
    let goes_on: Change = |_| {};
    let first: Change = |s| s.chain = ChainFacts::default();
    for (case, with, tells) in [
        ("another try", retry, true),
        ("another run", lost, true),
        ("a copy", copied, true),
        ("an increment", goes_on, false),
        ("nothing to archive", first, false),
    ] {
        let mut seen = healthy();
        with(&mut seen);
        seen.noted_changes = vec![change("vda")];
        let want = if tells { vec![Note::ChangedUnseen(change("vda"))] } else { vec![] };
        assert_eq!(plan_backup(&seen).notes, want, "{case}");
    }
    // Once for a disk, as this try found it.
    let mut seen = healthy();
    seen.noted_changes = vec![change("vda"), change("vdb")];
    seen.unseen_change = Some(UnseenChange { at: 0, ..change("vda") });
    let notes = [UnseenChange { at: 0, ..change("vda") }, change("vdb")].map(Note::ChangedUnseen);
    assert_eq!(plan_backup(&seen).notes, notes);
}
