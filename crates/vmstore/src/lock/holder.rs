//! Tells whether the process whose number is in a PID file is alive and can have written it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A process that has written a file began before that. Clocks are set meanwhile, and that of a file server differs.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

/// Longer than any PID file.
const PID_BYTES: usize = 32;

/// The live process of one of these programs that the file names, if it is not this one.
pub(super) fn holder(file: &File, programs: &[&str]) -> Option<u32> {
    let written = file.metadata().and_then(|about| about.modified()).ok();
    let is_holder = |pid: &u32| {
        *pid != std::process::id()
            && is_alive(*pid, programs)
            && written.zip(began(*pid)).is_none_or(|(written, began)| began <= written + CLOCK_SLACK)
    };
    pid_in(file).filter(is_holder)
}

pub(super) fn pid_in(file: &File) -> Option<u32> {
    let mut bytes = [0; PID_BYTES];
    let count = file.read_at(&mut bytes, 0).ok()?;
    std::str::from_utf8(&bytes[..count]).ok()?.trim().parse().ok()
}

/// Whether the process lives and has one of these words in its command line. A dead one that nobody has waited for has
/// none.
pub(super) fn is_alive(pid: u32, programs: &[&str]) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    programs.iter().any(|program| line.contains(program))
}

/// When a process began. `None` where that cannot be told.
fn began(pid: u32) -> Option<SystemTime> {
    /// `USER_HZ`, 100 on every Linux that this runs on (proc(5)).
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything. The 22nd field, of which two stand before the name's end.
    let ticks: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let text = fs::read_to_string("/proc/stat").ok()?;
    let booted = text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(UNIX_EPOCH + Duration::from_secs(booted) + TICK * ticks)
}
