//! Kills the program wherever it can be killed: the guest runs on, nothing restorable is lost, and the next run goes
//! on with an increment.

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process_group};

use lab::{
    Bed, DiskOp, DiskSpec, FREE_LIMIT, History, Lab, Version, Vm, VmSpec, assert_tidy, children_of,
    sockets_of, virsh, wait_for_guard,
};
use random::Random;
use vmbackup::engine::fail_point::{FailPoint, PassedBy};

const MIB: u64 = 1 << 20;

fn bed(lab: &Lab) -> Bed<'_> {
    Bed::at_random(lab, Random::from_environment("LAB_SEED"))
}

#[test]
fn killed_in_the_first_full_at_every_place() {
    let lab = Lab::configured("first_full");
    let mut bed = bed(&lab);
    for place in FailPoint::passed_by_any(&[PassedBy::Job, PassedBy::NewChain]) {
        bed.die_at(place);
        let at_kill = History::disks(bed.lab, &bed.vm);
        bed.change();
        if place == FailPoint::Published {
            bed.points.clear();
            bed.points.push(at_kill);
            bed.points.assert_restorable(bed.lab, &bed.dir());
            bed.back_up_next();
        } else {
            let ended = bed.back_up("full");
            assert_eq!(ended.why(), "first backup of this VM", "after {place}: {ended:#?}");
        }
        bed.points.assert_restorable(bed.lab, &bed.dir());
        bed.assert_tidy(place);
        bed.change();
        bed.back_up_next();
        bed.points.assert_virtnbdrestore(bed.lab, Version::Distribution, &bed.dir());
        bed.vm.delete_checkpoints();
        fs::remove_dir_all(bed.dir()).expect("the chain is ours");
    }
}

#[test]
fn killed_in_an_incremental_at_every_place() {
    let lab = Lab::configured("incremental");
    let mut bed = bed(&lab);
    let other = bed.lab.define(&VmSpec::new("other").disk(DiskSpec::new("vda", MIB)));
    bed.back_up("full");
    for (number, place) in FailPoint::passed_by_any(&[PassedBy::Job]).enumerate() {
        bed.change();
        let at_kill = History::disks(bed.lab, &bed.vm);
        bed.die_at(place);
        if place == FailPoint::Published {
            bed.points.push(at_kill);
        }
        bed.points.assert_restorable(bed.lab, &bed.dir());
        bed.change();
        let undone_by_next = number % 2 == 0;
        if !undone_by_next {
            // A run that is not about this VM clears away too, and replaces no file by chance.
            wait_for_guard(bed.lab, &bed.vm);
            let ended = bed.lab.run_well(&other);
            assert!(ended.log.contains("ended in the middle"), "after {place}: {ended:#?}");
            bed.assert_tidy(place);
        }
        let ended = bed.back_up_next();
        let recovered = ended.report("recovered").contains("an earlier run");
        assert_eq!(recovered, undone_by_next, "after {place}: {ended:#?}");
        bed.assert_tidy(place);
        bed.points.assert_virtnbdrestore(bed.lab, Version::ALL[number % 2], &bed.dir());
    }
    bed.points.assert_restorable(bed.lab, &bed.dir());
    assert_eq!(bed.vm.checkpoints().len(), bed.points.len(), "{:?}", bed.vm.checkpoints());
}

#[test]
fn killed_in_a_full_that_archives_a_chain_at_every_place() {
    let lab = Lab::configured("archiving");
    let mut bed = bed(&lab);
    bed.back_up("full");
    let kinds = [PassedBy::Job, PassedBy::NewChain, PassedBy::Archive];
    for (number, place) in FailPoint::passed_by_any(&kinds).enumerate() {
        bed.change();
        bed.back_up_next();
        let old = std::mem::take(&mut bed.points);
        bed.vm.delete_checkpoints();
        bed.change();
        let at_kill = History::disks(bed.lab, &bed.vm);
        bed.die_at(place);
        // Whole in its folder or whole in the archive, also before anybody repairs anything.
        old.assert_restorable(bed.lab, &whole_chain(&bed, number, place));
        bed.change();
        if place == FailPoint::Published {
            bed.points.push(at_kill);
            bed.back_up_next();
        } else {
            bed.back_up("full");
        }
        let archives = bed.archives();
        assert_eq!(archives.len(), number + 1, "after {place}: {archives:?}");
        old.assert_restorable(bed.lab, &archives[number]);
        bed.points.assert_restorable(bed.lab, &bed.dir());
        bed.assert_tidy(place);
        if number % 4 == 0 {
            old.assert_virtnbdrestore(bed.lab, Version::Sid, &archives[number]);
            bed.points.assert_virtnbdrestore(bed.lab, Version::Distribution, &bed.dir());
        }
    }
}

