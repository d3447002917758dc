//! Errors of the file system that holds the backups, and file systems that know less than others: no restore point is lost.

use std::fs::{self, File};
use std::process::Command;

use lab::{Bed, DiskSpec, Ended, FaultyFileSystem, History, Lab, Op, VmSpec, wait_for_guard};
use rustix::io::Errno;
use serde_json::Value;
use vmbackup::engine::fail_point::FailPoint;

const MIB: u64 = 1 << 20;

/// A run that begins a new chain, with the one before in its way.
fn run_new_chain(bed: &mut Bed<'_>) -> Ended {
    bed.vm.delete_checkpoints();
    bed.change();
    bed.lab.run(&bed.vm)
}

/// A VM whose backups are on a faulty file system.
fn bed(lab: &Lab) -> (FaultyFileSystem, Bed<'_>) {
    let faulty = lab.faulty_file_system("backups");
    lab.configure(&[]);
    (faulty, Bed::with(lab, &[DiskSpec::new("vda", MIB)]))
}

/// Changes the disk, and backs up.
#[track_caller]
fn back_up(bed: &mut Bed<'_>, level: &str) {
    bed.change();
    bed.back_up(level);
}

#[test]
fn an_error_while_archiving_loses_no_chain() {
    let lab = Lab::new("lstat");
    let (faulty, mut bed) = bed(&lab);
    back_up(&mut bed, "full");
    back_up(&mut bed, "incremental 1");
    let mut chains = vec![std::mem::take(&mut bed.points)];
    // How often each name is looked at in a run that archives.
    let names = ["chain-DAY", "vda.full.data", "vda.full.data.partial"];
    faulty.heal();
    let ended = run_new_chain(&mut bed);
    assert!(ended.status.success(), "{ended:#?}");
    chains.push(History::of(&lab, &bed.vm));
    let day = bed.archives()[0].file_name().expect("a name").to_string_lossy().into_owned();
    let calls = names.map(|name| {
        let name = name.replace("DAY", day.trim_start_matches("chain-"));
        let calls = faulty.calls(Op::GetAttr, &name);
        (name, calls.min(10))
    });
    assert!(calls.iter().all(|(_, calls)| *calls > 0), "{calls:?}");
    let mut failed = 0;
    for (name, calls) in &calls {
        for skip in 0..*calls {
            let case = format!("{name}, call {skip}");
            faulty.heal();
            faulty.fail_once(Op::GetAttr, name, skip, Errno::IO);
            let ended = run_new_chain(&mut bed);
            faulty.heal();
            if ended.vm_status() == "ok" {
                chains.push(History::of(&lab, &bed.vm));
            } else {
                failed += 1;
                let archives = bed.archives();
                assert!(archives.len() + 1 >= chains.len(), "{case}: {archives:?} {ended:#?}");
                // Whether the old chain is in its place or in the archive is settled by the next run.
                let again = run_new_chain(&mut bed);
                assert!(again.status.success(), "{case}: {ended:#?} {again:#?}");
                chains.push(History::of(&lab, &bed.vm));
            }
            let mut dirs = bed.archives();
            dirs.push(bed.dir());
            assert_eq!(dirs.len(), chains.len(), "{case}: {dirs:?} {ended:#?}");
            // The one that was in the way, and the oldest, whose folder has the name of the day.
            for at in [0, chains.len() - 2, chains.len() - 1] {
                bed.assert_points(&case, &dirs[at], &chains[at]);
            }
        }
    }
    println!("{failed} runs failed");
}

