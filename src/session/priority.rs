//! The priority of this process: others come first.
//!
//! Both priorities belong to threads and are inherited by those that are made later, so this comes early, and the few threads
//! that are there already get them too.

use std::time::Duration;

use rustix::process::Pid;

use vmconfig::Settings;
use vmconfig::value::IoClass;
use vmprogram::{NEVER, Program};

/// How long it may take to set one.
const LIMIT: Duration = Duration::from_secs(10);

/// Takes the priorities that the settings ask for. Returns what could not be had: a backup is made all the same.
pub fn lower(settings: &Settings) -> Vec<String> {
    let mut failed = Vec::new();
    let nice = settings.process_priority.get();
    if nice != 0 {
        let set = |thread: &Pid| rustix::process::setpriority_process(Some(*thread), nice);
        if let Some(error) = threads().iter().find_map(|thread| set(thread).err()) {
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
    // The thread that starts programs would be made by the call below, and inherit from this one too early.
    let starter = vmprogram::thread_id().map(|thread| thread.to_string());
    let threads = threads().into_iter().map(|thread| thread.as_raw_nonzero().to_string());
    match ionice.arg("-p").args(threads.chain(starter)).run(LIMIT, NEVER) {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            failed.push(format!("IO_PRIORITY_CLASS={class} cannot be had: {}", output.message()));
        }
        Err(error) => failed.push(format!("IO_PRIORITY_CLASS={class} needs the program ionice: {error}")),
    }
    failed
}

/// The threads of this process.
fn threads() -> Vec<Pid> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let number = |task: std::fs::DirEntry| Pid::from_raw(task.file_name().to_str()?.parse().ok()?);
    tasks.filter_map(number).collect()
}
