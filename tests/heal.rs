//! Chains, checkpoints and VMs that do not fit any more: each gets the smallest next step, and nothing is lost by it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::{Bed, DiskFormat, DiskSpec, History, Lab, Vm, VmSpec, World, must, text, virsh};
use serde_json::Value;
use vmbackup::engine::fail_point::FailPoint;

const MIB: u64 = 1 << 20;

fn truncate(file: &Path, by: u64) {
    let len = fs::metadata(file).expect("a file").len();
    File::options().write(true).open(file).expect("a file").set_len(len - by).expect("shorter");
}

#[test]
fn a_damaged_chain_goes_to_the_archive_as_it_is() {
    let lab = Lab::configured("heal_files");
    let mut bed = Bed::new(&lab);
    let cpt = format!("{}.cpt", bed.vm.name());
    type Damage = Box<dyn Fn(&Path)>;
    let write = |text: &'static str| -> Damage {
        let cpt = cpt.clone();
        Box::new(move |dir| fs::write(dir.join(&cpt), text).expect("a list"))
    };
    let remove = |name: &str| -> Damage {
        let name = name.to_owned();
        Box::new(move |dir| fs::remove_file(dir.join(&name)).expect("a file"))
    };
    // (case, damage, reason, points that can still be restored)
    let cases: Vec<(&str, Damage, &str, usize)> = vec![
        ("list missing", remove(&cpt), "no checkpoint list", 2),
        ("list garbage", write("[\"virtnb"), "points are taken from the streams' names", 2),
        ("list shorter", write("[\"virtnbdbackup.0\"]"), "belongs to no point", 1),
        (
            "list longer",
            write("[\"virtnbdbackup.0\", \"virtnbdbackup.1\", \"virtnbdbackup.2\"]"),
            "virtnbdbackup.2",
            2,
        ),
        ("list with a gap", write("[\"virtnbdbackup.1\"]"), "chain", 0),
        ("increment missing", remove("vdb.inc.virtnbdbackup.1.data"), "vdb has no stream", 1),
        ("increment cut", Box::new(|d| truncate(&d.join("vda.inc.virtnbdbackup.1.data"), 7)), "vda.inc", 1),
        (
            "full without its beginning",
            Box::new(|d| fs::write(d.join("vda.full.data"), [0; 600]).expect("a file")),
            "vda.full",
            0,
        ),
    ];
    for (case, damage, why, good) in cases {
        bed.run(case, if bed.points.is_empty() { "full" } else { "incremental 1" }, "");
        if bed.points.len() < 2 {
            bed.run(case, "incremental 1", "continues");
        }
        damage(&bed.dir());
        let before = std::mem::take(&mut bed.points);
        let ended = bed.run(case, "full", why);
        let archive = PathBuf::from(ended.report("archived_to"));
        bed.assert_points(case, &archive, &before[..good]);
        bed.assert_points(case, &bed.dir(), &bed.points);
        assert_eq!(
            lab.ask("SELECT archive_reason FROM chain_events ORDER BY id DESC LIMIT 1 OFFSET 1"),
            ["broken_chain"]
        );
    }
}

