//! Ends a program in order when somebody asks for it: SIGHUP, Ctrl-C, SIGTERM.
//!
//! Must not live here: what a program does then.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;

/// A shell says of a program that signal N ended that it ended with 128 + N.
const SIGNAL_EXIT: i32 = 128;

/// The exit code of a program that ends by a signal.
pub fn exit_code(signal: i32) -> i32 {
    SIGNAL_EXIT + signal
}

/// A signal as people know it.
pub fn name(signal: i32) -> &'static str {
    match signal {
        SIGHUP => "SIGHUP",
        SIGINT => "Ctrl-C (SIGINT)",
        _ => "SIGTERM",
    }
}

/// Calls `end` from a thread of its own when the first signal comes. Where nobody can listen, signals end the program as they
/// always do.
///
/// # Errors
/// When the thread cannot be started: from then on signals are swallowed, so the program must not go on.
pub fn listen(end: impl FnOnce(i32) + Send + 'static) -> io::Result<()> {
    let ignored = ignored();
    // Who was told to ignore one (nohup) goes on doing so.
    let wanted: Vec<i32> =
        [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0).collect();
    let Ok(mut signals) = Signals::new(&wanted) else { return Ok(()) };
    let wait = move || signals.forever().next().map(end);
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}

/// The signals that this process ignores from its start on, as bits; none where that cannot be told.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
