//! Trees that the Bash program and virtnbdbackup have begun, and ours goes on with.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use lab::{Bed, DiskSpec, Lab, Version, Vm, VmSpec, must, text, virsh};

const MIB: u64 = 1 << 20;

/// Tables that name a VM.
const OF_VMS: [&str; 6] =
    ["vm_backups", "chain_health", "chain_events", "config_events", "file_operations", "period_events"];

/// A running VM, with the tree and the database that the Bash program would have left of three nights.
struct Taken<'a> {
    bed: Bed<'a>,
    set: PathBuf,
}

impl<'a> Taken<'a> {
    fn new(lab: &'a Lab, name: &str) -> Self {
        lab.configure(&[]);
        let vm = lab.paused_vm(name, &[DiskSpec::new("vda", 6 * MIB), DiskSpec::new("vdb", 2 * MIB + 512)]);
        let period = jiff::Zoned::now().strftime("%Y%m").to_string();
        let set = lab.backup_path().join(vm.name()).join(&period);
        fs::create_dir_all(set.join("config")).expect("the lab has room");
        let mut taken = Self { bed: Bed::of(lab, vm), set };
        for level in ["full", "auto", "auto"] {
            taken.change();
            let output =
                lab.virtnbdbackup(Version::Distribution, &taken.bed.vm, level, &taken.set, &["--compress"]);
            assert!(output.status.success(), "{level}: {}", text(&output));
            taken.bed.points.note(lab, &taken.bed.vm);
        }
        taken.add_what_bash_adds(&period);
        taken
    }

    /// The files beside the streams, and the database: those of the recorded tree, for this VM.
    fn add_what_bash_adds(&self, period: &str) {
        let Bed { lab, vm, .. } = &self.bed;
        let golden = lab.new_dir("golden");
        let tar = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vmbackup-0.5.3-lz4.tar");
        must(Command::new("tar").arg("xf").arg(tar).arg("-C").arg(&golden));
        let (name, set) = (vm.name(), self.set.display());
        let manifest = fs::read_to_string(golden.join("gold1/chain-manifest.json")).expect("the manifest");
        let manifest = manifest.replace("gold1", name).replace("202611", period);
        fs::write(self.set.with_file_name("chain-manifest.json"), manifest).expect("the lab has room");
        fs::write(self.set.join(".full-backup-month"), format!("{period}\n")).expect("the lab has room");
        let config = self.set.join(format!("config/{name}_config_{period}_FIRST.xml"));
        fs::write(config, vm.xml()).expect("the lab has room");
        let state = lab.backup_path().join("_state");
        fs::create_dir_all(&state).expect("the lab has room");
        fs::copy(golden.join("_state/vmbackup.db"), state.join("vmbackup.db")).expect("the database");
        let renamed =
            OF_VMS.map(|table| format!("UPDATE {table} SET vm_name = '{name}' WHERE vm_name = 'gold1';"));
        let placed = format!(
            "DELETE FROM vm_backups WHERE restore_points > 3; UPDATE vm_backups SET backup_path = '{set}';
             UPDATE chain_health SET chain_location = '{set}', period_id = '{period}', total_checkpoints = 3,
             restorable_count = 3;"
        );
        lab.database().execute_batch(&format!("{}{placed}", renamed.concat())).expect("the recorded tables");
    }

    fn change(&mut self) {
        let stamp = self.bed.stamp();
        self.bed.vm.write("vda", u64::from(stamp) * MIB / 2, MIB, stamp).expect("a write");
        self.bed.vm.write("vdb", u64::from(stamp) * 512, 1024, stamp).expect("a write");
    }

    /// Every row of every table but `chain_health`, which has one row for each chain and is kept up to date.
    fn rows(&self) -> BTreeMap<String, Vec<String>> {
        let of_bash = ["sessions", "replication_runs", "replication_vms", "retention_events"];
        let tables = of_bash.into_iter().chain(OF_VMS).filter(|table| *table != "chain_health");
        let rows = |table: &str| self.bed.lab.ask(&format!("SELECT * FROM {table} ORDER BY rowid"));
        tables.map(|table| (table.to_owned(), rows(table))).collect()
    }

    /// The rows from before are there, as they were, and come first.
    #[track_caller]
    fn assert_old_rows(&self, before: &BTreeMap<String, Vec<String>>) {
        assert!(before["vm_backups"].len() == 3 && before["sessions"].len() == 4, "{before:#?}");
        for (table, now) in self.rows() {
            assert!(now.starts_with(&before[&table]), "{table}: {now:#?}");
        }
    }

