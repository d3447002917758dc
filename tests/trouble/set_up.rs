//! VMs that get into trouble, and what a run that failed must have left.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lab::{DiskOp, DiskSpec, Ended, FREE_LIMIT, History, Lab, Run, Vm, virsh};
use random::Random;

pub(super) const MIB: u64 = 1 << 20;

pub(super) const STORAGE: i32 = 4;

pub(super) const VM: i32 = 5;

pub(super) const TOOL: i32 = 6;

/// Noise: content that no compression makes smaller.
pub(super) fn noise(random: &mut Random, bytes: u64) -> Vec<u8> {
    random.bytes(bytes as usize)
}

pub(super) fn noise_file(lab: &Lab, random: &mut Random, bytes: u64) -> PathBuf {
    let file = lab.path().join("noise.raw");
    fs::write(&file, noise(random, bytes)).expect("the lab has room");
    file
}

/// A running VM of two disks with something in them.
pub(super) fn small_vm(lab: &Lab) -> Vm {
    let disks = [DiskSpec::new("vda", 8 * MIB), DiskSpec::new("vdb", 3 * MIB + 512)];
    let vm = lab.paused_vm("small", &disks);
    vm.write("vda", MIB, 2 * MIB, 0x11).expect("a write");
    vm.write("vdb", 3 * MIB, 512, 0x22).expect("a write");
    vm.resume();
    vm
}

/// Writes, zeroes and discards on every disk.
pub(super) fn change(vm: &Vm, random: &mut Random) {
    write_and_zero(vm, random);
    for target in vm.targets() {
        let (offset, len) = random.range(vm.shadow(target).size_bytes(), 512 << 10);
        vm.run(target, &[DiskOp::Discard { offset, len }, DiskOp::Flush]).expect("the guest can discard");
    }
}

/// The same without discards: while a job runs, QEMU drops those, and the disk keeps what it holds.
pub(super) fn write_and_zero(vm: &Vm, random: &mut Random) {
    for target in vm.targets() {
        let size = vm.shadow(target).size_bytes();
        let mut ops = Vec::new();
        for _ in 0..6 {
            let (offset, len) = random.range(size, 256 << 10);
            ops.push(match random.below(5) {
                0 => DiskOp::WriteZeroes { offset, len, unmap: true },
                1 => DiskOp::WriteZeroes { offset, len, unmap: false },
                _ => DiskOp::Write { offset, len, pattern: 1 + random.below(255) as u8 },
            });
        }
        ops.push(DiskOp::Flush);
        vm.run(target, &ops).expect("the guest can write");
    }
}

/// Backs up, expects the next increment (or the first full), and notes what it must hold.
#[track_caller]
pub(super) fn back_up(lab: &Lab, vm: &Vm, history: &mut History) -> Ended {
    let ended = lab.run_well(vm);
    let want = if history.is_empty() { "full".to_owned() } else { format!("incremental {}", history.len()) };
    assert_eq!(ended.level(), want, "{ended:#?}");
    history.note(lab, vm);
    ended
}

/// The run failed with this code, said these words, and left nothing but the chain as it was.
#[track_caller]
pub(super) fn assert_failed(
    ended: &Ended,
    code: i32,
    words: &str,
    history: &History,
    vm: &Vm,
    chain_dir: &Path,
) {
    assert_eq!(ended.status.code(), Some(code), "{ended:#?}");
    assert!(ended.error().contains(words), "{words:?} is not in {ended:#?}");
    if vm.state() != "shut off" {
        vm.wait_until_free(FREE_LIMIT);
    }
    assert_eq!(vm.checkpoints().len(), history.len(), "{:?}", vm.checkpoints());
    let entries = fs::read_dir(chain_dir).into_iter().flatten().flatten();
    let partial: Vec<_> =
        entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "partial")).collect();
    assert!(partial.is_empty(), "{partial:?}");
}

#[track_caller]
pub(super) fn assert_no_journal(backup_path: &Path) {
    let entries = fs::read_dir(backup_path.join("_state/journal")).into_iter().flatten().flatten();
    let left: Vec<_> =
        entries.map(|e| e.path()).filter(|p| p.extension().is_none_or(|e| e != "lock")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Waits until a run has written this much of a stream.
#[track_caller]
pub(super) fn wait_for_partial(run: &Run, dir: &Path, name: &str, bytes: u64) {
    let began = Instant::now();
    while fs::metadata(dir.join(name)).map_or(0, |meta| meta.len()) < bytes {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", run.log());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Ends the job, and waits until it is gone: libvirt answers when it has told QEMU.
pub(super) fn abort_job(vm: &Vm) {
    virsh(&["domjobabort", vm.name()]);
    vm.wait_until_free(FREE_LIMIT);
}

/// Begins a backup job as another program would, with its scratch file in a folder that QEMU's user may write. Returns its XML.
pub(super) fn begin_other_job(lab: &Lab, vm: &Vm, open: &Path, socket: &Path) -> String {
    let xml = lab.path().join("job.xml");
    // Those of one before are in the way.
    let scratch = open.join("other.scratch");
    let _ = (fs::remove_file(socket), fs::remove_file(&scratch));
    let disks = format!(
        "<disk name='vda' backup='yes' type='file'><scratch file='{}'/></disk><disk name='vdb' backup='no'/>",
        scratch.display()
    );
    let server = format!("<server transport='unix' socket='{}'/>", socket.display());
    fs::write(&xml, format!("<domainbackup mode='pull'>{server}<disks>{disks}</disks></domainbackup>"))
        .expect("a file");
    virsh(&["backup-begin", vm.name(), xml.to_str().expect("text")]);
    vm.backup_job().expect("the job has begun")
}
