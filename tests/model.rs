//! Random lives of several VMs: every restore point, read by every reader, must equal what the guest had then.
//!
//! `MODEL_SEED` repeats a run, `MODEL_STEPS` makes it longer. The model knows of each run whether it has to be an
//! increment, and of each disk whether it has to go on incrementally.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use lab::{Bus, DiskOp, DiskSpec, Ended, Lab, Point, Vm, VmSpec, text};
use random::Random;
use vmbackup::engine::fail_point::FailPoint;
use vmstream::chain::{BackupSet, PointDisk, PointId};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The seed of an ordinary run.
const DEFAULT_SEED: u64 = 3;

/// Steps of an ordinary run.
const DEFAULT_STEPS: u64 = 210;
const MOST_DISKS: usize = 4;
const LARGEST_DISK: u64 = 12 * MIB;

/// What can happen to a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Write,
    WipeDisk,
    BackUp,
    BackUpWhileWriting,
    AddDisk,
    DetachDisk,
    AttachAgain,
    Grow,
    Restart,
    Kill,
    BackUpWhileOff,
}

/// Of 100 steps, how many are which event. Each happens at least once in a run.
const EVENTS: [(Event, u64); 11] = [
    (Event::Write, 59),
    (Event::WipeDisk, 4),
    (Event::BackUp, 12),
    (Event::BackUpWhileWriting, 4),
    (Event::AddDisk, 5),
    (Event::DetachDisk, 4),
    (Event::AttachAgain, 3),
    (Event::Grow, 2),
    (Event::Restart, 3),
    (Event::Kill, 2),
    (Event::BackUpWhileOff, 2),
];

/// Identifies an image, whatever target it has.
type ImageId = u32;

/// The chain in a VM's current folder.
#[derive(Debug, Default)]
struct Chain {
    points: Vec<Point>,
    is_copy: bool,
    /// The images that the newest point has bitmaps of, by target.
    tracked: BTreeMap<String, ImageId>,
    /// What each target's newest stream says of the disk's size.
    sizes: BTreeMap<String, u64>,
}

/// One VM, and what the model knows about it.
struct Machine {
    vm: Vm,
    attached: BTreeMap<String, (DiskSpec, ImageId)>,
    detached: BTreeMap<String, (DiskSpec, ImageId)>,
    /// Images that were open when QEMU was killed: their bitmaps are lost.
    broken: BTreeSet<ImageId>,
    chain: Chain,
    next_image: ImageId,
}

/// What a run has to be.
#[derive(Debug)]
struct Expected {
    level: String,
    /// One of these has to be in the reason.
    reasons: Vec<String>,
}

impl Machine {
    fn new(lab: &Lab, name: &str, disks: &[DiskSpec]) -> Self {
        let vm = lab.define(&disks.iter().cloned().fold(VmSpec::new(name), VmSpec::disk));
        vm.start_paused();
        let attached = (0..).zip(disks).map(|(id, disk)| (disk.target.clone(), (disk.clone(), id))).collect();
        let (detached, broken) = (BTreeMap::new(), BTreeSet::new());
        Self { vm, attached, detached, broken, chain: Chain::default(), next_image: disks.len() as ImageId }
    }

    fn size(&self, target: &str) -> u64 {
        self.vm.shadow(target).size_bytes()
    }

    /// What a run has to be while the VM is active.
    fn expected(&self) -> Expected {
        let full = |reasons: Vec<String>| Expected { level: "full".to_owned(), reasons };
        let chain = &self.chain;
        if chain.is_copy {
            return full(vec!["the last backup is a copy".to_owned()]);
        }
        if chain.points.is_empty() {
            return full(vec!["first backup of this VM".to_owned()]);
        }
        let mut reasons = vec![];
        for (target, (_, image)) in &self.attached {
            let tracked = chain.tracked.get(target);
            if tracked.is_some_and(|tracked| tracked != image || self.broken.contains(image)) {
                reasons.push("a dirty bitmap is lost".to_owned());
            }
            if chain.sizes.get(target).is_some_and(|size| *size != self.size(target)) {
                reasons.push(format!("disk {target} was resized"));
            }
        }
        if !self.attached.keys().any(|target| chain.tracked.contains_key(target)) {
            reasons.push("none of the chain's disks".to_owned());
        }
        if reasons.is_empty() {
            let level = format!("incremental {}", chain.points.len());
            return Expected { level, reasons: vec!["the chain continues".to_owned()] };
        }
        full(reasons)
    }

