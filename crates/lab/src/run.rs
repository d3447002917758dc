//! A `vmbackup --run` under way: held at a place, killed, stopped, waited for.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::command::{must, output_of, text, virsh};
use super::{Lab, Vm};

/// Where a run under test may be killed or held: a `FailPoint` of the engine, whose text this crate passes on.
const FAIL_POINT: &str = "VMBACKUP_FAIL_POINT";

/// At what time a run under test begins; see `cli::run`.
const NOW: &str = "VMBACKUP_TEST_NOW";

/// A run that hangs is a failed test.
const RUN_LIMIT: Duration = Duration::from_secs(120);

/// A program under way. Killed when dropped.
#[derive(Debug)]
pub struct Run {
    child: Child,
    hold_file: PathBuf,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// What a run left.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub log: String,
    json: Value,
}

impl Lab {
    /// Writes a configuration that fits small disks and quick runs: no reserve in the target, scratch files in the lab.
    pub fn configure(&self, keys: &[(&str, &str)]) {
        let scratch = self.scratch_dir();
        let scratch = scratch.to_str().expect("the lab's path is text");
        let usual = [
            ("TARGET_RESERVE_PERCENT", "0"),
            ("TARGET_RESERVE_GIB", "0"),
            ("MAX_RETRIES", "0"),
            // Runs of a test follow each other at once.
            ("OFFLINE_CHANGE_DETECTION_THRESHOLD", "0"),
            ("VIRTNBD_COMPRESS_LEVEL", "1"),
            ("VIRTNBD_SCRATCH_DIR", scratch),
            // Other tests define and remove VMs of the same host meanwhile.
            ("HOST_CONFIG_BACKUP", "no"),
        ];
        // An old level contradicts other ways to say how to compress.
        let given = |name: &str| {
            let is_level = |key: &str| name == "VIRTNBD_COMPRESS_LEVEL" && key == "COMPRESSION";
            keys.iter().any(|(key, _)| *key == name || is_level(key))
        };
        let mut all: Vec<_> = usual.into_iter().filter(|(key, _)| !given(key)).collect();
        all.extend(keys);
        self.instance_conf(&all);
    }

    /// Where scratch files go, unless [`Lab::configure`] was told otherwise.
    pub fn scratch_dir(&self) -> PathBuf {
        self.new_dir("scratch")
    }

    /// The command that backs up these VMs.
    pub fn run_command(&self, vms: &[&Vm]) -> Command {
        let names: Vec<&str> = vms.iter().map(|vm| vm.name()).collect();
        let mut command = self.vmbackup_command();
        command.args(["--run", "--json", "--vm", &names.join(",")]).env_remove(FAIL_POINT);
        command
    }

    /// The same, at a time of day and year, UTC.
    pub fn run_command_at(&self, now: Option<&str>, vms: &[&Vm]) -> Command {
        let mut command = self.run_command(vms);
        command.envs(now.map(|now| (NOW, now)));
        command
    }

    /// Backs up a VM. The run may fail.
    pub fn run(&self, vm: &Vm) -> Ended {
        self.begin_run(self.run_command(&[vm])).wait()
    }

    /// Backs up VMs at a time of day and year, UTC. The run may fail.
    pub fn run_at(&self, now: &str, vms: &[&Vm]) -> Ended {
        self.begin_run(self.run_command_at(Some(now), vms)).wait()
    }

    /// Backs up a VM; panics when that fails.
    #[track_caller]
    pub fn run_well(&self, vm: &Vm) -> Ended {
        let ended = self.run(vm);
        assert!(ended.status.success(), "the run failed: {ended:#?}");
        ended
    }

    /// Backs up a VM, and expects this level, with the guest held still in this way.
    #[track_caller]
    pub fn run_held_by(&self, vm: &Vm, level: &str, method: &str) -> Ended {
        let ended = self.run_well(vm);
        assert_eq!((ended.level().as_str(), ended.report("method").as_str()), (level, method), "{ended:#?}");
        ended
    }

    /// Begins a run that is killed, as by `kill -9`, when it comes to a place.
    pub fn run_killed_at(&self, vm: &Vm, place: impl Into<&'static str>) -> Run {
        let mut command = self.run_command(&[vm]);
        command.env(FAIL_POINT, place.into());
        self.begin_run(command)
    }

