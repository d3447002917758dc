//! The guard outlives its run, and tells when that is gone.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Linux: `SIGKILL` in a signal mask of `/proc/PID/status`.
const KILL_BIT: u64 = 1 << 8;

/// Whether a process is dead, or was killed and cannot end because a thread of it waits for a disk.
pub(super) fn is_dying(pid: u32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let was_killed = |key| {
        let mask = value(key).and_then(|mask| u64::from_str_radix(mask, 16).ok());
        mask.is_some_and(|mask| mask & KILL_BIT != 0)
    };
    value("State:").is_some_and(|state| state.starts_with(['Z', 'X']))
        || was_killed("SigPnd:")
        || was_killed("ShdPnd:")
}

/// A session of its own, and deaf to what ends a program in order.
pub(super) fn outlive_the_run() {
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"kvm-guest-guard");
    let ignored = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP] {
        let _ = signal_hook::flag::register(signal, Arc::clone(&ignored));
    }
}
