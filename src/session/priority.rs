//! The priority of this process: others come first.
//!
//! Both priorities belong to threads and are inherited by those that are made later, so this comes before any other thread
//! but the one that starts programs.

use std::time::Duration;

use crate::config::Settings;
use crate::config::value::IoClass;
use crate::program::{self, NEVER, Program};

/// How long it may take to set one.
const LIMIT: Duration = Duration::from_secs(10);

/// Takes the priorities that the settings ask for. Returns what could not be had: a backup is made all the same.
pub fn lower(settings: &Settings) -> Vec<String> {
    let mut failed = Vec::new();
    let nice = settings.process_priority.get();
    if nice != 0 {
        if let Err(error) = rustix::process::setpriority_process(None, nice) {
            failed.push(format!("PROCESS_PRIORITY={nice} cannot be had: {error}"));
        }
    }
    let class = match settings.io_class {
        IoClass::Inherited => return failed,
        IoClass::RealTime => "1",
        IoClass::BestEffort => "2",
        IoClass::Idle => "3",
    };
    let mut ionice = Program::new("ionice").args(["-c", class]);
    if settings.io_class != IoClass::Idle {
        ionice = ionice.args(["-n", &settings.io_level.get().to_string()]);
    }
    // The thread that starts programs is there already, and they inherit from it.
    let threads = std::iter::once(std::process::id()).chain(program::thread_id());
    match ionice.arg("-p").args(threads.map(|thread| thread.to_string())).run(LIMIT, NEVER) {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            failed.push(format!("IO_PRIORITY_CLASS={class} cannot be had: {}", output.message()));
        }
        Err(error) => failed.push(format!("IO_PRIORITY_CLASS={class} needs the program ionice: {error}")),
    }
    failed
}
