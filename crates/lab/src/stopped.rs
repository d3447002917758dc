//! Stops and kills processes: some that hang, and some that die together with those who would help.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Lab, Run, Vm};

/// A process that stands still until this is dropped.
#[derive(Debug)]
pub struct Stopped(Pid);

impl Stopped {
    pub fn new(pid: Pid) -> Self {
        kill_process(pid, Signal::STOP).expect("the process can be stopped");
        let began = Instant::now();
        while state_of(pid) != Some('T') {
            assert!(began.elapsed() < Duration::from_secs(10), "{pid:?} does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
        Self(pid)
    }

    pub fn of(pid: u32) -> Self {
        Self::new(i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id"))
    }

    /// The libvirt daemon, which is everybody's: nobody else may need it meanwhile.
    pub fn daemon() -> Self {
        let pid = fs::read_to_string("/run/libvirtd.pid").expect("libvirtd runs here");
        Self::of(pid.trim().parse().expect("a process id"))
    }

    pub fn pid(&self) -> Pid {
        self.0
    }

    pub fn kill(self) {
        kill_process(self.0, Signal::KILL).expect("it is there");
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Its letter in `/proc/PID/stat`.
fn state_of(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

/// True for a process that runs, or could.
pub fn is_alive(pid: Pid) -> bool {
    state_of(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Processes whose parent is `pid`: their ids, names and command lines.
pub fn children_of(pid: Pid) -> Vec<(Pid, String, String)> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc is mounted").flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw)
        else {
            continue;
        };
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        let text = |file: &str| String::from_utf8_lossy(&read(file)).replace('\0', " ").trim().to_owned();
        let parent = text("stat")
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.split(' ').nth(1).and_then(|number| number.parse::<i32>().ok()));
        if parent == Some(pid.as_raw_nonzero().get()) {
            children.push((id, text("comm"), text("cmdline")));
        }
    }
    children
}

/// Kills a run and whoever would help after its death.
pub fn kill_both(run: Run) {
    let guards = children_of(run.pid());
    assert!(!guards.is_empty(), "it has a guard");
    for (guard, ..) in guards {
        kill_process(guard, Signal::KILL).expect("the guard is there");
    }
    run.signal(Signal::KILL);
    drop(run);
}

/// Has a VM be backed up no more; the one that was excluded before is again.
pub fn exclude(lab: &Lab, vm: &Vm) {
    let text = format!("EXCLUDE_PATTERNS+=(\"{}\")\n", vm.name());
    fs::write(lab.config_dir().join("default/exclude_patterns.conf"), text).expect("it is ours");
}
