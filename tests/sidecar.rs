//! The sidecars that a backup writes: they say of every point what the guest's disks were, and trouble nobody.

use std::fs;
use std::path::Path;

use lab::{DiskFormat, DiskOp, DiskSpec, Lab, Point, Version, Vm, granules, text, wait_for_the_clock};
use random::Random;

const MIB: u64 = 1 << 20;
const SIZES: [(&str, u64); 2] = [("vda", 8 * MIB), ("vdb", 3 * MIB + 512)];

fn vm(lab: &Lab, name: &str) -> Vm {
    lab.paused_vm(name, &SIZES.map(|(target, size)| DiskSpec::new(target, size)))
}

/// Writes, zeros and discards, aligned to nothing.
fn change(vm: &Vm, random: &mut Random) {
    change_by(vm, random, 5);
}

/// Writes, aligned to nothing.
fn write(vm: &Vm, random: &mut Random) {
    change_by(vm, random, 1);
}

fn change_by(vm: &Vm, random: &mut Random, kinds: u64) {
    for (target, size) in SIZES {
        for _ in 0..5 {
            let (offset, len) = random.range(size, 300 << 10);
            let op = match random.below(kinds) {
                1 => DiskOp::WriteZeroes { offset, len, unmap: true },
                2 => DiskOp::Discard { offset, len },
                _ => DiskOp::Write { offset, len, pattern: 1 + random.below(255) as u8 },
            };
            vm.run(target, &[op]).expect("the guest can write");
        }
    }
}

/// Bytes of the point's disks that the sidecars say nothing of; what they say must be true.
#[track_caller]
fn unknown_bytes(set: &Path, point: &Point) -> u64 {
    let checked = point.disks.iter().map(|(target, shadow)| {
        let found = granules(set, target, &point.name, shadow);
        assert_eq!(found.wrong, [], "{target} at {}", point.name);
        assert_eq!(found.proven_bytes + found.unproven_bytes, shadow.size_bytes());
        found.unproven_bytes
    });
    checked.sum()
}

fn all_bytes() -> u64 {
    SIZES.iter().map(|(_, size)| size).sum()
}

#[test]
fn the_granules_are_the_guests_disks_at_every_point() {
    let lab = Lab::new("granules");
    let mut random = Random::from_environment("LAB_SEED");
    lab.configure(&[]);
    let vm = vm(&lab, "granules");
    let mut points = Vec::new();
    for number in 0..4 {
        // The third increment finds no change.
        if number < 3 {
            change(&vm, &mut random);
        }
        lab.run_well(&vm);
        points.push(Point::of(&lab, &vm, &format!("virtnbdbackup.{number}")));
    }
    let set = lab.chain_dir(&vm);
    for point in &points {
        assert_eq!(unknown_bytes(&set, point), 0, "at {}", point.name);
    }
    // Without the sidecar between, the next knows its own granules, and no backup fails for it.
    fs::remove_file(set.join("vda.inc.virtnbdbackup.3.idx")).expect("there is one for each stream");
    change(&vm, &mut random);
    lab.run_well(&vm);
    let point = Point::of(&lab, &vm, "virtnbdbackup.4");
    let unknown = unknown_bytes(&set, &point);
    assert!(0 < unknown && unknown < SIZES[0].1, "{unknown} bytes of vda are unknown");
    points.push(point);
    lab.assert_points(&set, &points);
}

#[test]
fn a_chain_that_virtnbdbackup_goes_on_with_is_known_again_where_it_changes() {
    let lab = Lab::new("known_again");
    let mut random = Random::from_environment("LAB_SEED");
    lab.configure(&[]);
    for version in Version::ALL {
        let vm = vm(&lab, &format!("again-{version:?}"));
        let mut points = Vec::new();
        for number in 0..3 {
            // What virtnbdbackup finds zeroed it may leave out.
            if number == 1 {
                write(&vm, &mut random)
            } else {
                change(&vm, &mut random)
            }
            if number == 1 {
                let set = lab.chain_dir(&vm);
                wait_for_the_clock(&set);
                let output = lab.virtnbdbackup(version, &vm, "inc", &set, &["--compress"]);
                assert!(output.status.success(), "{version:?}: {}", text(&output));
            } else {
                lab.run_well(&vm);
            }
            points.push(Point::of(&lab, &vm, &format!("virtnbdbackup.{number}")));
        }
        let set = lab.chain_dir(&vm);
        assert_eq!(unknown_bytes(&set, &points[0]), 0);
        assert_eq!(unknown_bytes(&set, &points[1]), all_bytes());
        let unknown = unknown_bytes(&set, &points[2]);
        assert!(0 < unknown && unknown < all_bytes(), "{unknown}");
        for point in &points {
            for (target, shadow) in &point.disks {
                let raw = lab::extract(&lab, &set, target, Some(&point.name));
                assert_eq!(shadow.equals(&raw), Ok(()), "{target} at {}", point.name);
            }
        }
    }
}

#[test]
fn raw_disks_and_copies_have_one_too() {
    let lab = Lab::new("raw_known");
    lab.configure(&[("BACKUP_RAW_DISKS", "true")]);
    let raw = DiskSpec::new("vdb", 3 * MIB + 512).format(DiskFormat::Raw);
    let vm = lab.paused_vm("rawknown", &[DiskSpec::new("vda", 2 * MIB), raw]);
    vm.write("vda", MIB, 100_000 / 512 * 512, 1).expect("a write");
    vm.write("vdb", 512, MIB, 2).expect("a write");
    lab.run_well(&vm);
    let full = Point::of(&lab, &vm, "virtnbdbackup.0");
    assert_eq!(unknown_bytes(&lab.chain_dir(&vm), &full), 0);
    vm.destroy();
    lab.run_well(&vm);
    let copy = Point::of(&lab, &vm, "copy");
    assert_eq!(unknown_bytes(&lab.chain_dir(&vm), &copy), 0);
}
