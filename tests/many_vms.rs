//! Several VMs in one run: their order, and what the run takes of the host.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use lab::{DiskSpec, Lab, Random, Vm, must};

const MIB: u64 = 1 << 20;

fn vm(lab: &Lab, name: &str, mib: u64) -> Vm {
    let vm = lab.paused_vm(name, &[DiskSpec::new("vda", mib * MIB)]);
    vm.resume();
    vm
}

/// Fills a disk with what no compression makes smaller.
fn fill(vm: &Vm, mib: u64) {
    let mut random = Random::from_environment();
    let noise: Vec<u8> = (0..mib * MIB / 8).flat_map(|_| random.next_u64().to_le_bytes()).collect();
    vm.write_bytes("vda", 0, &noise).expect("a write");
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
    let foreign = "<domaincheckpoint><name>mine</name></domaincheckpoint>";
    let file = lab.path().join("checkpoint.xml");
    fs::write(&file, foreign).expect("a file");
    let mut virsh = std::process::Command::new("virsh");
    must(virsh.args(["-c", "qemu:///system", "checkpoint-create", vms[3].name()]).arg(&file));
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
    assert_eq!(lab.ask("SELECT status FROM sessions ORDER BY id"), ["success", "partial"]);
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
    let run = lab.run_held_at(&vm, "copied");
    let pid = run.pid().as_raw_nonzero().to_string();
    let tasks: Vec<_> = fs::read_dir(Path::new("/proc").join(&pid).join("task"))
        .expect("a process has threads")
        .map(|task| task.expect("a thread").path())
        .collect();
    assert!(tasks.len() > 2, "{tasks:?}");
    for task in tasks {
        let stat = fs::read_to_string(task.join("stat")).expect("a thread has numbers");
        // After the name, which ends with the last bracket: `nice` is the 19th field, this the 3rd.
        let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
        assert_eq!(fields[16], "7", "{stat}");
        let thread = task.file_name().and_then(|name| name.to_str()).expect("a number").to_owned();
        let io = must(std::process::Command::new("ionice").args(["-p", &thread]));
        assert_eq!(io.trim(), "best-effort: prio 6", "{}", task.display());
    }
    run.release();
    assert!(run.wait().status.success());
}
