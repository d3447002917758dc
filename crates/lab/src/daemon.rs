//! The libvirt daemon, which is everybody's: makes it answer before the first test needs it, and says who may stop it.

use std::fs::File;
use std::io::Write;
use std::process::Command;
use std::sync::Once;

use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal, kill_process};

use super::command::{must, output_of, virsh};
use super::place::repository;
use super::turn;

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

/// Starts the daemon again if it does not answer, and says so where it is seen even if the test passes: what follows would
/// fail for no fault of its own. False when it was dead.
pub(super) fn check(when: &str) -> bool {
    if output_of(&mut virsh(["uri"])).status.success() {
        return true;
    }
    let _ = writeln!(std::io::stderr(), "lab: THE LIBVIRT DAEMON WAS DEAD {when}, and is started again");
    must(Command::new(repository().join("scripts/lab-daemons.sh")).arg("start"));
    false
}

/// A use of the daemon, as long as this lives. Holds for every test process of the machine.
#[derive(Debug)]
pub(super) struct Use {
    _lock: File,
    /// Nobody else uses it.
    pub(super) is_alone: bool,
}

impl Use {
    /// Waits for a test that has the daemon for itself.
    pub(super) fn together() -> Self {
        Self { _lock: turn::wait_for("users", FlockOperation::LockShared), is_alone: false }
    }

    /// Waits until no other test uses the daemon: what is done to it now is nobody else's failure.
    pub(super) fn alone() -> Self {
        Self { _lock: turn::wait_for("users", FlockOperation::LockExclusive), is_alone: true }
    }
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