#[test]
fn what_was_only_forgotten_is_given_back_and_the_chain_goes_on() {
    let lab = Lab::new("heal_given_back");
    lab.configure(&[("ENABLE_AUTO_RECOVERY_ON_CHECKPOINT_CORRUPTION", "no")]);
    let mut bed = Bed::new(&lab);
    bed.run("first", "full", "first backup");
    bed.run("second", "incremental 1", "continues");
    // Unfinished files of another program are in nobody's way.
    fs::write(bed.dir().join("vdc.inc.virtnbdbackup.2.data.partial"), "x").expect("a file");
    for (name, level) in [("virtnbdbackup.0", "incremental 2"), ("virtnbdbackup.2", "incremental 3")] {
        let file = bed.dir().join(format!("checkpoints/{name}.xml"));
        fs::remove_file(&file).expect("a file");
        let ended = bed.run("checkpoint XML lost", level, "continues");
        assert!(ended.report("recovered").contains(&format!("checkpoints/{name}.xml")), "{ended:#?}");
        assert!(file.exists(), "{}", file.display());
    }
    // libvirt forgets its checkpoints; the images keep their bitmaps.
    bed.vm.destroy();
    forget(&bed.vm);
    define_again(&bed.vm);
    bed.vm.start();
    let ended = bed.run("checkpoints forgotten", "incremental 4", "continues");
    assert!(ended.report("recovered").contains("gets checkpoint virtnbdbackup.3 back"), "{ended:#?}");
    let names: Vec<String> = (0..5).map(|n| format!("virtnbdbackup.{n}")).collect();
    assert_eq!(bed.vm.checkpoints(), names);
    bed.run("and on", "incremental 5", "continues");
    bed.assert_points("in the end", &bed.dir(), &bed.points);
    // Neither checkpoint nor bitmap: repairs are switched off, so nothing is changed.
    virsh(&["checkpoint-delete", bed.vm.name(), "virtnbdbackup.5"]);
    let before = World::of(&lab, &[&bed.vm]).without_notes();
    let refused = lab.run(&bed.vm);
    assert_eq!(refused.status.code(), Some(5), "{refused:#?}");
    for words in ["no longer has checkpoint virtnbdbackup.5", "ENABLE_AUTO_RECOVERY", "vmstream verify"] {
        assert!(refused.error().contains(words), "{}", refused.error());
    }
    World::of(&lab, &[&bed.vm]).without_notes().assert_is(&before);
    let code = "SELECT status, error_code FROM vm_backups ORDER BY id DESC LIMIT 1";
    assert_eq!(lab.ask(code), ["failed|CHECKPOINT_STALE"]);
    assert_eq!(bed.plan()["error"].as_str(), Some(refused.error().as_str()));
}

/// libvirt forgets a VM that is off, with its checkpoints.
fn forget(vm: &Vm) {
    fs::write(vm.directory().join("again.xml"), virsh(&["dumpxml", "--inactive", vm.name()]))
        .expect("a file");
    virsh(&["undefine", "--checkpoints-metadata", vm.name()]);
}

/// Defines it from what [`forget`] kept, or what has become of that.
fn define_again(vm: &Vm) {
    let file = vm.directory().join("again.xml");
    virsh(&["define", file.to_str().expect("text")]);
}

#[test]
fn a_vm_made_anew_under_an_old_name_is_not_mixed_into_the_old_chain() {
    let lab = Lab::configured("heal_redefined");
    let mut bed = Bed::new(&lab);
    bed.run("first", "full", "first backup");
    bed.run("second", "incremental 1", "continues");
    let before = std::mem::take(&mut bed.points);
    bed.vm.destroy();
    forget(&bed.vm);
    // With the same disks, whose bitmaps are still in the images.
    let file = bed.vm.directory().join("again.xml");
    let xml = fs::read_to_string(&file).expect("a file");
    let uuid = xml.split("<uuid>").nth(1).and_then(|rest| rest.get(..36)).expect("a UUID").to_owned();
    let other = "11111111-2222-4333-8444-555555555555";
    fs::write(&file, xml.replace(&uuid, other)).expect("a file");
    define_again(&bed.vm);
    bed.vm.start();
    let ended = bed.run("other VM", "full", &format!("another VM of this name (UUID {uuid})"));
    bed.assert_points("the old one's", Path::new(&ended.report("archived_to")), &before);
    bed.run("and on", "incremental 1", "continues");
    bed.assert_points("the new one's", &bed.dir(), &bed.points);
    assert_eq!(
        lab.ask("SELECT archive_reason FROM chain_events WHERE event_type = 'chain_archived'"),
        ["other_domain"]
    );
}

#[test]
fn a_renamed_vm_begins_in_its_own_folder_and_the_old_one_stays() {
    let lab = Lab::configured("heal_renamed");
    let mut bed = Bed::new(&lab);
    bed.run("first", "full", "first backup");
    let (old_dir, old_points) = (bed.dir(), std::mem::take(&mut bed.points));
    bed.vm.destroy();
    forget(&bed.vm);
    define_again(&bed.vm);
    let renamed = format!("{}renamed", lab.prefix());
    virsh(&["domrename", bed.vm.name(), &renamed]);
    virsh(&["start", &renamed]);
    let ended = lab.vmbackup(&["--run", "--json", "--vm", &renamed]);
    assert!(ended.status.success(), "{}", text(&ended));
    let report: Value = serde_json::from_slice(&ended.stdout).expect("JSON");
    assert_eq!(report["vms"][0]["report"]["why"], "first backup of this VM");
    bed.assert_points("the old name's", &old_dir, &old_points);
}

