//! What a prune target selects in an inventory, and which guards hold part of that back. Pure.

use serde::Serialize;
use vmplan::retention::{PeriodId, Replica, Why};

use super::inventory::{Inventory, PeriodTree, VmTree};
use super::place::Place;
use super::target::Target;

/// There is no such thing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// No backups of that VM.
    #[error("There are no backups of VM {0}. What there is: vmbackup --prune list")]
    Vm(String),
    /// The VM has no such period.
    #[error("VM {vm} has no period {period}. What there is: vmbackup --prune list --vm {vm}")]
    Period { vm: String, period: PeriodId },
    /// The VM has no such chain.
    #[error("VM {vm} has no archived chain {chain}. What there is: vmbackup --prune list --vm {vm}")]
    Chain { vm: String, chain: String },
}

/// What a target selects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Selection {
    /// In words.
    pub description: String,
    /// In the order it is removed.
    pub items: Vec<Item>,
}

/// One thing that was selected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Where it stands.
    pub place: Place,
    pub size_bytes: u64,
    /// Restore points in it.
    pub points: u32,
    /// What holds it; `None` when it goes.
    pub kept: Option<Why>,
    /// It has no replica, though others have.
    pub unreplicated: bool,
}

/// What is known of the VM that an item belongs to.
pub struct Guards<'a> {
    /// A set of this VM that can be restored: one that stays, if there is one; else one that is selected.
    pub keeper: Option<Place>,
    /// True when nothing tells whether what is in a place can be restored. Asked only where no other set that can be stays.
    pub doubtful: &'a dyn Fn(&Place) -> bool,
    /// As [`RetentionLog::protected`](super::retention_log::RetentionLog::protected).
    pub protected: &'a dyn Fn(&PeriodId) -> Option<bool>,
    /// As [`RetentionLog::replica`](super::retention_log::RetentionLog::replica).
    pub replica: &'a dyn Fn(&PeriodId) -> Replica,
}

impl Selection {
    /// Finds what a target means. `vm` is the name that was asked for, if one was, and the inventory is that VM's.
    pub fn of(target: &Target, vm: Option<&str>, inventory: &Inventory) -> Result<Self, SelectError> {
        let Some(name) = vm else {
            let items = inventory.vms.iter().flat_map(|vm| vm.periods.iter().flat_map(|p| archives(vm, p)));
            return Ok(Self { description: "all archives for all VMs".to_owned(), items: items.collect() });
        };
        let Some(vm) = inventory.vms.first() else { return Err(SelectError::Vm(name.to_owned())) };
        let found = |period: &PeriodId| {
            let missing = || SelectError::Period { vm: name.to_owned(), period: period.clone() };
            vm.period(period).ok_or_else(missing)
        };
        let (description, items) = match target {
            Target::List | Target::Archives => {
                let items = vm.periods.iter().flat_map(|period| archives(vm, period)).collect();
                (format!("all archives for {name}"), items)
            }
            Target::ArchivesOf(period) => {
                (format!("archives in {name}/{period}"), archives(vm, found(period)?).collect())
            }
            Target::Chain(chain) => {
                let mut all = vm.periods.iter().flat_map(|period| archives(vm, period));
                let item = all.find(|item| item.place.archive.as_ref() == Some(chain));
                let missing = || SelectError::Chain { vm: name.to_owned(), chain: chain.clone() };
                let item = item.ok_or_else(missing)?;
                (format!("chain {chain} in {name}/{}", item.place.period), vec![item])
            }
            Target::Period(period) => {
                (format!("period {period} for {name}"), vec![whole(vm, found(period)?)])
            }
            Target::All => {
                (format!("ALL data for {name}"), vm.periods.iter().map(|period| whole(vm, period)).collect())
            }
        };
        Ok(Self { description, items })
    }

    /// True for a set that goes with one of the items.
    pub fn takes(&self, set: &Place) -> bool {
        self.items.iter().any(|item| item.place.holds(set))
    }

    /// Lets the guards hold items of one VM. With everything of the VM selected only protection counts.
    pub fn guard(&mut self, target: &Target, vm: &VmTree, guards: &Guards<'_>) {
        let stays = vm.sets().into_iter().any(|(set, _)| !self.takes(&set));
        // Then a person may take what is in doubt, too.
        let another_stays = guards.keeper.as_ref().is_some_and(|keeper| !self.takes(keeper));
        for item in self.items.iter_mut().filter(|item| item.place.vm == vm.folder) {
            let last = match &guards.keeper {
                Some(keeper) if item.place.holds(keeper) => Some(Why::LastRestorable),
                _ if !another_stays && (guards.doubtful)(&item.place) => Some(Why::Doubtful),
                Some(_) => None,
                None => (!stays && item.points > 0).then_some(Why::LastPeriod),
            };
            item.kept = match (guards.protected)(&item.place.period) {
                None => Some(Why::ProtectionUnknown),
                Some(true) => Some(Why::Protected),
                Some(false) if *target == Target::All => None,
                Some(false) => last,
            };
            item.unreplicated =
                item.place.archive.is_none() && (guards.replica)(&item.place.period) == Replica::Missing;
        }
    }