#[test]
fn a_list_that_cannot_be_read_is_not_a_list_without_the_point() {
    let lab = Lab::new("list");
    let (faulty, mut bed) = bed(&lab);
    back_up(&mut bed, "full");
    bed.change();
    bed.points.note(&lab, &bed.vm);
    let ended = bed.lab.run_killed_at(&bed.vm, FailPoint::Published).wait();
    assert!(!ended.status.success());
    wait_for_guard(bed.lab, &bed.vm);
    let list = format!("{}.cpt", bed.vm.name());
    let checkpoints = bed.vm.checkpoints();
    for (op, error) in [(Op::Open, Errno::IO), (Op::Read, Errno::IO), (Op::Open, Errno::STALE)] {
        faulty.fail(op, &list, error);
        let ended = bed.lab.run(&bed.vm);
        assert!(!ended.status.success(), "{ended:#?}");
        assert!(ended.error().contains("cannot be told"), "{ended:#?}");
        faulty.heal();
        assert_eq!(bed.vm.checkpoints(), checkpoints, "the point's checkpoint stays");
        bed.assert_points("list", &bed.dir(), &bed.points);
    }
    // Somebody else's program went on with the chain meanwhile.
    let list = bed.dir().join(list);
    let ours = fs::read_to_string(&list).expect("the list");
    for (text, is_told) in [("[\"virtnbdbackup.0\", \"other\"]", false), ("[", false), (&ours, true)] {
        fs::write(&list, text).expect("a list");
        let ended = bed.lab.run(&bed.vm);
        assert_eq!(ended.status.success(), is_told, "{text}: {ended:#?}");
        fs::write(&list, &ours).expect("a list");
        if is_told {
            assert_eq!(ended.level(), "incremental 2", "{ended:#?}");
        }
        bed.assert_points("list", &bed.dir(), &bed.points);
    }
}

#[test]
fn a_chain_lives_on_file_systems_that_know_less() {
    for (name, links, flags) in [("no_flags", true, false), ("no_links", false, false)] {
        let lab = Lab::new(name);
        let (faulty, mut bed) = bed(&lab);
        if !links {
            faulty.forget_links();
        }
        if !flags {
            faulty.forget_rename_flags();
        }
        back_up(&mut bed, "full");
        back_up(&mut bed, "incremental 1");
        for place in [FailPoint::FirstStreamRenamed, FailPoint::StreamsRenamed] {
            bed.change();
            let ended = bed.lab.run_killed_at(&bed.vm, place).wait();
            assert!(!ended.status.success());
            wait_for_guard(bed.lab, &bed.vm);
            bed.assert_points(name, &bed.dir(), &bed.points);
        }
        back_up(&mut bed, "incremental 2");
        let old = std::mem::take(&mut bed.points);
        // Without links a move that broke off is ended, not taken back: there is no chain to archive then.
        let moving: &[FailPoint] = if links {
            &[FailPoint::Archiving, FailPoint::ArchiveComplete, FailPoint::Leaving]
        } else {
            &[FailPoint::Archiving]
        };
        for place in moving.iter().copied().chain([FailPoint::FirstStreamRenamed]) {
            bed.vm.delete_checkpoints();
            bed.change();
            let ended = bed.lab.run_killed_at(&bed.vm, place).wait();
            assert!(!ended.status.success());
            wait_for_guard(bed.lab, &bed.vm);
        }
        back_up(&mut bed, "full");
        bed.assert_points(name, &bed.dir(), &bed.points);
        bed.assert_points(name, &bed.archives()[0], &old);
        assert_eq!(bed.archives().len(), 1, "{:?}", bed.archives());
        let partial = fs::read_dir(bed.dir()).expect("a chain").flatten();
        let partial: Vec<_> =
            partial.map(|e| e.file_name()).filter(|n| n.to_string_lossy().ends_with(".partial")).collect();
        assert!(partial.is_empty(), "{partial:?}");
        assert!(faulty.calls(Op::Link, "") > 0, "{name}: it was tried");
    }
}

#[test]
fn a_stream_that_nobody_knows_of_is_not_replaced() {
    let lab = Lab::new("unknown");
    let (_faulty, mut bed) = bed(&lab);
    back_up(&mut bed, "full");
    bed.change();
    let held = bed.lab.run_held_at(&bed.vm, FailPoint::Publishing);
    let stream = bed.dir().join("vda.inc.virtnbdbackup.1.data");
    fs::write(&stream, "somebody's").expect("a file");
    held.release();
    let ended = held.wait();
    assert!(!ended.status.success(), "{ended:#?}");
    assert!(ended.error().contains("not replaced"), "{ended:#?}");
    assert_eq!(fs::read_to_string(&stream).expect("it stays"), "somebody's");
    bed.assert_points("unknown", &bed.dir(), &bed.points);
    fs::remove_file(&stream).expect("ours");
    back_up(&mut bed, "incremental 1");
    bed.assert_points("unknown", &bed.dir(), &bed.points);
}

