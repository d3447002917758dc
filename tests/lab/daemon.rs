//! Makes `qemu:///system` answer before the first test needs it.

use std::path::Path;
use std::process::Command;
use std::sync::Once;

use super::command::must;

/// Starts the daemons unless they run. Other test processes may do the same at the same time.
///
/// They are left running: the script's `stop` ends those it started, and only those.
pub(super) fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lab-daemons.sh");
        must(Command::new(script).arg("start"));
    });
}

/// Kills the daemon, as a crash would, and starts it again the way it is started here. VMs run on.
pub fn restart() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lab-daemons.sh");
    must(Command::new(script).arg("restart"));
}
