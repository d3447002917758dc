//! Makes `qemu:///system` answer before the first test needs it.

use std::process::Command;
use std::sync::Once;

use rustix::process::{Pid, Signal, kill_process};

use super::command::must;
use super::place::repository;

/// Starts the daemons unless they run. Other test processes may do the same at the same time.
///
/// They are left running: the script's `stop` ends those it started, and only those.
pub(super) fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let script = repository().join("scripts/lab-daemons.sh");
        must(Command::new(script).arg("start"));
    });
}

/// Kills the daemon, as a crash would, and starts it again the way it is started here. VMs run on.
pub fn restart() {
    let script = repository().join("scripts/lab-daemons.sh");
    must(Command::new(script).arg("restart"));
}

/// Lets the daemon stand still, as one whose host has no time for it.
pub fn stand_still() {
    signal(Signal::STOP);
}

/// Lets it go on.
pub fn go_on() {
    signal(Signal::CONT);
}

fn signal(signal: Signal) {
    let pid = std::fs::read_to_string("/run/libvirtd.pid").expect("the daemon says its number");
    let pid = pid.trim().parse().ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, signal).expect("the daemon can be signalled");
}