    /// Each file of the tree with its time and content, but the list of points, which grows.
    fn files(&self) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
        let folder = self.set.parent().expect("the VM's folder");
        let listed = must(Command::new("find").arg(folder).args(["-type", "f", "!", "-name", "*.cpt"]));
        let file = |path: &str| {
            let modified = fs::metadata(path).and_then(|meta| meta.modified()).expect("a file");
            (PathBuf::from(path), (modified, fs::read(path).expect("a file")))
        };
        listed.lines().map(file).collect()
    }
}

#[test]
fn a_chain_of_the_bash_program_goes_on_and_what_it_wrote_stays() {
    let lab = Lab::new("takeover");
    let mut taken = Taken::new(&lab, "takeover");
    let (rows, files) = (taken.rows(), taken.files());
    taken.bed.vm.write_zeroes("vda", MIB, MIB, true).expect("zeros");
    taken.change();
    let ended = lab.run_well(&taken.bed.vm);
    assert_eq!(
        (ended.level().as_str(), ended.why().as_str()),
        ("incremental 3", "the chain continues"),
        "{ended:#?}"
    );
    taken.bed.points.note(&lab, &taken.bed.vm);
    lab.assert_points(&taken.set, &taken.bed.points);
    taken.assert_old_rows(&rows);
    let now = taken.files();
    for (path, before) in &files {
        assert!(now.get(path) == Some(before), "{} was changed", path.display());
    }
    let health =
        "SELECT id, vm_name, chain_status, total_checkpoints, restorable_count, created_at FROM chain_health";
    let want = format!("1|{}|active|4|4|2026-11-22 20:02:27", taken.bed.vm.name());
    assert_eq!(lab.ask(health), [want]);
    let newest = "SELECT id, restore_points_before, restore_points, backup_type FROM vm_backups ORDER BY id DESC LIMIT 1";
    assert_eq!(lab.ask(newest), ["5|3|4|auto"]);
    taken.change();
    assert_eq!(lab.run_well(&taken.bed.vm).level(), "incremental 4");
    taken.bed.points.note(&lab, &taken.bed.vm);
    lab.assert_points(&taken.set, &taken.bed.points);
}

#[test]
fn a_chain_of_the_bash_program_whose_bitmaps_are_lost_is_archived_and_the_reason_said() {
    type Lose = fn(&Vm);
    let killed: Lose = |vm| {
        // What QEMU has not flushed is lost to the guest too.
        vm.targets().iter().for_each(|target| vm.flush(target).expect("a flush"));
        vm.kill_qemu();
        vm.start_paused();
    };
    // (case, how, why a full is taken, that in the database)
    let cases = [
        ("killed", killed, "a dirty bitmap is lost", "bitmap_lost"),
        (
            "deleted",
            Vm::delete_checkpoints,
            "libvirt no longer has checkpoint virtnbdbackup.2",
            "checkpoint_lost",
        ),
    ];
    for (case, lose, why, reason) in cases {
        let lab = Lab::new("takeover_lost");
        let mut taken = Taken::new(&lab, case);
        let (rows, files) = (taken.rows(), taken.files());
        lose(&taken.bed.vm);
        taken.change();
        let ended = lab.run_well(&taken.bed.vm);
        assert_eq!(ended.level(), "full", "{case}: {ended:#?}");
        assert!(ended.why().contains(why), "{case}: {}", ended.why());
        let archive = PathBuf::from(ended.report("archived_to"));
        assert_eq!(archive.parent(), Some(taken.set.join(".archives").as_path()), "{case}");
        lab.assert_points(&archive, &taken.bed.points);
        for (path, before) in files.iter().filter(|(path, _)| path.starts_with(&taken.set)) {
            let name = path.strip_prefix(&taken.set).expect("below it");
            let kept = fs::read(archive.join(name)).or_else(|_| fs::read(path));
            assert_eq!(kept.ok().as_ref(), Some(&before.1), "{case}: {}", path.display());
        }
        taken.assert_old_rows(&rows);
        let archived =
            "SELECT archive_reason, checkpoint_count FROM chain_events WHERE event_type = 'chain_archived'";
        assert_eq!(lab.ask(archived), [format!("{reason}|3")], "{case}");
        taken.bed.points.clear();
        taken.bed.points.note(&lab, &taken.bed.vm);
        taken.change();
        assert_eq!(lab.run_well(&taken.bed.vm).level(), "incremental 1", "{case}");
        taken.bed.points.note(&lab, &taken.bed.vm);
        lab.assert_points(&taken.set, &taken.bed.points);
    }
}