    /// Begins a run and returns when it stands still at a place.
    #[track_caller]
    pub fn run_held_at(&self, vm: &Vm, place: impl Into<&'static str>) -> Run {
        let hold_file = self.path().join(format!("hold-{}", self.unused_number()));
        let mut command = self.run_command(&[vm]);
        command.env(FAIL_POINT, format!("{}={}", place.into(), hold_file.display()));
        let mut run = self.begin_run(command);
        run.hold_file = hold_file;
        run.wait_held();
        run
    }

    pub fn begin_run(&self, mut command: Command) -> Run {
        let number = self.unused_number();
        // Files, not pipes: a process that outlives the run must not keep the test waiting.
        let [stdout, stderr] = ["out", "log"].map(|what| self.path().join(format!("run-{number}.{what}")));
        let file = |path: &Path| File::create(path).expect("the lab has room for a log");
        let child = command
            .stdin(Stdio::null())
            .stdout(file(&stdout))
            .stderr(file(&stderr))
            .spawn()
            .expect("vmbackup can be started");
        Run { child, hold_file: PathBuf::new(), stdout, stderr }
    }

    /// The newest folder with a chain of a VM: `BACKUP_PATH/VM/PERIOD`.
    pub fn chain_dir(&self, vm: &Vm) -> PathBuf {
        chain_dir_below(&self.backup_path(), vm)
    }

    /// The folder of a VM: `BACKUP_PATH/VM`.
    pub fn vm_dir(&self, vm: &Vm) -> PathBuf {
        vm_dir_below(&self.backup_path(), vm)
    }
}

/// The newest folder with a chain of a VM below any backup path.
pub fn chain_dir_below(backup_path: &Path, vm: &Vm) -> PathBuf {
    let folder = vm_dir_below(backup_path, vm);
    let entries = fs::read_dir(&folder);
    let entries = entries.unwrap_or_else(|error| panic!("Cannot list {}: {error}", folder.display()));
    let newest = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).max();
    newest.unwrap_or_else(|| panic!("{} has no period", folder.display()))
}

/// The folder of a VM below any backup path.
fn vm_dir_below(backup_path: &Path, vm: &Vm) -> PathBuf {
    let keep = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let mut name: String = vm.name().chars().map(keep).collect();
    if name.starts_with('.') {
        name.replace_range(..1, "_");
    }
    // The end of a long one is a number.
    if name.len() > 240 {
        let entries = fs::read_dir(backup_path).expect("the backup path").flatten();
        let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let of_it = |other: &String| other.len() == 240 && name.starts_with(&other[..220]);
        name = names.find(of_it).expect("a folder");
    }
    backup_path.join(name)
}

