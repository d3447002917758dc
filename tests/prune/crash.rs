//! A removal that is killed between two steps is ended by the next run.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use vmbackup::retention::{Initiator, Look, Place, PlannedRemoval, Remover, after_success, read_vm};

use super::book::Book;
use super::tree::{Tree, days_ago, period, rules, scope};

/// A VM with five days, a chain that accumulates, and archives of both.
fn tree() -> Tree {
    let tree = Tree::new();
    for (day, days) in [("20261122", 0), ("20261121", 1), ("20261120", 2), ("20261119", 3)] {
        tree.chain(&format!("web/{day}"), &[days_ago(days)]);
    }
    tree.chain("web/20261121/.archives/chain-2026-11-21", &[days_ago(1)]);
    tree.chain("web", &[days_ago(30)]);
    tree.chain("web/.archives/chain-2026-10-01", &[days_ago(60)]);
    tree
}

#[test]
fn the_next_run_ends_what_was_killed() {
    let places = [
        Place::period("web", &period("20261119")),
        Place::period("web", &period("accumulate")),
        Place::archive("web", &period("20261121"), "chain-2026-11-21"),
        Place::archive("web", &period("accumulate"), "chain-2026-10-01"),
    ];
    for place in places {
        for step in ["surveyed", "renamed", "recorded", "removed"] {
            let what = format!("{place} at {step}");
            let tree = tree();
            let untouched = tree.snapshot();
            let book = Book::default();
            let inventory =
                read_vm(&tree.store(), &tree.store().vm("web"), Look::Sizes).expect("an inventory");
            let dies = |at: &str| assert_ne!(at, step);
            let died = catch_unwind(AssertUnwindSafe(|| {
                let remover = Remover::open(&tree.path(), &book, &dies).expect("a backup path");
                let vm = &inventory.vms[0];
                remover.remove(vm, &PlannedRemoval::of(vm, place.clone(), Initiator::Prune))
            }));
            assert!(died.is_err(), "{what}");
            if step == "surveyed" {
                assert_eq!((tree.snapshot(), book.events()), (untouched, vec![]), "{what}");
                continue;
            }
            // What a reader sees is gone already.
            let seen = read_vm(&tree.store(), &tree.store().vm("web"), Look::Sizes).expect("an inventory");
            let periods = &seen.vms[0].periods;
            let sees = |period: &vmbackup::retention::PeriodTree| match &place.archive {
                None => period.id == place.period,
                Some(chain) => period.archives.iter().any(|archive| archive.name == *chain),
            };
            assert!(!periods.iter().any(sees), "{what}");
            assert_eq!(seen.leftovers.len(), usize::from(step != "removed"), "{what}");
            let rules = vmbackup::retention::Rules { days: 9, ..rules() };
            let current = period("20261122");
            after_success(&scope(&tree.path(), &current, &rules), &book).expect("retention");
            let left = tree.snapshot();
            let hidden: Vec<_> =
                left.keys().filter(|path| path.display().to_string().contains(".deleting")).collect();
            assert!(hidden.is_empty(), "{what}: {hidden:?}");
            let line = format!("removed prune {}", place.path().display());
            assert!(book.events().contains(&line), "{what}: {:?}", book.events());
            let checkpoints = fs::read_to_string(tree.at("_state/removed-checkpoints/web"));
            assert_eq!(checkpoints.expect("a note"), "virtnbdbackup.0 1795000000\n", "{what}");
            assert!(tree.at("web/20261122/vda.full.data").exists(), "{what}");
            let empty = tree.at("web/20261121/.archives");
            assert_eq!(empty.exists(), place.archive.as_deref() != Some("chain-2026-11-21"), "{what}");
        }
    }
}