/// Where the chain that is being archived is now: in the archive once its list of points has left the folder.
fn whole_chain(bed: &Bed<'_>, number: usize, place: FailPoint) -> PathBuf {
    let dir = bed.dir();
    let has_list = |dir: &Path| {
        let entries = fs::read_dir(dir).expect("a folder").flatten();
        entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "cpt")).count() == 1
    };
    let archived = bed.archives().into_iter().nth(number);
    match archived.filter(|archive| has_list(archive)) {
        Some(archive) => archive,
        None => {
            assert!(has_list(&dir), "killed at {place}: no folder has the chain's list");
            dir
        }
    }
}

#[test]
fn killed_in_a_copy_of_a_vm_that_is_off_at_every_place() {
    let lab = Lab::configured("offline");
    let mut bed = bed(&lab);
    bed.back_up("full");
    bed.change();
    bed.back_up_next();
    bed.vm.destroy();
    for (number, place) in FailPoint::passed_by_any(&[PassedBy::Archive]).enumerate() {
        let pattern = 1 + number as u8;
        bed.vm.run_while_off("vda", &[DiskOp::Write { offset: MIB, len: 4096, pattern }]);
        let run = bed.lab.run_killed_at(&bed.vm, place);
        let pid = run.pid();
        let ended = run.wait();
        assert_eq!(ended.status.signal(), Some(9), "at {place}: {ended:#?}");
        let verify = bed.lab.vmstream(&["verify", "--no-archives", bed.dir().to_str().expect("a name")]);
        assert_ne!(verify.status.code(), Some(1), "killed at {place}: {}", lab::text(&verify));
        assert_eq!(bed.vm.state(), "shut off");
        bed.vm.run_while_off("vda", &[DiskOp::Write { offset: 2 * MIB, len: 4096, pattern }]);
        let ended = bed.lab.run_well(&bed.vm);
        assert_eq!(ended.level(), "copy", "after {place}: {ended:#?}");
        for target in bed.vm.targets() {
            let raw = lab::extract(bed.lab, &bed.dir(), target, None);
            if let Err(difference) = bed.vm.shadow(target).equals(&raw) {
                panic!("{target} after {place}: {difference}");
            }
        }
        bed.points.assert_restorable(bed.lab, &bed.archives()[0]);
        bed.assert_tidy(place);
        assert_eq!(sockets_of(pid), Vec::<PathBuf>::new());
        let ended = bed.lab.run_well(&bed.vm);
        assert_eq!(ended.level(), "skip", "{ended:#?}");
    }
}

#[test]
fn killed_with_its_whole_group_or_by_name() {
    let lab = Lab::configured("whole_group");
    let mut bed = bed(&lab);
    bed.back_up("full");
    bed.change();
    // A kill by name or by command line must not find the process that sets the guest free.
    let mut run = bed.lab.run_held_at(&bed.vm, FailPoint::Begun);
    assert_eq!(bed.vm.state(), "paused", "the guest is held while the job begins");
    assert!(bed.vm.backup_job().is_some(), "the job has begun");
    let children = children_of(run.pid());
    assert!(!children.is_empty(), "a guard runs");
    for (_, name, line) in &children {
        assert!(!name.contains("vmbackup") && !line.contains("vmbackup"), "{name}: {line}");
    }
    run.signal(Signal::KILL);
    let took = bed.vm.wait_until_free(FREE_LIMIT);
    println!("killed by name: free after {} ms", took.as_millis());
    assert!(!run.is_alive());
    bed.change();
    bed.back_up_next();

    bed.change();
    let hold = bed.lab.path().join("hold-group");
    let mut command = bed.lab.run_command(&[&bed.vm]);
    command.env("VMBACKUP_FAIL_POINT", format!("{}={}", FailPoint::Begun, hold.display())).process_group(0);
    let run = bed.lab.begin_run(command);
    let began = Instant::now();
    while !hold.exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", run.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(bed.vm.state(), "paused");
    // A terminal's Ctrl-C and a supervisor's first signal reach the guard too; it stays.
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        for (guard, ..) in children_of(run.pid()) {
            rustix::process::kill_process(guard, signal).expect("the guard is there");
        }
    }
    std::thread::sleep(Duration::from_millis(200));
    kill_process_group(run.pid(), Signal::KILL).expect("the group is there");
    let took = bed.vm.wait_until_free(FREE_LIMIT);
    println!("killed with its group: free after {} ms", took.as_millis());
    drop(run);
    bed.change();
    bed.back_up_next();
    bed.points.assert_restorable(bed.lab, &bed.dir());
    bed.assert_tidy("after both");
}