/// The Bash program takes a full when `.full-backup-month` is not the period of the default policy that it is in.
#[test]
fn within_a_period_the_bash_program_could_go_on() {
    let lab = Lab::new("way_back");
    lab.configure(&[("DEFAULT_ROTATION_POLICY", "monthly")]);
    let vm = lab.paused_vm("back", &[DiskSpec::new("vda", MIB)]);
    vm.resume();
    let policy = format!("VM_POLICY[\"{}\"]=\"weekly\"\n", vm.name());
    fs::write(lab.config_dir().join("default/vm_overrides.conf"), policy).expect("the configuration");
    let mut stamp = 0;
    for (now, level, month) in [
        ("2026-11-30T12:00:00Z", "full", "202611"),
        ("2026-12-02T12:00:00Z", "incremental 1", "202612"),
        ("2026-12-03T12:00:00Z", "incremental 2", "202612"),
    ] {
        stamp += 1;
        vm.write("vda", 0, 4096, stamp).expect("a write");
        let ended = lab.run_at(now, &[&vm]);
        assert_eq!(ended.level(), level, "{ended:#?}");
        let (dir, period) = ended.place();
        assert_eq!(period, "2026-W49");
        let told = |name: &str| fs::read_to_string(dir.join(name)).expect(name);
        assert_eq!(told(".full-backup-month"), format!("{month}\n"));
        assert_eq!(told(".agent-status"), "no\n");
    }
}

/// The Bash program was killed in the middle of a disk: what it left is named, and goes once the VM has a newer point.
#[test]
fn what_a_killed_run_of_the_bash_program_left_is_told_and_removed() {
    let lab = Lab::new("killed_bash");
    let mut taken = Taken::new(&lab, "killed");
    let left = taken.set.join("vda.inc.virtnbdbackup.9.data.partial");
    fs::write(&left, vec![7; 3 << 20]).expect("the lab has room");
    let status = || text(&lab.vmbackup(&["--status", "--vm", taken.bed.vm.name()]));
    let said = status();
    assert!(said.contains("1 unfinished file(s), 3.00 MiB") && said.contains("9.data.partial"), "{said}");
    taken.change();
    let ended = lab.run_well(&taken.bed.vm);
    assert_eq!(ended.level(), "incremental 3", "{ended:#?}");
    assert!(
        ended.log.contains("9.data.partial (3.00 MiB) was left by a run that was killed: removed"),
        "{}",
        ended.log
    );
    assert!(!left.exists());
    let rows =
        "SELECT operation, file_type, file_size_bytes FROM file_operations WHERE reason LIKE 'left by%'";
    assert_eq!(lab.ask(rows), [format!("delete|backup|{}", 3 << 20)]);
    assert!(!text(&lab.vmbackup(&["--status", "--vm", taken.bed.vm.name()])).contains("unfinished"));
}