    pub fn going(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| item.kept.is_none())
    }
}

fn whole(vm: &VmTree, period: &PeriodTree) -> Item {
    let (size_bytes, points) = (period.size_bytes, period.points());
    Item { place: Place::period(&vm.folder, &period.id), size_bytes, points, kept: None, unreplicated: false }
}

fn archives<'a>(vm: &'a VmTree, period: &'a PeriodTree) -> impl Iterator<Item = Item> + 'a {
    period.archives.iter().map(|archive| Item {
        place: Place::archive(&vm.folder, &period.id, &archive.name),
        size_bytes: archive.size_bytes,
        points: archive.set.points,
        kept: None,
        unreplicated: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retention::inventory::{ArchiveTree, SetTree};

    fn set(points: u32) -> SetTree {
        SetTree { data_files: points, points, ..SetTree::default() }
    }

    /// `web` with two months, the older with an archived chain, and a chain that accumulates with another one.
    fn inventory() -> Inventory {
        let period = |name: &str, chains: &[&str]| PeriodTree {
            id: PeriodId::parse(name).unwrap(),
            size_bytes: 100,
            active: set(2),
            archives: chains
                .iter()
                .map(|chain| ArchiveTree { name: (*chain).to_owned(), size_bytes: 10, set: set(1) })
                .collect(),
            archives_bytes: 10 * chains.len() as u64,
        };
        let periods = vec![
            period("202610", &["chain-2026-10-05"]),
            period("202611", &[]),
            period("accumulate", &["chain-2026-09-01"]),
        ];
        let vm = VmTree { folder: "web".into(), domain: None, size_bytes: 400, periods };
        Inventory { vms: vec![vm], ..Inventory::default() }
    }

    fn select(target: &str) -> Result<Selection, SelectError> {
        Selection::of(&Target::parse(target).unwrap(), Some("web"), &inventory())
    }

    /// The items with why they stay, of a VM with this keeper and these protected periods.
    fn guarded(target: &str, keeper: Option<Place>, protected: &[&str]) -> Vec<(String, Option<Why>)> {
        guarded_with(target, keeper, protected, &[])
    }

    /// The same, where some sets are in doubt.
    fn guarded_with(
        target: &str,
        keeper: Option<Place>,
        protected: &[&str],
        doubtful: &[&Place],
    ) -> Vec<(String, Option<Why>)> {
        let (inventory, parsed) = (inventory(), Target::parse(target).unwrap());
        let mut selection = select(target).unwrap();
        let guards = Guards {
            keeper,
            doubtful: &|place| doubtful.iter().any(|set| place.holds(set)),
            protected: &|period| Some(protected.contains(&period.as_str())),
            replica: &|_| Replica::NotUsed,
        };
        selection.guard(&parsed, &inventory.vms[0], &guards);
        selection.items.into_iter().map(|item| (item.place.path().display().to_string(), item.kept)).collect()
    }

    #[test]
    fn each_target_selects_its_part() {
        let cases = [
            (
                "archives",
                "all archives for web",
                "web/202610/.archives/chain-2026-10-05 web/.archives/chain-2026-09-01",
            ),
            ("archives:202610", "archives in web/202610", "web/202610/.archives/chain-2026-10-05"),
            ("archives:202611", "archives in web/202611", ""),
            ("archives:accumulate", "archives in web/accumulate", "web/.archives/chain-2026-09-01"),
            (
                "chain:chain-2026-09-01",
                "chain chain-2026-09-01 in web/accumulate",
                "web/.archives/chain-2026-09-01",
            ),
            ("period:202610", "period 202610 for web", "web/202610"),
            ("period:accumulate", "period accumulate for web", "web"),
            ("all", "ALL data for web", "web/202610 web/202611 web"),
        ];
        for (target, description, places) in cases {
            let selection = select(target).unwrap();
            let found: Vec<String> =
                selection.items.iter().map(|item| item.place.path().display().to_string()).collect();
            assert_eq!(
                (selection.description.as_str(), found.join(" ").as_str()),
                (description, places),
                "{target}"
            );
        }
        let every = Selection::of(&Target::Archives, None, &inventory()).unwrap();
        assert_eq!((every.description.as_str(), every.items.len()), ("all archives for all VMs", 2));
        assert!(matches!(select("period:202609"), Err(SelectError::Period { .. })));
        assert!(matches!(select("archives:2026-W40"), Err(SelectError::Period { .. })));
        assert!(matches!(select("chain:chain-2026-10-06"), Err(SelectError::Chain { .. })));
        let nothing = Selection::of(&Target::All, Some("db"), &Inventory::default());
        assert_eq!(nothing, Err(SelectError::Vm("db".into())));
    }

    #[test]
    fn guards_hold_what_is_protected_and_what_is_the_last() {
        let place = |period: &str| Place::period("web", &PeriodId::parse(period).unwrap());
        let archive = Place::archive("web", &PeriodId::parse("202610").unwrap(), "chain-2026-10-05");
        let kept = |path: &str, why| vec![(path.to_owned(), why)];
        let cases = [
            ("another stays", "period:202610", Some(place("202611")), vec![], kept("web/202610", None)),
            (
                "the only one",
                "period:202610",
                Some(place("202610")),
                vec![],
                kept("web/202610", Some(Why::LastRestorable)),
            ),
            (
                "its archive",
                "period:202610",
                Some(archive.clone()),
                vec![],
                kept("web/202610", Some(Why::LastRestorable)),
            ),
            ("none, others", "period:202610", None, vec![], kept("web/202610", None)),
            (
                "protected",
                "period:202610",
                Some(place("202611")),
                vec!["202610"],
                kept("web/202610", Some(Why::Protected)),
            ),
            (
                "the archive itself",
                "archives:202610",
                Some(archive),
                vec![],
                kept("web/202610/.archives/chain-2026-10-05", Some(Why::LastRestorable)),
            ),
        ];
        for (name, target, keeper, protected, want) in cases {
            assert_eq!(guarded(target, keeper, &protected), want, "{name}");
        }
        let all = guarded("all", Some(place("202611")), &["202610"]);
        let whys: Vec<Option<Why>> = all.into_iter().map(|(_, why)| why).collect();
        assert_eq!(
            whys,
            [Some(Why::Protected), None, None],
            "all takes the last one, but not what is protected"
        );
    }

    #[test]
    fn what_is_in_doubt_goes_only_where_something_good_stays() {
        let id = |period: &str| PeriodId::parse(period).unwrap();
        let (old, new) = (Place::period("web", &id("202610")), Place::period("web", &id("202611")));
        let archive = Place::archive("web", &id("202610"), "chain-2026-10-05");
        let whys = |target: &str, keeper: Option<Place>, doubtful: &[&Place]| -> Vec<Option<Why>> {
            guarded_with(target, keeper, &[], doubtful).into_iter().map(|(_, why)| why).collect()
        };
        assert_eq!(whys("period:202610", Some(new.clone()), &[&old]), [None], "a good one stays");
        assert_eq!(whys("period:202610", None, &[&old, &new]), [Some(Why::Doubtful)], "none is good");
        assert_eq!(whys("archives:202610", None, &[&archive]), [Some(Why::Doubtful)]);
        assert_eq!(whys("period:202610", None, &[&archive]), [Some(Why::Doubtful)], "an archive in it");
        // The only good one is selected too: it stays, and what was kept for it before stays as well.
        let accumulated = Place::archive("web", &PeriodId::accumulate(), "chain-2026-09-01");
        let both = whys("archives", Some(accumulated), &[&archive]);
        assert_eq!(both, [Some(Why::Doubtful), Some(Why::LastRestorable)]);
        assert_eq!(whys("all", None, &[&old]), [None; 3], "all takes everything");
    }

    #[test]
    fn without_anything_restorable_the_last_period_with_points_stays() {
        let mut inventory = inventory();
        inventory.vms[0].periods.truncate(1);
        inventory.vms[0].periods[0].archives.clear();
        let target = Target::parse("period:202610").unwrap();
        let mut selection = Selection::of(&target, Some("web"), &inventory).unwrap();
        let guards = Guards {
            keeper: None,
            doubtful: &|_| false,
            protected: &|_| Some(false),
            replica: &|_| Replica::Missing,
        };
        selection.guard(&target, &inventory.vms[0], &guards);
        assert_eq!((selection.items[0].kept, selection.items[0].unreplicated), (Some(Why::LastPeriod), true));
        assert_eq!(selection.going().count(), 0);
    }
}
