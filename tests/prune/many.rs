//! A thousand VMs with a hundred periods each.

use std::fs;
use std::time::{Duration, Instant};

use vmbackup::retention::{Look, read};

use super::tree::{Tree, days_ago, write_chain};

const VMS: u64 = 1000;
const PERIODS: u64 = 100;

/// Ten times what it takes on a quiet machine.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_thousand_vms_with_a_hundred_periods() {
    let tree = Tree::new();
    let sample = tree.outside().join("sample");
    write_chain(&sample, "vm", &[days_ago(0)]);
    for vm in 0..VMS {
        for n in 0..PERIODS {
            let dir = tree.at(&format!("vm{vm}/{}", 20_260_101 + n));
            fs::create_dir_all(&dir).expect("a folder");
            // Second names of one file: the tree is in memory.
            for name in ["vda.full.data", "vm.cpt"] {
                fs::hard_link(sample.join(name), dir.join(name)).expect("a file");
            }
        }
    }
    for look in [Look::Sizes, Look::Dates] {
        let began = Instant::now();
        let inventory = read(&tree.store(), look).expect("an inventory");
        let took = began.elapsed();
        println!("{look:?} of {VMS} VMs with {PERIODS} periods: {took:?}");
        assert!(took < LIMIT, "{look:?} took {took:?}");
        assert_eq!(inventory.vms.len() as u64, VMS);
        let periods = || inventory.vms.iter().flat_map(|vm| &vm.periods);
        assert_eq!(periods().count() as u64, VMS * PERIODS);
        let dated = periods().filter(|period| period.newest() == Some(days_ago(0))).count() as u64;
        assert_eq!(dated, if look == Look::Dates { VMS * PERIODS } else { 0 });
    }
}
