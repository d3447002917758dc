//! Block status in all its forms: more extents than one reply holds, dirty zeros, discards, odd ends.
//!
//! A hole that does not promise zeros cannot be made with a file behind a disk: QEMU finds it zero or data. How such
//! an answer is taken is tested where it is read (`engine::copy::extent`).

use lab::{DiskOp, DiskSpec, Lab, Point, Vm, VmSpec, extract};
use random::Random;
use vmstream::chain::{BackupSet, PointDisk};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// QEMU answers one block status request with at most so many extents of a context
/// (`NBD_MAX_BLOCK_STATUS_EXTENTS` in its `nbd/server.c`).
const EXTENTS_OF_A_REPLY: u64 = 131_072;

#[track_caller]
fn back_up(lab: &Lab, vm: &Vm, points: &mut Vec<Point>) {
    let ended = lab.run_well(vm);
    let want = if points.is_empty() { "full".to_owned() } else { format!("incremental {}", points.len()) };
    assert_eq!(ended.level(), want, "{}", ended.why());
    points.push(Point::of(lab, vm, &format!("virtnbdbackup.{}", points.len())));
}

/// Number of data frames in the newest stream of a disk.
fn frames_of_newest(lab: &Lab, vm: &Vm, target: &str) -> u64 {
    let set = BackupSet::open(&lab.chain_dir(vm)).expect("a set");
    let newest = set.newest().expect("a point");
    let disk = newest.disks.iter().find(|(name, _)| name.as_str() == target).expect("the disk").1;
    let stream = vmstream::stream::StreamFile::open(disk.path()).expect("a stream");
    let data = |frame: &vmstream::stream::Frame| frame.header.kind == vmstream::stream::FrameKind::Data;
    stream.frames().map(|frame| frame.expect("a whole stream")).filter(data).count() as u64
}

/// Bytes of data in the newest stream of a disk.
fn data_of_newest(lab: &Lab, vm: &Vm, target: &str) -> u64 {
    let set = BackupSet::open(&lab.chain_dir(vm)).expect("a set");
    let newest = set.newest().expect("a point");
    let disk = newest.disks.iter().find(|(name, _)| name.as_str() == target).expect("the disk").1;
    match disk {
        PointDisk::Stream(entry) => entry.meta.as_ref().expect("a stream").data_size,
        PointDisk::Raw(image) => panic!("{} is no stream", image.path.display()),
    }
}

#[test]
fn more_extents_than_a_reply_holds() {
    let lab = Lab::configured("many_extents");
    // A dirty bitmap has one bit for 4 KiB at least, so every second of these is a piece of its own in both contexts.
    let pieces = EXTENTS_OF_A_REPLY / 2 + 8_000;
    let vda = DiskSpec::new("vda", pieces * 8 * KIB + 512).cluster_bytes(4 * KIB);
    let vm = lab.define(&VmSpec::new("many extents").disk(vda));
    let mut points = vec![];
    let write = |n: u64| DiskOp::Write { offset: n * 8 * KIB, len: 4 * KIB, pattern: 1 + (n % 255) as u8 };
    vm.run_while_off("vda", &(0..pieces).map(write).collect::<Vec<_>>());
    vm.start_paused();
    back_up(&lab, &vm, &mut points);
    assert_eq!(frames_of_newest(&lab, &vm, "vda"), pieces);
    vm.destroy();
    // Every piece changes, in one of four ways.
    let change = |n: u64| {
        let offset = n * 8 * KIB;
        match n % 4 {
            0 => DiskOp::Write { offset, len: 4 * KIB, pattern: 1 + (n / 4 % 255) as u8 },
            1 => DiskOp::WriteZeroes { offset, len: 4 * KIB, unmap: true },
            2 => DiskOp::WriteZeroes { offset, len: 4 * KIB, unmap: false },
            _ => DiskOp::Discard { offset, len: 4 * KIB },
        }
    };
    vm.run_while_off("vda", &(0..pieces).map(change).collect::<Vec<_>>());
    vm.start_paused();
    back_up(&lab, &vm, &mut points);
    assert_eq!(
        frames_of_newest(&lab, &vm, "vda"),
        pieces,
        "a piece each: data, or zeros where there was data"
    );
    let set = lab.chain_dir(&vm);
    assert_eq!(points[0].disks["vda"].equals(&extract(&lab, &set, "vda", Some("virtnbdbackup.0"))), Ok(()));
    lab.assert_points(&set, &points[1..]);
}

