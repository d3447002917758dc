//! A VM with a chain that something happens to.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{DiskSpec, Ended, History, Lab, Shadow, Vm, extract};

const MIB: u64 = 1 << 20;

/// One VM and its points so far.
pub struct Bed<'a> {
    lab: &'a Lab,
    pub vm: Vm,
    /// What the points of its chain must hold, oldest first.
    pub points: Vec<BTreeMap<String, Shadow>>,
    stamp: u8,
    /// When it is, in UTC; the clock's time if nobody says.
    pub now: Option<&'static str>,
}

impl<'a> Bed<'a> {
    /// A running VM of two small disks.
    pub fn new(lab: &'a Lab) -> Self {
        Self::with(lab, &[DiskSpec::new("vda", MIB), DiskSpec::new("vdb", MIB)])
    }

    /// A running VM of these disks.
    pub fn with(lab: &'a Lab, disks: &[DiskSpec]) -> Self {
        let vm = lab.paused_vm("heal", disks);
        vm.resume();
        Self { lab, vm, points: vec![], stamp: 0, now: None }
    }

    /// Writes to every disk, each time elsewhere.
    pub fn change(&mut self) {
        self.stamp += 1;
        for target in self.vm.targets() {
            self.vm.write(target, u64::from(self.stamp) * 4096, 4096, self.stamp).expect("a write");
        }
    }

    /// What a run would do to the VM. Asking changes nothing.
    #[track_caller]
    pub fn plan(&self) -> Value {
        self.lab.plan(self.now, &[&self.vm])["vms"][0].clone()
    }

    /// Backs up, as planned, and expects this level for this reason.
    #[track_caller]
    pub fn run(&mut self, case: &str, level: &str, why: &str) -> Ended {
        self.change();
        self.run_as_it_is(case, level, why)
    }

    /// The same, without a change to a disk.
    #[track_caller]
    pub fn run_as_it_is(&mut self, case: &str, level: &str, why: &str) -> Ended {
        let plan = self.plan();
        let ended = self.lab.begin_run(self.lab.run_command_at(self.now, &[&self.vm])).wait();
        assert_eq!(ended.level(), level, "{case}: {ended:#?}");
        assert!(ended.why().contains(why), "{case}: {why:?} is not in {:?}", ended.why());
        assert_eq!(plan["plan"], ended.vm()["report"]["plan"], "{case}: planned otherwise");
        if level == "full" {
            self.points.clear();
        }
        self.points.push(History::disks(self.lab, &self.vm));
        ended
    }

    /// Where its chain is.
    pub fn dir(&self) -> PathBuf {
        self.lab.chain_dir(&self.vm)
    }

    /// The first points, whatever is wrong with the others.
    #[track_caller]
    pub fn assert_points(&self, case: &str, dir: &Path, points: &[BTreeMap<String, Shadow>]) {
        for (number, disks) in points.iter().enumerate() {
            for (target, shadow) in disks {
                let raw = extract(self.lab, dir, target, Some(&format!("virtnbdbackup.{number}")));
                assert_eq!(shadow.equals(&raw), Ok(()), "{case}: {target} at {number}");
                fs::remove_file(raw).expect("ours");
            }
        }
    }
}