#[test]
fn stopped_by_a_signal_at_every_place() {
    let lab = Lab::configured("signals");
    let mut bed = bed(&lab);
    bed.back_up("full");
    for (number, place) in FailPoint::passed_by_any(&[PassedBy::Job]).enumerate() {
        bed.change();
        let at_signal = History::disks(bed.lab, &bed.vm);
        let run = bed.lab.run_held_at(&bed.vm, place);
        let pid = run.pid();
        let (signal, code) = if number % 2 == 0 { (Signal::TERM, 143) } else { (Signal::INT, 130) };
        run.signal(signal);
        // The signal has to have been seen before the run goes on.
        let seen = Instant::now();
        while !run.log().contains("stopping in order") {
            assert!(seen.elapsed() < Duration::from_secs(60), "{}", run.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        run.release();
        let ended = run.wait_for(Duration::from_secs(60));
        assert_eq!(ended.status.code(), Some(code), "at {place}: {ended:#?}");
        bed.vm.wait_until_free(FREE_LIMIT);
        if ended.level() != "none" {
            // Too late to stop: the point was complete.
            assert_eq!(ended.level(), format!("incremental {}", bed.points.len()), "{ended:#?}");
            bed.points.push(at_signal);
        }
        println!("signal {signal:?} at {place}: {}", ended.level());
        let checkpoints = bed.vm.checkpoints();
        assert_eq!(checkpoints.len(), bed.points.len(), "at {place}: {checkpoints:?}");
        bed.assert_tidy(place);
        assert_eq!(sockets_of(pid), Vec::<PathBuf>::new());
        bed.change();
        let ended = bed.back_up_next();
        assert_eq!(ended.report("recovered"), "[]", "{ended:#?}");
    }
    bed.points.assert_restorable(bed.lab, &bed.dir());
}

#[test]
fn stopped_by_a_signal_while_it_copies() {
    let lab = Lab::new("signal_in_copy");
    // Slow on purpose: content that does not compress, at the slowest level.
    lab.configure(&[("VIRTNBD_COMPRESS_LEVEL", "16")]);
    let size = 384 * MIB;
    let content = lab.path().join("noise.raw");
    noise(&content, size);
    let vm = lab.running_vm("large", &[DiskSpec::new("vda", size).content(&content)]);
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let run = lab.begin_run(lab.run_command(&[&vm]));
        let began = Instant::now();
        while partial_bytes(&lab, &vm) < 8 * MIB {
            assert!(began.elapsed() < Duration::from_secs(60), "{}", run.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        run.signal(signal);
        let ended = run.wait_for(Duration::from_secs(60));
        assert_eq!(ended.status.code(), Some(code), "{ended:#?}");
        assert_eq!(ended.level(), "none", "it was stopped in the middle: {ended:#?}");
        vm.wait_until_free(FREE_LIMIT);
        assert_eq!(vm.checkpoints(), Vec::<String>::new());
        assert_tidy(&lab, &lab.chain_dir(&vm), "after a signal");
    }
}

fn noise(file: &Path, bytes: u64) {
    let mut from = fs::File::open("/dev/urandom").expect("the system has noise");
    let mut to = fs::File::create(file).expect("the lab has room");
    std::io::copy(&mut std::io::Read::take(&mut from, bytes), &mut to).expect("the lab has room");
}

/// Bytes of the unfinished stream so far.
fn partial_bytes(lab: &Lab, vm: &Vm) -> u64 {
    let folders = fs::read_dir(lab.backup_path().join(vm.name())).into_iter().flatten().flatten();
    let files = folders.map(|folder| folder.path().join("vda.full.data.partial"));
    files.filter_map(|file| Some(fs::metadata(file).ok()?.len())).sum()
}

#[test]
fn a_journal_whose_vm_is_gone_is_cleared_away() {
    let lab = Lab::configured("gone");
    let spec = |name: &str| VmSpec::new(name).disk(DiskSpec::new("vda", MIB));
    let (gone, other) = (lab.define(&spec("gone")), lab.define(&spec("other")));
    for vm in [&gone, &other] {
        vm.start_paused();
        vm.write("vda", 0, MIB, 7).expect("a write");
        vm.resume();
    }
    let ended = lab.run_killed_at(&gone, FailPoint::Copied).wait();
    assert_eq!(ended.status.signal(), Some(9), "{ended:#?}");
    gone.wait_until_free(FREE_LIMIT);
    let chain_dir = lab.chain_dir(&gone);
    gone.destroy();
    virsh(&["undefine", gone.name(), "--checkpoints-metadata"]);
    wait_for_guard(&lab, &gone);
    let ended = lab.run_well(&other);
    assert_eq!(ended.level(), "full", "{ended:#?}");
    assert!(ended.log.contains("ended in the middle"), "the log says what was done: {}", ended.log);
    assert_tidy(&lab, &chain_dir, "of the VM that is gone");
}