#[test]
fn disks_that_changed_places_are_not_taken_for_each_other() {
    let lab = Lab::configured("heal_places");
    let mut bed = Bed::with(&lab, &["vda", "vdb", "vdc"].map(|target| DiskSpec::new(target, MIB)));
    bed.vm.write("vdb", 0, MIB, 0xbb).expect("a write");
    bed.vm.write("vdc", 0, MIB / 2, 0xcc).expect("a write");
    bed.run("first", "full", "first backup");
    bed.run("second", "incremental 1", "continues");
    bed.vm.destroy();
    let xml = virsh(&["dumpxml", "--inactive", bed.vm.name()]);
    let exchanged =
        xml.replace("/vdb.qcow2", "/@").replace("/vdc.qcow2", "/vdb.qcow2").replace("/@", "/vdc.qcow2");
    let file = bed.vm.directory().join("exchanged.xml");
    fs::write(&file, exchanged).expect("a file");
    virsh(&["define", file.to_str().expect("text")]);
    bed.vm.start();
    for level in ["incremental 2", "incremental 3"] {
        let ended = lab.run_well(&bed.vm);
        assert_eq!(ended.level(), level, "{ended:#?}");
        let mut disks = History::disks(&lab, &bed.vm);
        let (b, c) = (disks.remove("vdb").expect("vdb"), disks.remove("vdc").expect("vdc"));
        disks.extend([("vdb".to_owned(), c), ("vdc".to_owned(), b)]);
        bed.points.push(disks);
    }
    bed.assert_points("exchanged", &bed.dir(), &bed.points);
}

#[test]
fn a_vm_renamed_with_its_checkpoints_begins_anew_without_them() {
    let lab = Lab::configured("heal_renamed_whole");
    let mut bed = Bed::new(&lab);
    bed.run("first", "full", "first backup");
    bed.run("second", "incremental 1", "continues");
    let (old_dir, old_points) = (bed.dir(), std::mem::take(&mut bed.points));
    bed.vm.destroy();
    let renamed = format!("{}renamed", lab.prefix());
    virsh(&["domrename", bed.vm.name(), &renamed]);
    virsh(&["start", &renamed]);
    for why in ["first backup of this VM", "the chain continues"] {
        let ended = lab.vmbackup(&["--run", "--json", "--vm", &renamed]);
        assert!(ended.status.success(), "{}", text(&ended));
        let report: Value = serde_json::from_slice(&ended.stdout).expect("JSON");
        assert_eq!(report["vms"][0]["report"]["why"], why);
    }
    bed.assert_points("the old name's", &old_dir, &old_points);
}

#[test]
fn a_vm_that_moved_here_with_its_disks_goes_on() {
    let lab = Lab::configured("heal_moved");
    let mut bed = Bed::new(&lab);
    bed.run("first", "full", "first backup");
    bed.run("second", "incremental 1", "continues");
    bed.vm.destroy();
    forget(&bed.vm);
    let there = lab.new_dir("elsewhere");
    for target in bed.vm.targets() {
        fs::rename(bed.vm.disk_path(target), there.join(format!("{target}.qcow2"))).expect("an image");
    }
    // On an empty image with a relative name: QEMU describes a node like that in JSON.
    let create = ["create", "-q", "-f", "qcow2", "empty.qcow2", "1M"];
    let rebase = ["rebase", "-u", "-F", "qcow2", "-b", "empty.qcow2", "vda.qcow2"];
    for arguments in [&create[..], &rebase] {
        must(Command::new("qemu-img").args(arguments).current_dir(&there));
    }
    let file = bed.vm.directory().join("again.xml");
    let xml = fs::read_to_string(&file).expect("a file");
    let (from, to) = (bed.vm.directory().to_str().expect("text"), there.to_str().expect("text"));
    fs::write(&file, xml.replace(from, to)).expect("a file");
    define_again(&bed.vm);
    bed.vm.start();
    let ended = bed.run("moved", "incremental 2", "continues");
    assert!(ended.report("recovered").contains("gets checkpoint virtnbdbackup.1 back"), "{ended:#?}");
    bed.run("and on", "incremental 3", "continues");
    bed.assert_points("in the end", &bed.dir(), &bed.points);
}