#[test]
fn a_journal_that_names_what_is_not_ours_is_not_believed() {
    let lab = Lab::configured("planted");
    let vm = lab.running_vm("planted", &[DiskSpec::new("vda", MIB)]);
    vm.write("vda", 0, 4096, 1).expect("a write");
    lab.run_well(&vm);
    vm.write("vda", 0, 4096, 2).expect("a write");
    let ended = lab.run_killed_at(&vm, FailPoint::Copied).wait();
    assert!(!ended.status.success());
    wait_for_guard(&lab, &vm);
    let journals = fs::read_dir(lab.backup_path().join("_state/journal")).expect("a folder").flatten();
    let file = journals.map(|entry| entry.path()).next().expect("a journal");
    let journal: Value = serde_json::from_slice(&fs::read(&file).expect("the journal")).expect("JSON");
    assert!(journal["chain_dir"].as_str().is_some_and(|dir| !dir.starts_with('/')), "{journal:#}");
    let precious = lab.path().join("precious");
    fs::create_dir(&precious).expect("a folder");
    let outside = |name: &str| precious.join(name).to_str().expect("text").to_owned();
    let place = |pointer: &str, value: Value| {
        let mut planted = journal.clone();
        *planted.pointer_mut(pointer).expect("it is there") = value;
        planted
    };
    let partial = "x.data.partial";
    let linked = lab.backup_path().join("linked");
    std::os::unix::fs::symlink(&precious, &linked).expect("a link");
    let cases = [
        place("/scratch", vec![outside("file")].into()),
        place("/socket", outside("file").into()),
        place("/stage/Copying/partial", vec![outside(partial)].into()),
        place("/stage/Copying/partial", vec![format!("../../../precious/{partial}")].into()),
        place("/chain_dir", precious.to_str().expect("text").into()),
        place("/chain_dir", "../precious".into()),
        place("/chain_dir", linked.to_str().expect("text").into()),
    ];
    for mut planted in cases {
        for name in ["file", partial] {
            fs::write(precious.join(name), "").expect("a file");
        }
        if planted["chain_dir"] != journal["chain_dir"] {
            planted["stage"]["Copying"]["partial"] = vec![partial].into();
        }
        fs::write(&file, planted.to_string()).expect("a journal");
        let ended = lab.run(&vm);
        assert!(!ended.status.success(), "{planted:#}: {ended:#?}");
        for name in ["file", partial] {
            assert!(precious.join(name).exists(), "{name} is gone: {planted:#}");
        }
        assert!(file.exists(), "it stays for a person to look at");
    }
    // One of the version before, with whole paths.
    let mut older = journal.clone();
    let whole = lab.backup_path().join(journal["chain_dir"].as_str().expect("text"));
    older["chain_dir"] = whole.to_str().expect("text").into();
    fs::write(&file, older.to_string()).expect("a journal");
    let ended = lab.run_well(&vm);
    assert!(ended.report("recovered").contains("an earlier run"), "{ended:#?}");
    assert_eq!(ended.level(), "incremental 1", "{ended:#?}");
    lab::assert_tidy(&lab, &lab.chain_dir(&vm), "after the older journal");
}

/// Who else writes to an image is looked for among all open files of the host, wherever they lie.
#[test]
fn a_file_that_others_have_open_on_dead_storage_holds_nobody_up() {
    let lab = Lab::new("others_hang");
    let dead = lab.faulty_file_system("dead");
    lab.configure(&[]);
    let vm = lab.define(&VmSpec::new("off").disk(DiskSpec::new("vda", MIB)));
    let file = dead.path().join("open");
    fs::write(&file, "of somebody else").expect("it answers still");
    let opened = File::open(&file).expect("it answers still");
    let mut other = Command::new("sleep").arg("150").stdin(opened).spawn().expect("sleep is there");
    let hang = dead.hang(Op::GetAttr, "open");
    let ended = lab.run_well(&vm);
    assert_eq!(ended.vm_status(), "ok", "{ended:#?}");
    assert_eq!(dead.hanging(), 0, "its own storage answers, and nobody else's is asked");
    drop(hang);
    other.kill().and_then(|()| other.wait()).expect("it is ours");
}

