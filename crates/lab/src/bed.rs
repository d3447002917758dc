//! A bed: a VM that has a chain of backups, on which a test does something.

use std::fmt;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use random::Random;
use serde_json::Value;

use super::left_behind::{FREE_LIMIT, assert_tidy};
use super::{DiskOp, DiskSpec, Ended, History, Lab, Point, Vm, extract};

const MIB: u64 = 1 << 20;

/// One VM, and the points of its chain so far.
pub struct Bed<'a> {
    pub lab: &'a Lab,
    pub vm: Vm,
    /// What the points of its chain must hold.
    pub points: History,
    changes: Changes,
    /// When it is, in UTC; the clock's time if nobody says.
    pub now: Option<&'static str>,
}

/// What [`Bed::change`] does.
enum Changes {
    /// Writes each time elsewhere, with a number that is new each time: the last one.
    Stamps(u8),
    /// Writes, zeroes and discards anywhere.
    AtRandom(Random),
}

impl<'a> Bed<'a> {
    /// A running VM of two small disks.
    pub fn new(lab: &'a Lab) -> Self {
        Self::with(lab, &[DiskSpec::new("vda", MIB), DiskSpec::new("vdb", MIB)])
    }

    /// A running VM of these disks.
    pub fn with(lab: &'a Lab, disks: &[DiskSpec]) -> Self {
        Self::of(lab, lab.running_vm("bed", disks))
    }

    /// A VM that somebody has made.
    pub fn of(lab: &'a Lab, vm: Vm) -> Self {
        Self { lab, vm, points: History::default(), changes: Changes::Stamps(0), now: None }
    }

    /// A running VM of two larger disks that change at random, and have changed once.
    pub fn at_random(lab: &'a Lab, random: Random) -> Self {
        let disks = [DiskSpec::new("vda", 8 * MIB), DiskSpec::new("vdb", 3 * MIB + 512)];
        let mut bed = Self::with(lab, &disks);
        bed.changes = Changes::AtRandom(random);
        bed.change();
        bed
    }

    /// A number that no change has had.
    pub fn stamp(&mut self) -> u8 {
        let Changes::Stamps(last) = &mut self.changes else { panic!("it changes at random") };
        *last += 1;
        *last
    }

    /// Writes to every disk.
    pub fn change(&mut self) {
        if let Changes::AtRandom(random) = &mut self.changes {
            for target in self.vm.targets() {
                let bytes = self.vm.shadow(target).size_bytes();
                let ops: Vec<DiskOp> = (0..6).map(|_| any_op(random, bytes)).collect();
                self.vm.run(target, &ops).expect("the guest can write");
            }
            return;
        }
        let stamp = self.stamp();
        for target in self.vm.targets() {
            self.vm.write(target, u64::from(stamp) * 4096, 4096, stamp).expect("a write");
        }
    }

    /// What a run would do to the VM. Asking changes nothing.
    #[track_caller]
    pub fn plan(&self) -> Value {
        self.lab.plan(self.now, &[&self.vm])["vms"][0].clone()
    }

    /// Changes the disks, backs up as planned, and expects this level for this reason.
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
        self.note(level);
        ended
    }

    /// Backs up, and expects this level.
    #[track_caller]
    pub fn back_up(&mut self, level: &str) -> Ended {
        let ended = self.lab.run_well(&self.vm);
        assert_eq!(ended.level(), level, "{ended:#?}");
        self.note(level);
        ended
    }

    /// Backs up, and expects that the chain goes on, or begins.
    #[track_caller]
    pub fn back_up_next(&mut self) -> Ended {
        self.back_up(&self.next())
    }

    /// The level that the chain goes on with.
    pub fn next(&self) -> String {
        match self.points.len() {
            0 => "full".to_owned(),
            number => format!("incremental {number}"),
        }
    }

    /// Notes the disks as they are as a point of this level.
    fn note(&mut self, level: &str) {
        if level == "full" {
            self.points.clear();
        }
        self.points.note(self.lab, &self.vm);
    }

    /// Lets a run die at a place, and waits until the guest is free.
    #[track_caller]
    pub fn die_at(&self, place: impl Into<&'static str>) {
        let place = place.into();
        let ended = self.lab.run_killed_at(&self.vm, place).wait();
        assert_eq!(ended.status.signal(), Some(9), "at {place}: {ended:#?}");
        let took = self.vm.wait_until_free(FREE_LIMIT);
        println!("killed at {place}: free after {} ms", took.as_millis());
    }

    /// Where its chain is.
    pub fn dir(&self) -> PathBuf {
        self.lab.chain_dir(&self.vm)
    }

    /// Its archived chains, oldest first.
    pub fn archives(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.dir().join(".archives")).into_iter().flatten().flatten();
        let mut all: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        let number = |path: &PathBuf| -> u32 {
            path.extension().and_then(|number| number.to_str()?.parse().ok()).unwrap_or(0)
        };
        all.sort_by_key(number);
        all
    }

    /// These points, whatever is wrong with the others.
    #[track_caller]
    pub fn assert_points(&self, case: &str, dir: &Path, points: &[Point]) {
        for Point { name, disks } in points {
            for (target, shadow) in disks {
                let raw = extract(self.lab, dir, target, Some(name));
                assert_eq!(shadow.equals(&raw), Ok(()), "{case}: {target} at {name} of {}", dir.display());
                fs::remove_file(raw).expect("ours");
            }
        }
    }

    #[track_caller]
    pub fn assert_tidy(&self, when: impl fmt::Display) {
        assert_tidy(self.lab, &self.dir(), when);
    }
}

fn any_op(random: &mut Random, disk_bytes: u64) -> DiskOp {
    let (offset, len) = random.range(disk_bytes, 256 << 10);
    match random.below(5) {
        0 => DiskOp::WriteZeroes { offset, len, unmap: true },
        1 => DiskOp::Discard { offset, len },
        _ => DiskOp::Write { offset, len, pattern: 1 + random.below(255) as u8 },
    }
}