#[test]
fn the_backups_of_a_deleted_vm_stay_and_its_status_says_that_it_is_gone() {
    let lab = Lab::configured("heal_deleted");
    let mut bed = Bed::new(&lab);
    bed.run("first", "full", "first backup");
    bed.run("second", "incremental 1", "continues");
    let other = lab.define(&VmSpec::new("other").disk(DiskSpec::new("vda", MIB)));
    let files = || {
        let find = "find . -printf '%p %s %T@ %C@\\n' | sort";
        must(Command::new("sh").args(["-c", find]).current_dir(lab.backup_path().join(bed.vm.name())))
    };
    let before = files();
    bed.vm.destroy();
    forget(&bed.vm);
    assert_eq!(lab.run_well(&other).level(), "copy");
    let asked = lab.run(&bed.vm);
    assert_eq!(asked.status.code(), Some(5), "{asked:#?}");
    assert_eq!(files(), before);
    let status = text(&lab.vmbackup(&["--status", "--vm", bed.vm.name()]));
    assert!(status.contains("good") && status.contains("libvirt does not know"), "{status}");
    bed.assert_points("in the end", &bed.dir(), &bed.points);
}

#[test]
fn a_backup_that_failed_is_tried_again_and_a_full_only_when_that_helps() {
    let lab = Lab::new("heal_retry");
    lab.configure(&[("MAX_RETRIES", "2"), ("RETRY_DELAY", "0")]);
    let mut bed = Bed::new(&lab);
    bed.run("first", "full", "first backup");
    // Its bitmap goes between the plan and the snapshot.
    bed.change();
    let mut run = lab.run_held_at(&bed.vm, FailPoint::Held);
    let node = virsh(&[
        "qemu-monitor-command",
        bed.vm.name(),
        r#"{"execute":"query-named-block-nodes","arguments":{"flat":true}}"#,
    ]);
    let node: Value = serde_json::from_str(&node).expect("JSON");
    let nodes = node["return"].as_array().expect("nodes");
    let has = |node: &&Value| {
        node["dirty-bitmaps"].as_array().is_some_and(|all| all.iter().any(|b| b["name"] == "virtnbdbackup.0"))
    };
    for node in nodes.iter().filter(has) {
        let name = node["node-name"].as_str().expect("a name");
        let command = format!(
            r#"{{"execute":"block-dirty-bitmap-remove","arguments":{{"node":"{name}","name":"virtnbdbackup.0"}}}}"#
        );
        virsh(&["qemu-monitor-command", bed.vm.name(), &command]);
    }
    run.release();
    run.wait_held();
    run.release();
    let ended = run.wait();
    assert!(ended.status.success(), "{ended:#?}");
    assert_eq!(ended.level(), "full", "{ended:#?}");
    assert!(ended.log.contains("try 1 of 3 failed"), "{}", ended.log);
    assert_eq!(
        lab.ask("SELECT status, retry_attempt FROM vm_backups ORDER BY id DESC LIMIT 1"),
        ["success|1"]
    );
    bed.points = History::of(&lab, &bed.vm);
    bed.run("and on", "incremental 1", "continues");
    bed.assert_points("after the retry", &bed.dir(), &bed.points);
}

