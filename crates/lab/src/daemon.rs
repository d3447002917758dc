//! The libvirt daemon, which is everybody's: makes it answer before the first test needs it, and says who may stop it.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::Once;

use rustix::fs::{FlockOperation, flock};
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

/// A use of the daemon, as long as this lives. Holds for every test process of the machine.
#[derive(Debug)]
pub(super) struct Use(#[expect(dead_code, reason = "its lock is what counts")] File);

impl Use {
    /// Waits for a test that has the daemon for itself.
    pub(super) fn together() -> Self {
        Self::locked(FlockOperation::LockShared)
    }

    /// Waits until no other test uses the daemon: what is done to it now is nobody else's failure.
    pub(super) fn alone() -> Self {
        Self::locked(FlockOperation::LockExclusive)
    }

    fn locked(how: FlockOperation) -> Self {
        let dir = Path::new("/run/vmbackup-lab");
        let file = fs::create_dir_all(dir).and_then(|()| File::create(dir.join("users")));
        let file = file.unwrap_or_else(|error| panic!("Cannot create {}/users: {error}", dir.display()));
        flock(&file, how).expect("a lock can be waited for");
        Self(file)
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