/// A VM that is shut off, and its disk: `vda.qcow2`, backed by `base.qcow2`.
fn off_vm(lab: &Lab) -> Vm {
    let vm = lab.define(&VmSpec::new("off").disk(DiskSpec::new("vda", 4 * MIB)));
    let qemu_img = |arguments: &[&str]| {
        must(Command::new("qemu-img").args(arguments).current_dir(vm.directory()));
    };
    fs::rename(vm.disk_path("vda"), vm.directory().join("base.qcow2")).expect("a file");
    qemu_img(&["create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "vda.qcow2"]);
    write(&vm.directory().join("base.qcow2"));
    vm
}

fn write(image: &Path) {
    must(Command::new("qemu-io").args(["-f", "qcow2", "-c", "write -P 7 1M 64k"]).arg(image));
}

/// It leaves no note of what the images were like. All else has to fit, or the VM is copied again, and the reason is told.
#[test]
fn a_copy_of_the_bash_program_counts_while_it_is_of_the_disks_as_they_are() {
    let lab = Lab::configured("takeover_copy");
    let vm = off_vm(&lab);
    let folder = lab.backup_path().join(vm.name());
    let set = folder.join(jiff::Zoned::now().strftime("%Y%m").to_string());
    let copied_by_bash = || {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&set).expect("the lab has room");
        let output = lab.virtnbdbackup(Version::Distribution, &vm, "copy", &set, &["--compress"]);
        assert!(output.status.success(), "{}", text(&output));
        fs::write(set.join(".agent-status"), "no\n").expect("the lab has room");
    };
    let image = |name: &str| vm.directory().join(name);
    let threshold = |seconds| lab.configure(&[("OFFLINE_CHANGE_DETECTION_THRESHOLD", seconds)]);
    let cases: [(&str, &dyn Fn(), &str); 9] = [
        ("the image is written", &|| write(&image("vda.qcow2")), "vda.qcow2 was changed after it"),
        (
            "its time is set back",
            &|| {
                write(&image("vda.qcow2"));
                must(Command::new("touch").args(["-d", "2020-01-01"]).arg(image("vda.qcow2")));
            },
            "vda.qcow2 was changed after it",
        ),
        ("what backs it is written", &|| write(&image("base.qcow2")), "base.qcow2 was changed after it"),
        (
            "it has grown",
            &|| {
                must(Command::new("qemu-img").args(["resize", "-q"]).arg(image("vda.qcow2")).arg("5M"));
            },
            "disk vda has 5242880 bytes, and 4194304 in it",
        ),
        (
            "the definition is another",
            &|| {
                virsh(&["desc", vm.name(), "--config", "x"]);
            },
            "the VM's definition is not the one that was kept with it",
        ),
        (
            "its definition is gone",
            &|| fs::remove_file(set.join("vmconfig.copy.xml")).expect("a file"),
            "it is not complete: copy has no vmconfig",
        ),
        (
            "it is cut",
            &|| {
                let stream = fs::File::options().write(true).open(set.join("vda.copy.data")).expect("a file");
                stream.set_len(300).expect("a file");
            },
            "it is not complete",
        ),
        ("the image was written just before", &|| threshold("3600"), "OFFLINE_CHANGE_DETECTION_THRESHOLD"),
        (
            "it is a link",
            &|| {
                fs::rename(image("vda.qcow2"), image("elsewhere")).expect("a file");
                std::os::unix::fs::symlink("elsewhere", image("vda.qcow2")).expect("a link");
            },
            "vda.qcow2 is a device or a link",
        ),
    ];
    for (case, change, why) in cases {
        copied_by_bash();
        let before = fs::read(set.join("vda.copy.data")).expect("a stream");
        for _ in 0..2 {
            let skipped = lab.run_well(&vm);
            assert_eq!(
                (skipped.level().as_str(), skipped.why().as_str()),
                ("skip", "shut off and unchanged since the last backup"),
                "before {case}: {skipped:#?}"
            );
        }
        assert_eq!(fs::read(set.join("vda.copy.data")).ok(), Some(before), "{case}");
        change();
        let dry = text(&lab.vmbackup(&["--run", "--dry-run", "--vm", vm.name()]));
        assert!(dry.contains(why), "{case}: {dry}");
        let ended = lab.run_well(&vm);
        assert_eq!(ended.level(), "copy", "{case}: {ended:#?}");
        assert!(ended.why().contains(why), "{case}: {}", ended.why());
        threshold("0");
        assert_eq!(lab.run_well(&vm).level(), "skip", "after {case}");
    }

    // Where the VM is started for its backup, the reason is the same before and after the start.
    fs::remove_file(image("vda.qcow2")).expect("a link");
    fs::rename(image("elsewhere"), image("vda.qcow2")).expect("a file");
    copied_by_bash();
    write(&image("vda.qcow2"));
    lab.configure(&[("OFFLINE_CHANGE_DETECTION_THRESHOLD", "0"), ("OFFLINE_MODE", "incremental")]);
    let why = "another program made while the VM was shut off, and it may not be of its disks as they are";
    let dry = text(&lab.vmbackup(&["--run", "--dry-run", "--vm", vm.name()]));
    assert!(dry.contains(why) && dry.contains("vda.qcow2 was changed after it"), "{dry}");
    let ended = lab.run_well(&vm);
    assert_eq!(
        (ended.level().as_str(), ended.report("method").as_str()),
        ("full", "started_paused"),
        "{ended:#?}"
    );
    assert!(dry.contains(&ended.why()), "{dry}\n{}", ended.why());
}
