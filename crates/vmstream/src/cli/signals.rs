//! What happens when somebody ends the program: nothing unfinished is left, and it is said.

use super::output::tell;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// A shell says of a program that signal N ended that it ended with 128 + N.
const SIGNAL_EXIT: i32 = 128;

/// Begins to listen. Where that cannot be done, signals end the program as they always do.
pub(super) fn listen() {
    let ignored = ignored();
    // Who was told to ignore one (nohup) goes on doing so.
    let wanted: Vec<i32> =
        [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0).collect();
    let Ok(mut signals) = Signals::new(&wanted) else { return };
    let wait = move || {
        if let Some(signal) = signals.forever().next() {
            end(signal);
        }
    };
    // Without the thread they would be swallowed, so this must not fail quietly.
    if let Err(error) = std::thread::Builder::new().name("signals".to_owned()).spawn(wait) {
        tell(&format!("error: Cannot start a thread: {error}\n"));
        std::process::exit(super::exit::Exit::CannotTell as i32);
    }
}

fn end(signal: i32) -> ! {
    let taken = vmstream::unfinished::take_away();
    super::progress::leave();
    let name = match signal {
        SIGHUP => "SIGHUP",
        SIGINT => "Ctrl-C (SIGINT)",
        _ => "SIGTERM",
    };
    let mut text = format!("\nerror: Ended by {name}\n");
    taken.iter().for_each(|taken| text.push_str(&format!("  {taken}\n")));
    tell(&text);
    std::process::exit(SIGNAL_EXIT + signal)
}

/// The signals that this process ignores from its start on, as bits; none where that cannot be told.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
