//! Random trees and rules: what goes is exactly what the plan says, and what is promised stays.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use jiff::civil::DateTime;
use random::Random;
use vmbackup::retention::{
    OrphanRule, PeriodId, Plan, RetentionDecision, Rules, Why, after_success, preview,
};
use vmconfig::value::RotationPolicy;
use vmstream::chain::{BackupSet, PointDisk, Severity};

use super::book::Book;
use super::tree::{Tree, days_ago, period, rules, scope, write_doubtful};

/// A period's name for a day so many days ago.
fn name(policy: RotationPolicy, days: i64) -> String {
    let format = match policy {
        RotationPolicy::Daily => "%Y%m%d",
        RotationPolicy::Weekly => "%G-W%V",
        _ => "%Y%m",
    };
    days_ago(days).date().strftime(format).to_string()
}

const POLICIES: [RotationPolicy; 3] =
    [RotationPolicy::Daily, RotationPolicy::Weekly, RotationPolicy::Monthly];

/// Breaks a chain in one of the ways that happen, puts it in doubt, or leaves it.
fn maybe_break(dir: &Path, date: DateTime, random: &mut Random) {
    let full = dir.join("vda.full.data");
    match random.below(8) {
        0 => fs::remove_file(&full).expect("it is there"),
        1 => fs::write(&full, "garbage").expect("it can be written"),
        2 => fs::write(dir.join("web.cpt"), "[").expect("it can be written"),
        3 => write_doubtful(dir, "web", date),
        _ => {}
    }
}

/// The worst problem of a set of which everything can be read; `None` also for one that has none.
fn worst(dir: &Path) -> Result<Option<Severity>, ()> {
    BackupSet::open(dir).map_err(drop).and_then(|set| {
        let streams = || set.points.iter().flat_map(|point| point.disks.values());
        let readable = |disk: &PointDisk| matches!(disk, PointDisk::Stream(entry) if entry.meta.is_ok());
        let any = |severity| set.problems.iter().any(|problem| problem.severity() == severity);
        let worst = [Severity::Damage, Severity::Doubt].into_iter().find(|severity| any(*severity));
        if streams().count() > 0 && streams().all(readable) { Ok(worst) } else { Err(()) }
    })
}

/// Every folder of the tree with a chain of which nothing, or doubt, is the worst that can be said.
fn chains(tree: &Tree, wanted: Option<Severity>) -> BTreeSet<String> {
    let found = vmstream::chain::Tree::of(&tree.at("web")).sets;
    let found = found.into_iter().filter(|dir| worst(dir) == Ok(wanted));
    found.map(|dir| dir.strip_prefix(tree.path()).expect("below").display().to_string()).collect()
}

struct Case {
    tree: Tree,
    current: PeriodId,
    rules: Rules,
    book: Book,
}

fn random_case(random: &mut Random) -> Case {
    let tree = Tree::new();
    let policy = POLICIES[random.below(3) as usize];
    let current = name(policy, 0);
    let last = tree.chain(&format!("web/{current}"), &[days_ago(0)]);
    maybe_break(&last, days_ago(0), random);
    let mut protected = BTreeSet::new();
    for _ in 0..random.below(9) {
        let made_by = if random.below(3) > 0 { policy } else { POLICIES[random.below(3) as usize] };
        let days = 1 + random.below(200) as i64;
        let id = name(made_by, days);
        let dir = format!("web/{id}");
        if tree.at(&dir).exists() {
            continue;
        }
        let dates: Vec<_> =
            (0..=random.below(2) as i64).rev().map(|later| days_ago(days - later.min(days))).collect();
        maybe_break(&tree.chain(&dir, &dates), days_ago(days), random);
        if random.below(3) == 0 {
            tree.chain(&format!("{dir}/.archives/chain-2026-01-01"), &[days_ago(days + 1)]);
        }
        if random.below(5) == 0 {
            protected.insert(id);
        }
    }
    for folder in ["web/notes", "web/tpm-state", "webb/202601", "other/20200101"] {
        fs::create_dir_all(tree.at(folder)).expect("a folder");
    }
    let orphans = OrphanRule {
        enabled: random.below(4) > 0,
        max_age_days: random.below(100) as u32,
        min_age_days: random.below(20) as u32,
        dry_run: random.below(4) == 0,
    };
    let limit = random.below(4) as u32;
    let rules = Rules { days: limit, weeks: limit, months: limit, orphans, ..rules() };
    let book = Book { protected, lost: random.below(10) == 0, ..Book::default() };
    Case { tree, current: period(&current), rules, book }
}

