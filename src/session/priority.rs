//! The priority of this process: others come first.
//!
//! Both priorities belong to threads and are inherited by those that are made later, so this comes before any other thread.

use std::process::{Command, Stdio};

use crate::config::Settings;
use crate::config::value::IoClass;

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
    let mut ionice = Command::new("ionice");
    ionice.args(["-c", class]);
    if settings.io_class != IoClass::Idle {
        ionice.args(["-n", &settings.io_level.get().to_string()]);
    }
    ionice.args(["-p", &std::process::id().to_string()]).stdin(Stdio::null());
    match ionice.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            failed.push(format!("IO_PRIORITY_CLASS={class} cannot be had: {said}"));
        }
        Err(error) => failed.push(format!("IO_PRIORITY_CLASS={class} needs the program ionice: {error}")),
    }
    failed
}
