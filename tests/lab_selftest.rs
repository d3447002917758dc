//! The lab tests itself: a lab that is wrong would make every other test worthless.

mod lab;

use lab::{Bus, DiskFormat, DiskOp, DiskSpec, Lab, Random, Vm};

const MIB: u64 = 1 << 20;

fn assert_shadows_equal(vm: &Vm) {
    for target in vm.targets() {
        if let Err(difference) = vm.shadow(target).equals(&vm.read_out(target)) {
            panic!("{} disk {target}: {difference}", vm.name());
        }
    }
}

fn random_op(random: &mut Random, disk_bytes: u64) -> DiskOp {
    let (offset, len) = random.range(disk_bytes, MIB);
    match random.below(10) {
        0 => DiskOp::WriteZeroes { offset, len, unmap: false },
        1 => DiskOp::WriteZeroes { offset, len, unmap: true },
        2 | 3 => DiskOp::Discard { offset, len },
        4 => DiskOp::Discard { offset, len: disk_bytes - offset },
        5 => DiskOp::Flush,
        _ => DiskOp::Write { offset, len, pattern: random.below(256) as u8 },
    }
}

#[test]
fn shadow_equals_the_disk_after_random_requests() {
    let lab = Lab::new("random_requests");
    let sizes = [
        ("vda", 8 * MIB),
        ("vdb", 3 * MIB + 512),
        ("sda", 5 * MIB + 1024),
        ("sdb", 4 * MIB),
        ("vdc", 2 * MIB),
    ];
    let mut disks = sizes.map(|(target, size)| DiskSpec::new(target, size));
    disks[2].format = DiskFormat::Raw;
    disks[3] = disks[3].clone().bus(Bus::Scsi).cluster_bytes(4096);
    disks[4] = disks[4].clone().discard(false).format(DiskFormat::Qcow2V2);
    let vm = lab.paused_vm("random", &disks);
    let mut random = Random::from_environment();
    for (target, size) in sizes {
        let ops: Vec<DiskOp> = (0..300).map(|_| random_op(&mut random, size)).collect();
        vm.run(target, &ops).expect("every request is valid");
    }
    let noise: Vec<u8> = (0..4096).map(|_| random.next_u64() as u8).collect();
    vm.write_bytes("vda", MIB, &noise).expect("the bytes are written");
    vm.destroy();
    assert_shadows_equal(&vm);
}
