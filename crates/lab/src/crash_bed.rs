//! A VM whose backups are killed, and what must not be left of them.

use std::fmt;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use random::Random;
use rustix::process::Pid;

use super::{DiskOp, DiskSpec, Ended, History, Lab, Vm};

const MIB: u64 = 1 << 20;

/// Its disks.
pub const SIZES: [(&str, u64); 2] = [("vda", 8 * MIB), ("vdb", 3 * MIB + 512)];

/// What the program promises about a guest whose backup died.
pub const FREE_LIMIT: Duration = Duration::from_secs(2);

/// A running VM, the points its chain should have, and a source of changes.
pub struct CrashBed {
    pub lab: Lab,
    pub vm: Vm,
    pub history: History,
    pub random: Random,
}

impl CrashBed {
    pub fn new(name: &str) -> Self {
        Self::on(Lab::new(name))
    }

    /// In a lab that is configured here.
    pub fn on(lab: Lab) -> Self {
        lab.configure(&[]);
        let vm = lab.paused_vm("killed", &SIZES.map(|(target, size)| DiskSpec::new(target, size)));
        vm.resume();
        let mut bed =
            Self { lab, vm, history: History::default(), random: Random::from_environment("LAB_SEED") };
        bed.change();
        bed
    }

    /// Writes, zeroes and discards on every disk.
    pub fn change(&mut self) {
        for (target, size) in SIZES {
            let mut ops = Vec::new();
            for _ in 0..6 {
                let (offset, len) = self.random.range(size, 256 << 10);
                ops.push(match self.random.below(5) {
                    0 => DiskOp::WriteZeroes { offset, len, unmap: true },
                    1 => DiskOp::Discard { offset, len },
                    _ => DiskOp::Write { offset, len, pattern: 1 + self.random.below(255) as u8 },
                });
            }
            self.vm.run(target, &ops).expect("the guest can write");
        }
    }

    pub fn chain_dir(&self) -> PathBuf {
        self.lab.chain_dir(&self.vm)
    }

    /// Backs up, and expects this level.
    #[track_caller]
    pub fn back_up(&mut self, level: &str) -> Ended {
        let ended = self.lab.run_well(&self.vm);
        assert_eq!(ended.level(), level, "{ended:#?}");
        if level == "full" {
            self.history = History::default();
        }
        self.history.note(&self.lab, &self.vm);
        ended
    }

    /// Backs up, and expects the next increment.
    #[track_caller]
    pub fn back_up_increment(&mut self) -> Ended {
        self.back_up(&format!("incremental {}", self.history.len()))
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

    #[track_caller]
    pub fn assert_tidy(&self, when: impl fmt::Display) {
        assert_tidy(&self.lab, &self.chain_dir(), when);
    }
}

/// No unfinished file, journal, scratch file or socket is left.
#[track_caller]
pub fn assert_tidy(lab: &Lab, chain_dir: &Path, when: impl fmt::Display) {
    let journals = lab.backup_path().join("_state/journal");
    let mut left: Vec<PathBuf> = Vec::new();
    for (dir, is_left) in [
        (chain_dir, (|name| name.ends_with(".partial")) as fn(&str) -> bool),
        (&chain_dir.join("checkpoints"), |name| !name.ends_with(".xml")),
        (&journals, |_| true),
        (&lab.backup_path().join("_state/locks"), |_| true),
        (&lab.backup_path().join("_state"), |name| name == "vmbackup.pid"),
        (&lab.scratch_dir(), |_| true),
        (&lab.backup_path(), |name| name.starts_with(".vmbackup-test")),
    ] {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let names = entries.filter(|entry| entry.file_name().to_str().is_none_or(is_left));
        left.extend(names.map(|entry| entry.path()));
    }
    assert!(left.is_empty(), "left {when}: {left:?}");
}

/// Waits until the guard of a run that died has not the lock of the VM: it writes the journal under it.
pub fn wait_for_guard(lab: &Lab, vm: &Vm) {
    wait_for_guard_below(&lab.backup_path(), vm);
}

/// The same with another backup path.
pub fn wait_for_guard_below(backup_path: &Path, vm: &Vm) {
    let lock = backup_path.join(format!("_state/locks/vmbackup-{}.lock", vm.name()));
    let Ok(lock) = fs::File::open(lock) else { return };
    let began = Instant::now();
    while rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "the guard of {} does not end", vm.name());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sockets of a process, in the place where the programs put them.
pub fn sockets_of(pid: Pid) -> Vec<PathBuf> {
    let begins = format!("virtnbdbackup.{}-", pid.as_raw_nonzero());
    let entries = fs::read_dir("/var/tmp").into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&begins));
    ours.map(|entry| entry.path()).collect()
}