/// The periods that go, and why the others stay.
fn fates(plan: &Plan) -> (BTreeSet<String>, Vec<(String, Why)>) {
    let (mut gone, mut kept) = (BTreeSet::new(), Vec::new());
    for verdict in &plan.verdicts {
        match verdict.decision {
            RetentionDecision::Delete { .. } => drop(gone.insert(verdict.period.to_string())),
            RetentionDecision::Keep(why) => kept.push((verdict.period.to_string(), why)),
        }
    }
    (gone, kept)
}

#[test]
fn what_goes_is_what_the_plan_says_and_what_is_promised_stays() {
    let mut random = Random::from_environment("LAB_SEED");
    for round in 0..150 {
        let Case { tree, current, rules, book } = random_case(&mut random);
        let path = tree.path();
        let scope = scope(&path, &current, &rules);
        let before = tree.snapshot();
        let (sound_before, doubtful_before) = (chains(&tree, None), chains(&tree, Some(Severity::Doubt)));
        preview(&scope, &book).expect("a plan");
        assert_eq!(tree.snapshot(), before, "round {round}: a preview changed something");
        let report = after_success(&scope, &book).expect("retention");
        assert_eq!(report.failures, Vec::<String>::new(), "round {round}");
        let (gone, kept) = fates(&report.plan);
        let doomed = |path: &std::path::PathBuf| {
            gone.iter().any(|period| path.starts_with(format!("backups/web/{period}")))
        };
        let mut want = before;
        want.retain(|path, _| !doomed(path));
        assert_eq!(tree.snapshot(), want, "round {round}: {:?}", report.plan);
        assert_eq!(report.removed, gone.len(), "round {round}");
        // What is promised.
        assert!(!gone.contains(current.as_str()), "round {round}: the period just written");
        assert!(gone.is_disjoint(&book.protected), "round {round}: a protected period");
        assert!(!book.lost || gone.is_empty(), "round {round}: without a database");
        assert!(sound_before.is_empty() || !chains(&tree, None).is_empty(), "round {round}: the last chain");
        let doubtful = chains(&tree, Some(Severity::Doubt));
        assert_eq!(doubtful, doubtful_before, "round {round}: what is in doubt is not for a rule to drop");
        assert!(!sound_before.is_empty() || gone.is_empty(), "round {round}: nothing could be restored");
        let of_policy = |id: &str| period(id).kind() == current.kind();
        let stay = kept.iter().filter(|(id, _)| of_policy(id)).count();
        let dated = stay + gone.iter().filter(|id| of_policy(id)).count();
        let limit = rules.limit(scope.policy).expect("a limit");
        assert!(stay >= limit.min(dated), "round {round}: {stay} of {dated} stay, {limit} are promised");
        for id in gone.iter().filter(|id| !of_policy(id)) {
            let verdict = report.plan.verdicts.iter().find(|v| v.period.as_str() == id).expect("its verdict");
            assert!(
                verdict.age_days >= Some(rules.orphans.max_age_days.into()),
                "round {round}: {verdict:?}"
            );
            assert!(rules.orphans.enabled && !rules.orphans.dry_run, "round {round}: {verdict:?}");
        }
        // Again: nothing more goes.
        let after = tree.snapshot();
        let again = after_success(&scope, &book).expect("retention");
        assert_eq!((again.removed, tree.snapshot()), (0, after), "round {round}");
    }
}