    /// Takes a backup of the active VM, which may be writing meanwhile.
    fn back_up(&mut self, lab: &Lab, random: &mut Random, writing: bool) {
        let expected = self.expected();
        let is_new = expected.level == "full";
        let number = if is_new { 0 } else { self.chain.points.len() };
        let point = Point::of(lab, &self.vm, &format!("virtnbdbackup.{number}"));
        let ended = if writing {
            let run = lab.run_held_at(&self.vm, FailPoint::Copying);
            self.write_during_job(random);
            run.release();
            run.wait()
        } else {
            lab.run(&self.vm)
        };
        check(&ended, &expected);
        let incremental: BTreeSet<String> = self.chain.tracked.keys().filter(|_| !is_new).cloned().collect();
        if is_new {
            self.end_chain(lab, &ended);
        }
        for (target, (_, image)) in &self.attached {
            self.broken.remove(image);
            self.chain.tracked.insert(target.clone(), *image);
            self.chain.sizes.insert(target.clone(), point.disks[target].size_bytes());
        }
        self.chain.tracked.retain(|target, _| self.attached.contains_key(target));
        self.chain.points.push(point);
        self.check_streams(lab, &incremental);
    }

    /// Each attached disk has a stream at each point; in the newest it is an increment or stands alone as it must.
    fn check_streams(&self, lab: &Lab, incremental: &BTreeSet<String>) {
        let set = BackupSet::open(&lab.chain_dir(&self.vm)).expect("the run left a set");
        assert!(set.problems.is_empty(), "{:?}", set.problems);
        assert_eq!(set.points.len(), self.chain.points.len());
        for point in &set.points {
            assert!(point.vmconfig.is_some(), "{} has no vmconfig", point.id);
            for target in self.attached.keys() {
                let disk = point.disks.iter().find(|(name, _)| name.as_str() == target);
                let Some((_, PointDisk::Stream(entry))) = disk else {
                    panic!("{target} has no stream at {}", point.id)
                };
                let meta = entry.meta.as_ref().expect("a stream");
                assert!(entry.is_placeholder() || meta.data_size > 0, "{target} at {} is empty", point.id);
            }
        }
        let newest = set.newest().expect("a point");
        for (target, content) in &newest.disks {
            let PointDisk::Stream(entry) = content else { panic!("{target} is no stream") };
            let meta = entry.meta.as_ref().expect("a stream");
            assert_eq!(meta.incremental, incremental.contains(target.as_str()), "{target} at {}", newest.id);
            assert!(!entry.is_placeholder(), "{target} at {} is a placeholder", newest.id);
        }
        assert_eq!(newest.disks.len(), self.attached.len());
    }