#[test]
fn zeros_and_discards_in_every_position() {
    let lab = Lab::configured("zeros");
    let clusters = [("vda", 4 * KIB), ("vdb", 64 * KIB), ("vdc", 2 * MIB)];
    let mut spec = VmSpec::new("zeros");
    for (target, cluster) in clusters {
        spec = spec.disk(DiskSpec::new(target, 9 * MIB + 1536).cluster_bytes(cluster));
    }
    spec = spec.disk(DiskSpec::new("vdd", 9 * MIB + 1536).discard(false));
    let vm = lab.define(&spec);
    vm.start_paused();
    let targets: Vec<String> = vm.targets().into_iter().map(str::to_owned).collect();
    let all = |ops: &[DiskOp]| {
        for target in &targets {
            vm.run(target, ops).expect("every request is valid");
        }
    };
    let zeros = |offset, len, unmap| DiskOp::WriteZeroes { offset, len, unmap };
    let discard = |offset, len| DiskOp::Discard { offset, len };
    let write = |offset, len, pattern| DiskOp::Write { offset, len, pattern };
    let mut points = vec![];
    // Data from 0 to 4 MiB and at the odd end; nothing in between.
    all(&[write(0, 4 * MIB, 1), write(9 * MIB, 1536, 2)]);
    back_up(&lab, &vm, &mut points);
    all(&[
        zeros(0, 512, true),
        zeros(MIB - 512, 1024, false),
        zeros(MIB + 64 * KIB, 128 * KIB, true),
        discard(2 * MIB - 512, 64 * KIB + 1024),
        discard(3 * MIB, MIB),
        // Zero bytes written as data.
        write(2 * MIB + 512 * KIB, 4 * KIB, 0),
        zeros(9 * MIB + 512, 1024, true),
    ]);
    back_up(&lab, &vm, &mut points);
    // Written again and zeroed again between two points; zeros over nothing.
    all(&[
        write(0, 64 * KIB, 3),
        zeros(0, 64 * KIB, true),
        write(5 * MIB, MIB, 4),
        discard(5 * MIB, MIB),
        zeros(6 * MIB, 3 * MIB, false),
    ]);
    back_up(&lab, &vm, &mut points);
    all(&[write(3 * MIB, MIB, 5), discard(9 * MIB, 1536)]);
    back_up(&lab, &vm, &mut points);
    // The whole disk at once.
    all(&[zeros(0, 9 * MIB + 1536, true)]);
    back_up(&lab, &vm, &mut points);
    all(&[discard(0, 9 * MIB + 1536), write(512, 512, 6)]);
    back_up(&lab, &vm, &mut points);
    lab.assert_points(&lab.chain_dir(&vm), &points);
}

#[test]
fn zeros_cost_only_where_the_chain_holds_data() {
    let lab = Lab::configured("zero_cost");
    let vm = lab.paused_vm("zero cost", &[DiskSpec::new("vda", 64 * MIB)]);
    let mut points = vec![];
    vm.write("vda", 0, MIB, 1).expect("a write");
    back_up(&lab, &vm, &mut points);
    assert_eq!(data_of_newest(&lab, &vm, "vda"), MIB);
    vm.write_zeroes("vda", 0, 64 * MIB, true).expect("zeros");
    back_up(&lab, &vm, &mut points);
    assert_eq!(
        data_of_newest(&lab, &vm, "vda"),
        MIB,
        "zeros over the MiB that the full holds, nothing elsewhere"
    );
    vm.write_zeroes("vda", 2 * MIB, 62 * MIB, false).expect("zeros");
    back_up(&lab, &vm, &mut points);
    let data = data_of_newest(&lab, &vm, "vda");
    assert!((1..=4096).contains(&data), "{data} bytes for zeros over nothing");
    lab.assert_points(&lab.chain_dir(&vm), &points);
}

#[test]
fn random_requests_of_every_kind_between_points() {
    let lab = Lab::configured("random_extents");
    let sizes = [("vda", 3 * MIB + 512), ("vdb", 5 * MIB)];
    let disks = sizes.map(|(target, size)| DiskSpec::new(target, size).cluster_bytes(4 * KIB));
    let vm = lab.paused_vm("random extents", &disks);
    let mut random = Random::from_environment("LAB_SEED");
    let mut points = vec![];
    for _ in 0..8 {
        for (target, size) in sizes {
            let ops: Vec<DiskOp> = (0..60)
                .map(|_| {
                    let (offset, len) = random.range(size, 64 * KIB);
                    match random.below(4) {
                        0 => DiskOp::WriteZeroes { offset, len, unmap: random.below(2) == 0 },
                        1 => DiskOp::Discard { offset, len },
                        _ => DiskOp::Write { offset, len, pattern: random.below(256) as u8 },
                    }
                })
                .collect();
            vm.run(target, &ops).expect("every request is valid");
        }
        back_up(&lab, &vm, &mut points);
    }
    lab.assert_points(&lab.chain_dir(&vm), &points);
}
