//! Several VMs in one run: their order, and what the run takes of the host.

use std::fs::{self, File};
use std::io::BufReader;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use lab::{DiskSpec, Lab, Vm, VmSpec, must};
use random::Random;
use serde_json::Value;
use vmbackup::engine::fail_point::FailPoint;
use vmreport::{SessionReport, SessionStatus, VmResult, read_parts};

const MIB: u64 = 1 << 20;

fn vm(lab: &Lab, name: &str, mib: u64) -> Vm {
    lab.running_vm(name, &[DiskSpec::new("vda", mib * MIB)])
}

/// Fills a disk with what no compression makes smaller.
fn fill(vm: &Vm, mib: u64) {
    let mut random = Random::from_environment("LAB_SEED");
    let noise: Vec<u8> = random.bytes((mib * MIB) as usize);
    vm.write_bytes("vda", 0, &noise).expect("a write");
}

/// Gives it a checkpoint of somebody else.
fn make_fail(lab: &Lab, vm: &Vm) {
    let foreign = "<domaincheckpoint><name>mine</name></domaincheckpoint>";
    let file = lab.path().join("checkpoint.xml");
    fs::write(&file, foreign).expect("a file");
    let mut virsh = Command::new("virsh");
    must(virsh.args(["-c", "qemu:///system", "checkpoint-create", vm.name()]).arg(&file));
}

/// What the files of sessions tell, the oldest first. Each is as the schema says.
pub(crate) fn session_reports(lab: &Lab) -> Vec<SessionReport> {
    let folder = lab.backup_path().join("_state/report");
    let mut files: Vec<_> = fs::read_dir(&folder).expect("a folder").flatten().map(|e| e.path()).collect();
    files.sort();
    let read = |path: &PathBuf| read_parts(BufReader::new(File::open(path).expect("a file")));
    let read = |path: &PathBuf| {
        let report = read(path).expect("a session");
        let document = serde_json::to_value(&report).expect("JSON");
        assert_eq!(lab::schema::complaints("vmbackup-session-1", &document), "", "{}", path.display());
        report
    };
    files.iter().map(read).collect()
}

#[test]
fn a_killed_session_keeps_what_had_ended_and_a_whole_one_is_what_is_printed() {
    let lab = Lab::new("killed_session");
    lab.configure(&[("PARALLEL_VMS", "1"), ("HOST_CONFIG_BACKUP", "yes")]);
    let bad = vm(&lab, "bad", 1);
    make_fail(&lab, &bad);
    let off = lab.define(&VmSpec::new("off").disk(DiskSpec::new("vda", MIB)));
    let (on, last) = (vm(&lab, "on", 1), vm(&lab, "zlast", 1));
    let all = [&bad, &off, &on, &last];
    // Only a VM that runs comes to this place.
    let mut command = lab.run_command(&all);
    command.env("VMBACKUP_FAIL_POINT", <&str>::from(FailPoint::Released));
    let killed = lab.begin_run(command).wait();
    assert_eq!(killed.status.signal(), Some(9), "{killed:#?}");
    let ended: Vec<String> =
        [(&bad, "failed"), (&off, "success")].map(|(vm, how)| format!("{}|{how}", vm.name())).to_vec();
    let rows = "SELECT vm_name, status FROM vm_backups ORDER BY id";
    assert_eq!(lab.ask(rows), ended);
    let told = session_reports(&lab).pop().expect("a session");
    let names: Vec<&str> = told.vms.iter().map(|vm| vm.vm.as_str()).collect();
    assert_eq!(names, [bad.name(), off.name()]);
    assert!(matches!(told.vms[0].result, VmResult::Failed(_)), "{told:#?}");
    assert!(matches!(told.vms[1].result, VmResult::Ok { .. }), "{told:#?}");
    assert_eq!((told.end, told.host_config), (None, None));

    // The next one ends in order. What it prints is the sum of what it has written.
    let names = all.map(Vm::name).join(",");
    let output = lab.vmbackup(&["--run", "--json", "--vm", &names]);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let mut printed: SessionReport = serde_json::from_slice(&output.stdout).expect("a session");
    let mut told = session_reports(&lab);
    assert_eq!(told.len(), 2);
    let mut told = told.remove(1);
    for session in [&mut printed, &mut told] {
        session.vms.sort_by(|a, b| a.vm.cmp(&b.vm));
    }
    assert_eq!(told, printed);
    assert_eq!(told.end.expect("it ended").status, SessionStatus::Partial);
    assert_eq!(
        lab.ask("SELECT status FROM sessions ORDER BY start_time, id DESC"),
        ["interrupted", "partial"]
    );
    assert_eq!(
        told.session.id.map(|id| vec![id.to_string()]),
        Some(lab.ask("SELECT id FROM sessions ORDER BY start_time DESC, id LIMIT 1"))
    );

    // Real output is as the schema says.
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let words: Vec<&str> =
        document["vms"].as_array().into_iter().flatten().filter_map(|vm| vm["status"].as_str()).collect();
    assert_eq!(words, ["failed", "skipped", "ok", "ok"]);
    // One that failed tells what was known by then.
    let known = |vm: usize| &document["vms"][vm]["report"];
    assert!(known(0)["plan"]["decision"]["Refuse"].is_object(), "{:#}", known(0));
    assert_eq!(known(0)["every_disk"][0]["disk"], "vda");
    assert!(known(2)["target_free_bytes"].as_u64() > Some(0), "{:#}", known(2));
    assert!(known(2)["scratch_peak_bytes"].is_u64() && known(1)["scratch_peak_bytes"].is_null());
    assert_eq!(lab::schema::complaints("vmbackup-session-1", &document), "");
}