    /// A run put the chain into the archive: nothing may be lost there.
    fn end_chain(&mut self, lab: &Lab, ended: &Ended) {
        let ended_chain = std::mem::take(&mut self.chain);
        if ended_chain.points.is_empty() {
            return;
        }
        let archive = ended.report("archived_to");
        ended_chain.verify(lab, Path::new(&archive));
        // Its checkpoints must stay known as ours; the data is not needed any more.
        for entry in fs::read_dir(&archive).expect("the archive is there").flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.ends_with(".data")) {
                fs::remove_file(entry.path()).expect("the archive is ours");
            }
        }
    }

    /// Copies the VM while it is off; a second run has nothing to do.
    fn back_up_while_off(&mut self, lab: &Lab, random: &mut Random) {
        self.vm.destroy();
        for (target, (_, _)) in &self.attached {
            let ops: Vec<DiskOp> =
                (0..random.below(4)).map(|_| random_op(random, self.size(target))).collect();
            if !ops.is_empty() {
                self.vm.run_while_off(target, &ops);
            }
        }
        let ended = lab.run(&self.vm);
        check(&ended, &Expected { level: "copy".to_owned(), reasons: vec!["shut off".to_owned()] });
        self.end_chain(lab, &ended);
        self.chain.is_copy = true;
        self.chain.points.push(Point::of(lab, &self.vm, "copy"));
        let ended = lab.run(&self.vm);
        check(&ended, &Expected { level: "skip".to_owned(), reasons: vec!["unchanged".to_owned()] });
        self.vm.start_paused();
    }

    fn any_disk(&self, random: &mut Random) -> String {
        let targets: Vec<&String> = self.attached.keys().collect();
        targets[random.below(targets.len() as u64) as usize].clone()
    }

    fn write(&self, random: &mut Random) {
        let target = self.any_disk(random);
        let size = self.size(&target);
        let ops: Vec<DiskOp> = (0..1 + random.below(8)).map(|_| random_op(random, size)).collect();
        self.vm.run(&target, &ops).expect("every request is valid");
    }

    /// No discards: a job's filter cuts them to its own units, so that less is discarded than the shadow takes for it.
    fn write_during_job(&self, random: &mut Random) {
        let target = self.any_disk(random);
        let size = self.size(&target);
        let ops = (0..1 + random.below(8)).map(|_| random_op(random, size));
        let ops: Vec<DiskOp> = ops.filter(|op| !matches!(op, DiskOp::Discard { .. })).collect();
        self.vm.run(&target, &ops).expect("every request is valid");
    }

    fn wipe_disk(&self, random: &mut Random) {
        let target = self.any_disk(random);
        let len = self.size(&target);
        let op = match random.below(3) {
            0 => DiskOp::Discard { offset: 0, len },
            1 => DiskOp::WriteZeroes { offset: 0, len, unmap: true },
            _ => DiskOp::Write { offset: 0, len, pattern: random.below(256) as u8 },
        };
        self.vm.run(&target, &[op]).expect("every request is valid");
    }

    /// A disk of random shape under the first free target, sometimes with content of its own.
    fn add_disk(&mut self, random: &mut Random) {
        if self.attached.len() >= MOST_DISKS {
            return self.detach_disk(random);
        }
        // A virtio disk leaves only while the VM is off, so most are SCSI.
        let (prefix, bus) = if random.below(6) == 0 { ("vd", Bus::Virtio) } else { ("sd", Bus::Scsi) };
        let mut targets = ('a'..='z').map(|letter| format!("{prefix}{letter}"));
        let free =
            |target: &String| !self.attached.contains_key(target) && !self.detached.contains_key(target);
        let target = targets.find(free).expect("there are letters enough");
        let clusters = [4 * KIB, 64 * KIB, 256 * KIB];
        let spec = DiskSpec::new(&target, MIB + random.below(8 * KIB) * 512)
            .bus(bus)
            .discard(random.below(4) > 0)
            .cluster_bytes(clusters[random.below(3) as usize]);
        self.vm.attach_disk(&spec);
        if random.below(2) == 0 {
            self.vm.write(&target, 0, 64 * KIB, 1 + random.below(255) as u8).expect("a write");
        }
        self.attached.insert(target, (spec, self.next_image));
        self.next_image += 1;
    }

    /// Removes a SCSI disk, unless it is the last disk or there is none.
    fn detach_disk(&mut self, random: &mut Random) {
        let scsi: Vec<String> = self
            .attached
            .iter()
            .filter(|(_, (spec, _))| spec.bus == Bus::Scsi)
            .map(|(t, _)| t.clone())
            .collect();
        if scsi.is_empty() || self.attached.len() == 1 {
            return self.write(random);
        }
        let target = &scsi[random.below(scsi.len() as u64) as usize];
        self.vm.detach_disk(target);
        let disk = self.attached.remove(target).expect("it was attached");
        if random.below(2) == 0 {
            // Its target is free for another one.
            self.vm.forget_disk(&disk.0);
        } else {
            self.detached.insert(target.clone(), disk);
        }
    }

    fn attach_again(&mut self, random: &mut Random) {
        if self.attached.len() >= MOST_DISKS {
            return self.detach_disk(random);
        }
        let Some((target, disk)) = self.detached.pop_first() else { return self.add_disk(random) };
        self.vm.attach_again(&disk.0);
        self.attached.insert(target, disk);
    }

    fn grow(&self, random: &mut Random) {
        let target = self.any_disk(random);
        let size = self.size(&target);
        // QEMU resizes no image with a bitmap that it did not close in order.
        let is_broken = self.attached.get(&target).is_some_and(|(_, image)| self.broken.contains(image));
        if size < LARGEST_DISK && !is_broken {
            self.vm.resize_disk(&target, size + (1 + random.below(4 * KIB)) * 512);
        }
    }

    /// QEMU dies. What was flushed before is in the images, bitmaps are not.
    fn kill(&mut self) {
        for target in self.attached.keys() {
            self.vm.flush(target).expect("a flush");
        }
        self.vm.kill_qemu();
        let tracked: BTreeSet<ImageId> = self.chain.tracked.values().copied().collect();
        self.broken.extend(self.attached.values().map(|(_, image)| *image).filter(|id| tracked.contains(id)));
        self.vm.start_paused();
    }

    fn happen(&mut self, event: Event, lab: &Lab, random: &mut Random) {
        match event {
            Event::Write => self.write(random),
            Event::WipeDisk => self.wipe_disk(random),
            Event::BackUp => self.back_up(lab, random, false),
            Event::BackUpWhileWriting => self.back_up(lab, random, true),
            Event::AddDisk => self.add_disk(random),
            Event::DetachDisk => self.detach_disk(random),
            Event::AttachAgain => self.attach_again(random),
            Event::Grow => self.grow(random),
            Event::Restart => {
                self.vm.destroy();
                self.vm.start_paused();
            }
            Event::Kill => self.kill(),
            Event::BackUpWhileOff => self.back_up_while_off(lab, random),
        }
    }
}