impl Run {
    pub fn pid(&self) -> Pid {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id")
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Waits until the run stands still at its place, for the first time or once more.
    #[track_caller]
    pub fn wait_held(&mut self) {
        let began = Instant::now();
        while !self.hold_file.exists() {
            let ended = self.child.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "the run ended before it came to its place: {ended:?}\n{}", self.log());
            assert!(began.elapsed() < RUN_LIMIT, "the run does not come to its place\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets a held run go on.
    pub fn release(&self) {
        fs::remove_file(&self.hold_file).expect("the run is held");
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the run can be signalled");
    }

    /// True while it runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    #[track_caller]
    pub fn wait(self) -> Ended {
        self.wait_for(RUN_LIMIT)
    }

    /// Waits for its end, and panics when that takes longer.
    #[track_caller]
    pub fn wait_for(mut self, limit: Duration) -> Ended {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break status;
            }
            assert!(began.elapsed() < limit, "the run does not end within {limit:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        };
        let stdout = fs::read_to_string(&self.stdout).unwrap_or_default();
        Ended { status, log: self.log(), json: serde_json::from_str(&stdout).unwrap_or_default() }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // It may have ended by itself; either way there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// `full`, `incremental 3`, `copy`, `skip`, or `none` of a run that failed.
    pub fn level(&self) -> String {
        if self.vm_status() == "failed" {
            return "none".to_owned();
        }
        let decision = &self.vm()["report"]["plan"]["decision"];
        if let Some(name) = decision["Incremental"]["name"].as_str() {
            return format!("incremental {}", name.trim_start_matches("virtnbdbackup."));
        }
        let key = decision.as_object().and_then(|map| map.keys().next());
        let key = key.map(String::as_str).or(decision.as_str());
        key.unwrap_or("none").to_lowercase()
    }

    /// Why this level.
    pub fn why(&self) -> String {
        self.report("why")
    }

    /// A part of the report as text.
    pub fn report(&self, key: &str) -> String {
        let value = &self.vm()["report"][key];
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    }

    /// The disks that were left out, a line each: target, colon, reason.
    pub fn left_out(&self) -> String {
        let lines = self.disks();
        let left_out = lines.iter().filter_map(|line| {
            let (target, reason) = line.split_once(": skipped: ")?;
            Some(format!("{target}: {reason}"))
        });
        left_out.collect::<Vec<_>>().join("\n")
    }

    /// Every disk, what became of it, and why: `vda: backed_up: the whole disk`.
    pub fn disks(&self) -> Vec<String> {
        let disks = self.vm()["report"]["every_disk"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let line = |disk: &Value| {
            let caveats = disk["caveats"].as_array().into_iter().flatten();
            let parts = ["disk", "result", "detail"].map(|key| text(&disk[key]));
            parts.into_iter().chain(caveats.map(text)).collect::<Vec<_>>().join(": ")
        };
        disks.map(line).collect()
    }

    /// What the VM's backup failed with.
    pub fn error(&self) -> String {
        self.vm()["error"].as_str().unwrap_or_default().to_owned()
    }

    /// How long the guest stood still.
    pub fn stopped_ms(&self) -> u64 {
        self.vm()["report"]["stopped_ms"].as_u64().expect("a report says how long the guest stood still")
    }

    /// Where the VM's backups went, and the name of the period.
    pub fn place(&self) -> (PathBuf, String) {
        let text = |key: &str| self.vm()[key].as_str().unwrap_or_default().to_owned();
        (PathBuf::from(text("dir")), text("period"))
    }

    /// `ok`, `skipped`, `excluded` or `failed`.
    pub fn vm_status(&self) -> String {
        self.vm()["status"].as_str().unwrap_or_default().to_owned()
    }

    /// What deserves a look, a line each.
    pub fn warnings(&self) -> String {
        let lines = self.vm()["report"]["warnings"].as_array().into_iter().flatten();
        lines.filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
    }

    pub fn vm(&self) -> &Value {
        &self.json["vms"][0]
    }
}

impl Vm {
    /// Lets the processor run. A VM without anything to boot runs its firmware, which writes nothing.
    pub fn resume(&self) {
        must(&mut virsh(["resume", self.name()]));
    }

    /// The XML of the backup job, if there is one.
    pub fn backup_job(&self) -> Option<String> {
        let output = output_of(&mut virsh(["backup-dumpxml", self.name()]));
        if output.status.success() {
            return Some(text(&output));
        }
        let said = text(&output);
        let none = ["no domain backup job present", "domain is not running"];
        assert!(none.iter().any(|words| said.contains(words)), "{}: {said}", self.name());
        None
    }

    /// Waits until the VM runs and has no backup job; panics when it does not in time. Returns how long it took.
    #[track_caller]
    pub fn wait_until_free(&self, limit: Duration) -> Duration {
        self.wait_until_free_for(Duration::ZERO, limit)
    }

    /// The same, and stays so for a time.
    #[track_caller]
    pub fn wait_until_free_for(&self, hold: Duration, limit: Duration) -> Duration {
        let began = Instant::now();
        let mut free_since = None;
        loop {
            let (state, job) = (self.state(), self.backup_job());
            let took = began.elapsed();
            if state == "running" && job.is_none() {
                let since = *free_since.get_or_insert(took);
                if took >= since + hold {
                    return since;
                }
            } else {
                free_since = None;
                assert!(took < limit, "{} is {state} with job {job:?} after {took:?}", self.name());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Deletes every checkpoint with its bitmaps, as somebody would who wants a new chain.
    pub fn delete_checkpoints(&self) {
        if let Some(first) = self.checkpoints().first() {
            must(&mut virsh(["checkpoint-delete", self.name(), first, "--children"]));
        }
    }
}