#[test]
fn a_folder_that_cannot_be_synced_is_an_error_though_the_new_file_is_there() {
    let lab = Lab::new("unsynced-folder");
    let faulty = lab.faulty_file_system("files");
    let path = faulty.path().join("folder/root.json");
    fs::create_dir(faulty.path().join("folder")).expect("a folder");
    vmstream::durable::replace(&path, 0o600, b"one").expect("a sound file system");
    faulty.fail_once(Op::FSync, "root.json.partial", 0, Errno::IO);
    let failed = vmstream::durable::replace(&path, 0o600, b"two").expect_err("the file is not on the disk");
    assert_eq!(failed.raw_os_error(), Some(Errno::IO.raw_os_error()));
    assert_eq!(fs::read(&path).expect("a file"), b"one", "before the rename nothing has changed");
    faulty.fail_once(Op::FSyncDir, "folder", 0, Errno::IO);
    let failed = vmstream::durable::replace(&path, 0o600, b"three").expect_err("the name is not on the disk");
    assert_eq!(failed.raw_os_error(), Some(Errno::IO.raw_os_error()));
    assert_eq!(fs::read(&path).expect("a file"), b"three", "behind it the new content is there");
    let names: Vec<_> = fs::read_dir(faulty.path().join("folder")).expect("a folder").flatten().collect();
    assert_eq!(names.len(), 1, "nothing unfinished is left: {names:?}");
}

/// As on 9p: SQLite's write-ahead log needs memory that is shared through a file.
#[test]
fn a_target_whose_files_cannot_be_mapped_has_a_database_all_the_same() {
    let lab = Lab::new("no_maps");
    let (faulty, mut bed) = bed(&lab);
    back_up(&mut bed, "full");
    assert_eq!(bed.lab.ask("PRAGMA journal_mode"), ["delete"]);
    for (wal, level) in [(false, "incremental 1"), (true, "incremental 2")] {
        if wal {
            // A run before was killed, or the Bash program was the last.
            faulty.heal();
            assert_eq!(bed.lab.ask("PRAGMA journal_mode = WAL"), ["wal"]);
        }
        faulty.refuse_shared_maps();
        bed.change();
        let ended = bed.lab.run_well(&bed.vm);
        assert_eq!(ended.level(), level, "{ended:#?}");
        assert!(!ended.log.contains("database"), "{}", ended.log);
    }
    faulty.heal();
    assert_eq!(bed.lab.ask("SELECT status FROM vm_backups"), ["success"; 3]);
}

#[test]
fn a_new_set_whose_last_sync_fails_is_there_and_said_to_be() {
    let lab = Lab::new("last_sync");
    let (faulty, mut bed) = bed(&lab);
    back_up(&mut bed, "full");
    back_up(&mut bed, "incremental 1");
    fs::create_dir(faulty.path().join("elsewhere")).expect("a folder");
    let target = faulty.path().join("elsewhere/new");
    faulty.fail(Op::FSyncDir, "elsewhere", Errno::IO);
    let (from, to) = (bed.dir(), target.to_str().expect("text"));
    let arguments = ["convert", from.to_str().expect("text"), "--to", to];
    let ended = bed.lab.vmstream(&arguments);
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(2), "{said}");
    for words in [to, "is complete", "could not be synced", "sync -f"] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    bed.points.assert_restorable(&lab, &target);
    // One that cannot be synced before it gets its name leaves nothing.
    faulty.heal();
    faulty.fail(Op::FSyncDir, "other.partial", Errno::IO);
    let other = target.with_file_name("other");
    let ended = bed.lab.vmstream(&["convert", arguments[1], "--to", other.to_str().expect("text")]);
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    let left = fs::read_dir(faulty.path().join("elsewhere")).expect("a folder").count();
    assert_eq!(left, 1, "only the first");
}