impl Chain {
    /// Every point by every reader; and no point gives back a disk that it did not have.
    fn verify(self, lab: &Lab, set: &Path) {
        lab.assert_points(set, &self.points);
        let folder = set.to_str().expect("the lab's path is text");
        let known: BTreeSet<&String> = self.points.iter().flat_map(|point| point.disks.keys()).collect();
        for point in &self.points {
            for target in known.iter().filter(|target| !point.disks.contains_key(**target)) {
                let raw = lab.path().join("must-not-be");
                let file = raw.to_str().expect("the lab's path is text");
                let arguments = ["extract", folder, "--disk", target, "--until", &point.name, "-o", file];
                let output = lab.vmstream(&arguments);
                assert!(
                    !output.status.success() && !raw.exists(),
                    "{target} at {}: {}",
                    point.name,
                    text(&output)
                );
            }
        }
        let files = self.points.iter().flat_map(|point| point.disks.values());
        for shadow in files {
            fs::remove_file(shadow.path()).expect("the shadow is ours");
        }
    }
}

#[track_caller]
fn check(ended: &Ended, expected: &Expected) {
    assert!(ended.status.success(), "the run failed: {}\n{}", ended.error(), ended.log);
    let why = ended.why();
    let reason = expected.reasons.iter().any(|reason| why.contains(reason));
    assert!(
        ended.level() == expected.level && reason,
        "{expected:?} was expected, it was {} because {why}\n{}",
        ended.level(),
        ended.log
    );
}

fn random_op(random: &mut Random, disk_bytes: u64) -> DiskOp {
    let (offset, len) = random.range(disk_bytes, 512 * KIB);
    match random.below(8) {
        0 => DiskOp::WriteZeroes { offset, len, unmap: false },
        1 => DiskOp::WriteZeroes { offset, len, unmap: true },
        2 => DiskOp::Discard { offset, len },
        3 => DiskOp::Discard { offset, len: disk_bytes - offset },
        _ => DiskOp::Write { offset, len, pattern: random.below(256) as u8 },
    }
}

/// The events of a run in random order, every kind among them.
fn events(random: &mut Random, steps: u64) -> Vec<Event> {
    let mut events: Vec<Event> = EVENTS
        .iter()
        .flat_map(|(event, share)| std::iter::repeat_n(*event, (steps * share / 100).max(1) as usize))
        .collect();
    while (events.len() as u64) < steps {
        events.push(Event::Write);
    }
    for place in (1..events.len()).rev() {
        events.swap(place, random.below(place as u64 + 1) as usize);
    }
    events
}

fn number(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

#[test]
fn every_restore_point_equals_what_the_guest_had() {
    let longer = number("MODEL_STEPS");
    let seed = number("MODEL_SEED").unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // An ordinary run is about the change, not about luck; a longer one looks for what nobody thought of.
        if longer.is_none() { DEFAULT_SEED } else { since.expect("after 1970").as_micros() as u64 }
    });
    let steps = longer.unwrap_or(DEFAULT_STEPS);
    println!("MODEL_SEED={seed} MODEL_STEPS={steps}");
    let mut random = Random::from_seed(seed);
    let lab = Lab::configured("model");
    let scsi = |target: &str, size: u64| DiskSpec::new(target, size).bus(Bus::Scsi);
    let mut machines = [
        Machine::new(&lab, "odd", &[DiskSpec::new("vda", 5 * MIB + 512), scsi("sda", 3 * MIB)]),
        Machine::new(
            &lab,
            "two  kinds",
            &[
                DiskSpec::new("vda", 8 * MIB).cluster_bytes(4 * KIB),
                DiskSpec::new("vdb", 2 * MIB + 1024).discard(false),
            ],
        ),
        Machine::new(&lab, "scsi-only", &[scsi("sda", 4 * MIB + 1536)]),
    ];
    for (step, event) in (1..).zip(events(&mut random, steps)) {
        let machine = &mut machines[random.below(3) as usize];
        println!("step {step}: {event:?} of {}", machine.vm.name());
        machine.happen(event, &lab, &mut random);
    }
    for machine in &mut machines {
        println!("the end of {}", machine.vm.name());
        machine.back_up(&lab, &mut random, false);
        let set = BackupSet::open(&lab.chain_dir(&machine.vm)).expect("a set");
        assert!(set.points.iter().all(|point| matches!(point.id, PointId::Checkpoint(_))));
        std::mem::take(&mut machine.chain).verify(&lab, &set.dir);
    }
}
