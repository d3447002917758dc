//! Our sets under the readers that people have, their sets under ours, and chains that both have written.

mod lab;

use lab::{Bus, DiskSpec, Lab, Point, Vm};

const MIB: u64 = 1 << 20;

/// A VM's chain: what each point must hold.
struct Chain<'a> {
    lab: &'a Lab,
    points: Vec<Point>,
}

impl<'a> Chain<'a> {
    fn new(lab: &'a Lab) -> Self {
        Self { lab, points: vec![] }
    }

    fn note(&mut self, vm: &Vm) {
        let name = format!("virtnbdbackup.{}", self.points.len());
        self.points.push(Point::of(self.lab, vm, &name));
    }

    /// Takes the next point with our program. It has to be an increment, or the full of a new chain.
    #[track_caller]
    fn ours(&mut self, vm: &Vm) {
        let ended = self.lab.run_well(vm);
        let want = match self.points.len() {
            0 => "full".to_owned(),
            number => format!("incremental {number}"),
        };
        assert_eq!(ended.level(), want, "{}\n{}", ended.why(), ended.log);
        self.note(vm);
    }

    #[track_caller]
    fn assert(&self, vm: &Vm) {
        self.lab.assert_points(&self.lab.chain_dir(vm), &self.points);
    }
}

#[test]
fn a_disk_that_did_not_change_is_right_at_every_point() {
    let lab = Lab::new("unchanged");
    lab.configure(&[]);
    let vm = lab.paused_vm("unchanged", &[DiskSpec::new("vda", 4 * MIB), DiskSpec::new("vdb", 3 * MIB + 512)]);
    let mut chain = Chain::new(&lab);
    // vdb is empty at the full, and changes in some runs only.
    vm.write("vda", 0, MIB, 1).expect("a write");
    chain.ours(&vm);
    vm.write("vda", MIB, MIB, 2).expect("a write");
    chain.ours(&vm);
    vm.write("vdb", MIB, MIB, 3).expect("a write");
    chain.ours(&vm);
    chain.ours(&vm);
    vm.write("vdb", 0, 512, 4).expect("a write");
    vm.write_zeroes("vda", 0, 4 * MIB, true).expect("zeros");
    chain.ours(&vm);
    vm.write("vdb", 0, 3 * MIB + 512, 5).expect("a write");
    chain.ours(&vm);
    chain.ours(&vm);
    vm.write("vdb", 0, 3 * MIB + 512, 6).expect("a write");
    chain.ours(&vm);
    chain.assert(&vm);
}

#[test]
fn a_disk_that_was_added() {
    let lab = Lab::new("added");
    lab.configure(&[]);
    let mut vm = lab.paused_vm("added", &[DiskSpec::new("vda", 4 * MIB)]);
    let mut chain = Chain::new(&lab);
    vm.write("vda", 0, MIB, 1).expect("a write");
    chain.ours(&vm);
    chain.ours(&vm);
    vm.attach_disk(&DiskSpec::new("vdb", 5 * MIB + 512));
    vm.attach_disk(&DiskSpec::new("sda", 2 * MIB).bus(Bus::Scsi));
    vm.write("vdb", 5 * MIB, 512, 2).expect("a write");
    vm.write("vda", MIB, 512, 2).expect("a write");
    chain.ours(&vm);
    vm.write("vdb", 0, MIB, 3).expect("a write");
    vm.write("sda", MIB, MIB, 4).expect("a write");
    chain.ours(&vm);
    vm.write_zeroes("vdb", 0, MIB, false).expect("zeros");
    chain.ours(&vm);
    chain.assert(&vm);
}

#[test]
fn a_disk_that_grew() {
    let lab = Lab::new("grown");
    lab.configure(&[]);
    let vm = lab.paused_vm("grown", &[DiskSpec::new("vda", 4 * MIB), DiskSpec::new("vdb", 4 * MIB)]);
    let mut chain = Chain::new(&lab);
    vm.write("vda", 0, 4 * MIB, 1).expect("a write");
    chain.ours(&vm);
    vm.resize_disk("vda", 7 * MIB + 512);
    chain.ours(&vm);
    vm.write("vda", 7 * MIB, 512, 2).expect("a write");
    chain.ours(&vm);
    chain.assert(&vm);
}

#[test]
fn a_disk_that_took_the_place_of_another() {
    let lab = Lab::new("replaced");
    lab.configure(&[]);
    let mut vm = lab.paused_vm("replaced", &[DiskSpec::new("vda", 4 * MIB)]);
    let mut chain = Chain::new(&lab);
    let sda = || DiskSpec::new("sda", 3 * MIB).bus(Bus::Scsi);
    vm.attach_disk(&sda());
    vm.write("sda", 0, 2 * MIB, 1).expect("a write");
    chain.ours(&vm);
    vm.write("sda", 2 * MIB, 512, 2).expect("a write");
    chain.ours(&vm);
    vm.remove_disk("sda");
    chain.ours(&vm);
    chain.ours(&vm);
    vm.attach_disk(&sda());
    vm.write("sda", MIB, 512, 3).expect("a write");
    chain.ours(&vm);
    vm.write("sda", 0, 512, 4).expect("a write");
    chain.ours(&vm);
    chain.assert(&vm);
}
