//! How often a run waits for the disk to have something: each sync is a turn of a target with rotating media.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use lab::{Bed, DiskSpec, Lab};

const MIB: u64 = 1 << 20;

/// Every call that returns once something is on the disk.
const CALLS: &str = "trace=fsync,fdatasync,sync,syncfs,sync_file_range,msync";

/// An increment of a VM with one disk, all of the session with it, may sync so often.
const INCREMENT: usize = 12;

/// The same command, followed with all its threads and programs. Each call becomes a line of `trace`.
fn traced(command: &Command, trace: &Path) -> Command {
    let mut traced = Command::new("strace");
    traced.args(["--follow-forks", "--decode-fds=path", "--quiet=all", "--signal=none", "-e", CALLS, "-o"]);
    traced.arg(trace).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    traced
}

/// What was synced, in order: the call and the file.
fn syncs(trace: &Path) -> Vec<String> {
    let text = fs::read_to_string(trace).expect("strace writes what it sees");
    let is_sync = |line: &&str| {
        let asks_nobody_to_wait = line.contains("msync(") && !line.contains("MS_SYNC");
        line.contains('(') && !line.contains("resumed>") && !asks_nobody_to_wait
    };
    text.lines()
        .filter(is_sync)
        .map(|line| line.split_once(' ').map_or(line, |(_, call)| call).trim().to_owned())
        .collect()
}

#[test]
fn an_increment_of_an_idle_vm_waits_for_the_disk_a_few_times() {
    let lab = Lab::configured("syncs");
    let mut bed = Bed::with(&lab, &[DiskSpec::new("vda", MIB)]);
    bed.back_up_next();
    bed.back_up_next();
    let trace = lab.path().join("trace");
    let ended = lab.begin_run(traced(&lab.run_command(&[&bed.vm]), &trace)).wait();
    assert!(ended.status.success(), "{ended:#?}");
    assert_eq!(ended.level(), "incremental 2");
    let syncs = syncs(&trace);
    let mut by_file = BTreeMap::<&str, usize>::new();
    for sync in &syncs {
        let file =
            sync.split_once('<').and_then(|(_, file)| file.split_once('>')).map_or("?", |(file, _)| file);
        *by_file.entry(file).or_default() += 1;
    }
    println!("{} syncs:\n{}\n{by_file:#?}", syncs.len(), syncs.join("\n"));
    assert!(syncs.len() <= INCREMENT, "{} syncs:\n{}", syncs.len(), syncs.join("\n"));
}