/// The rows of the decision table that the tests above do not come to.
#[test]
fn whatever_is_decided_a_dry_run_says_it_and_leaves_no_trace() {
    let lab = Lab::new("heal_rows");
    let raw = DiskSpec { format: DiskFormat::Raw, ..DiskSpec::new("vdc", MIB) };
    let mut bed = Bed::with(&lab, &[DiskSpec::new("vda", MIB), DiskSpec::new("vdb", MIB), raw]);
    let set = |keys: &[(&str, &str)]| lab.configure(&[&[("BACKUP_RAW_DISKS", "true")], keys].concat());
    set(&[]);
    bed.now = Some("2026-11-10T01:00:00Z");
    bed.run("none", "full", "first backup");
    bed.run("goes on", "incremental 1", "continues");

    virsh(&["checkpoint-create-as", bed.vm.name(), "mine", "--diskspec", "vdc,checkpoint=no"]);
    let refusal = bed.plan();
    assert!(refusal["error"].to_string().contains("virsh checkpoint-delete"), "{refusal:#}");
    let before = World::of(&lab, &[&bed.vm]).without_notes();
    let refused = lab.run_at("2026-11-10T01:00:00Z", &[&bed.vm]);
    assert_eq!(refusal["error"].as_str(), Some(refused.error().as_str()));
    World::of(&lab, &[&bed.vm]).without_notes().assert_is(&before);
    // What is left of the chain is looked at, whatever a backup failed of.
    let health =
        || lab.ask("SELECT chain_status, total_checkpoints, restorable_count, broken_at FROM chain_health");
    assert_eq!(health(), ["active|2|2|NULL"]);
    let (stream, aside) = (bed.dir().join("vda.inc.virtnbdbackup.1.data"), lab.path().join("aside"));
    fs::rename(&stream, &aside).expect("a stream");
    lab.run_at("2026-11-10T01:00:00Z", &[&bed.vm]);
    assert_eq!(health(), ["broken|2|1|1"]);
    let broke = "SELECT event_type, checkpoint_count FROM chain_events WHERE event_type = 'chain_broken'";
    assert_eq!(lab.ask(broke), ["chain_broken|2"]);
    fs::rename(&aside, &stream).expect("a stream");
    virsh(&["checkpoint-delete", bed.vm.name(), "mine"]);

    set(&[("COMPRESSION", "zstd")]);
    bed.run("zstd", "full", "changed from or to zstd");
    set(&[("VIRTNBD_INCLUDE_DISKS", "vdb")]);
    bed.run("back from zstd", "full", "changed from or to zstd");
    set(&[("VIRTNBD_INCLUDE_DISKS", "vda")]);
    bed.run("other disks", "full", "none of the chain's disks");
    set(&[]);
    bed.vm.resize_disk("vda", 2 * MIB);
    bed.run("another size", "full", "disk vda was resized");
    convert_from_raw(&bed.vm, "vdc");
    bed.run("converted", "full", "disk vdc was converted from raw");

    bed.now = Some("2026-11-20T01:00:00Z");
    set(&[("CHECKPOINT_FORCE_FULL_ON_DAY", "20")]);
    bed.run("day of fulls", "full", "chains begin anew on day 20");
    bed.now = Some("2026-12-02T01:00:00Z");
    set(&[]);
    bed.run("period", "full", "a new period begins, after 202611");
    set(&[("DEFAULT_ROTATION_POLICY", "accumulate"), ("ACCUMULATE_HARD_LIMIT", "1")]);
    bed.run("policy", "full", "first backup under the policy accumulate");
    bed.run("limit", "full", "the chain has 1 restore points, its limit");
    set(&[]);
    bed.run("back", "full", "a newer chain in another folder");

    bed.vm.destroy();
    bed.run_as_it_is("off", "copy", "the VM is shut off");
    bed.run_as_it_is("off and as it was", "skip", "unchanged since the last backup");
    set(&[("SKIP_OFFLINE_UNCHANGED_BACKUPS", "false")]);
    bed.run_as_it_is("off, never skipped", "copy", "the VM is shut off");
    bed.vm.start();
    bed.run("on again", "full", "a copy made while the VM was shut off");
    set(&[("DEFAULT_ROTATION_POLICY", "never")]);
    assert_eq!(bed.plan()["plan"], "excluded");
}

/// Makes the raw image of a disk a qcow2 one, as somebody would who wants increments of it.
fn convert_from_raw(vm: &Vm, target: &str) {
    vm.destroy();
    let raw = vm.disk_path(target);
    let image = raw.with_extension("converted");
    must(Command::new("qemu-img").args(["convert", "-f", "raw", "-O", "qcow2"]).arg(&raw).arg(&image));
    fs::rename(&image, &raw).expect("ours");
    let xml = virsh(&["dumpxml", "--inactive", vm.name()]);
    assert_eq!(xml.matches("type='raw'").count(), 1, "{xml}");
    let file = vm.directory().join("converted.xml");
    fs::write(&file, xml.replace("type='raw'", "type='qcow2'")).expect("a file");
    virsh(&["define", file.to_str().expect("text")]);
    vm.start();
}