#[test]
fn the_longest_begins_first_and_one_that_fails_stops_no_other() {
    let lab = Lab::new("order");
    lab.configure(&[("PARALLEL_VMS", "1")]);
    let vms = ["a", "b", "c", "d"].map(|name| vm(&lab, name, 1));
    let all: Vec<&Vm> = vms.iter().collect();
    let first = lab.begin_run(lab.run_command(&all[..3])).wait();
    assert!(first.status.success(), "{first:#?}");
    for (vm, seconds) in vms.iter().zip([5, 500, 50]) {
        let sql = "UPDATE vm_backups SET duration_sec = ?1 WHERE vm_name = ?2";
        assert_eq!(lab.database().execute(sql, (seconds, vm.name())).expect("a row"), 1);
    }
    // The one without a history comes first, and this one fails.
    make_fail(&lab, &vms[3]);
    let ended = lab.begin_run(lab.run_command(&all)).wait();
    assert_eq!(ended.status.code(), Some(5), "{ended:#?}");
    let place = |vm: &Vm| {
        let line = ended.log.lines().position(|line| {
            line.contains(vm.name()) && (line.contains("incremental 1") || line.contains("did not make"))
        });
        line.unwrap_or_else(|| panic!("{} is not in {}", vm.name(), ended.log))
    };
    let places = [3, 1, 2, 0].map(|number: usize| place(&vms[number]));
    assert!(places.is_sorted(), "{places:?}\n{}", ended.log);
    let rows = "SELECT error_code, COUNT(*) FROM vm_backups WHERE status = 'failed' GROUP BY error_code";
    assert_eq!(lab.ask(rows), ["FOREIGN_CHECKPOINTS|1"]);
    assert_eq!(lab.ask("SELECT status FROM sessions ORDER BY start_time, id DESC"), ["success", "partial"]);
}

#[test]
fn a_run_writes_no_faster_than_it_may() {
    let lab = Lab::new("bandwidth");
    lab.configure(&[("TARGET_BANDWIDTH", "4")]);
    let (one, two) = (vm(&lab, "one", 5), vm(&lab, "two", 5));
    fill(&one, 5);
    fill(&two, 5);
    let began = Instant::now();
    let ended = lab.begin_run(lab.run_command(&[&one, &two])).wait();
    assert!(ended.status.success(), "{ended:#?}");
    // Ten MiB in all, half a second of which may have been saved up.
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn every_thread_has_the_priority_of_the_settings() {
    let lab = Lab::new("priority");
    lab.configure(&[("PROCESS_PRIORITY", "7"), ("IO_PRIORITY_CLASS", "2"), ("IO_PRIORITY_LEVEL", "6")]);
    let vm = vm(&lab, "priority", 1);
    let run = lab.run_held_at(&vm, FailPoint::Copied);
    let pid = run.pid().as_raw_nonzero().to_string();
    let tasks: Vec<_> = fs::read_dir(Path::new("/proc").join(&pid).join("task"))
        .expect("a process has threads")
        .map(|task| task.expect("a thread").path())
        .collect();
    let mut looked_at = 0;
    for task in &tasks {
        // A thread may end meanwhile.
        let Ok(stat) = fs::read_to_string(task.join("stat")) else { continue };
        // After the name, which ends with the last bracket: `nice` is the 19th field, this the 3rd.
        let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
        assert_eq!(fields[16], "7", "{stat}");
        let thread = task.file_name().and_then(|name| name.to_str()).expect("a number").to_owned();
        let io = Command::new("ionice").args(["-p", &thread]).output().expect("ionice is there");
        if task.exists() {
            assert_eq!(
                String::from_utf8_lossy(&io.stdout).trim(),
                "best-effort: prio 6",
                "{}",
                task.display()
            );
            looked_at += 1;
        }
    }
    assert!(looked_at > 2, "{tasks:?}");
    run.release();
    assert!(run.wait().status.success());
}
