//! Streams of each method, under our readers and under those that people have.

use std::fs;
use std::path::Path;

use lab::{DiskSpec, History, Lab, Point, Version, Vm, text};
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// The releases that restore. They differ in how they look for streams.
const VERSIONS: [Version; 3] = [Version::Distribution, Version::Trixie, Version::Sid];

fn vm_with_data(lab: &Lab, name: &str) -> Vm {
    let vm = lab.paused_vm(name, &[DiskSpec::new("vda", 12 * MIB), DiskSpec::new("vdb", 3 * MIB + 512)]);
    vm.write("vda", 0, 5 * MIB, 1).expect("a write");
    vm.write_bytes("vda", 7 * MIB, &text_of(300_000)).expect("a write");
    vm.write("vdb", 512, MIB, 2).expect("a write");
    vm
}

/// Bytes that compress, and not too well.
fn text_of(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| b"abcdefgh"[(i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61) as usize]).collect()
}

/// Full, a change with zeros, nothing, another change. Returns what each point must hold.
fn take_points(lab: &Lab, vm: &Vm) -> History {
    let mut history = History::default();
    let steps: [&dyn Fn(); 4] = [
        &|| (),
        &|| {
            vm.write_zeroes("vda", MIB, 2 * MIB, true).expect("zeros");
            vm.write("vdb", 3 * MIB, 512, 3).expect("a write");
        },
        &|| (),
        &|| vm.write_bytes("vda", 6 * MIB, &text_of(100_000)).expect("a write"),
    ];
    for (number, change) in steps.into_iter().enumerate() {
        change();
        let ended = lab.run_well(vm);
        let want = if number == 0 { "full".to_owned() } else { format!("incremental {number}") };
        assert_eq!(ended.level(), want, "{}\n{}", ended.why(), ended.log);
        history.note(lab, vm);
    }
    history
}

fn names(set: &Path) -> Vec<String> {
    let entries = fs::read_dir(set).expect("a set can be listed").flatten();
    let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

fn vmstream(lab: &Lab, arguments: &[&str]) -> String {
    let output = lab.vmstream(arguments);
    assert_eq!(output.status.code(), Some(0), "vmstream {arguments:?}: {}", text(&output));
    text(&output)
}

#[test]
fn zstd_is_exact_here_and_invisible_to_old_readers() {
    let lab = Lab::new("zstd");
    lab.configure(&[("COMPRESSION", "zstd"), ("COMPRESSION_LEVEL", "1")]);
    let vm = vm_with_data(&lab, "zstd");
    let history = take_points(&lab, &vm);
    let set = lab.chain_dir(&vm);
    history.assert_restorable(&lab, &set);

    let files = names(&set);
    assert_eq!(files.iter().filter(|name| name.ends_with(".zstd")).count(), 8, "{files:?}");
    assert!(!files.iter().any(|name| name.contains(".data")), "{files:?}");
    let folder = set.to_str().expect("text");
    assert!(vmstream(&lab, &["info", folder]).contains("zstd level 1"));
    for deeper in [vec!["--quick"], vec![], vec!["--deep"]] {
        vmstream(&lab, &[&["verify", folder], deeper.as_slice()].concat());
    }
    vmstream(&lab, &["doctor", folder]);
    vmstream(&lab, &["map", folder, "--disk", "vda"]);
    let image = vm.shadow("vda").path().to_str().expect("text");
    vmstream(&lab, &["compare", folder, "--disk", "vda", "--until", "virtnbdbackup.3", image]);

    for version in VERSIONS {
        for until in [None, Some("virtnbdbackup.0"), Some("virtnbdbackup.2")] {
            let said = match lab.virtnbdrestore(version, &set, until) {
                Err(said) => said,
                Ok(disks) => panic!("{version:?} restored something until {until:?}: {disks:?}"),
            };
            assert!(said.contains("No data files"), "{version:?} until {until:?}: {said}");
        }
    }
}

#[test]
fn a_flipped_byte_of_a_zstd_stream_is_found_and_named() {
    let lab = Lab::new("zstdflip");
    lab.configure(&[("COMPRESSION", "zstd")]);
    let vm = vm_with_data(&lab, "zstdflip");
    lab.run_well(&vm);
    let set = lab.chain_dir(&vm);
    let stream = set.join("vda.full.zstd");
    let good = fs::read(&stream).expect("the stream is there");
    for place in (0..good.len()).step_by(good.len() / 40) {
        let mut bad = good.clone();
        bad[place] ^= 1;
        fs::write(&stream, bad).expect("the set is ours");
        let output = lab.vmstream(&["verify", "--json", set.to_str().expect("text")]);
        assert_eq!(output.status.code(), Some(1), "byte {place}: {}", text(&output));
        assert!(text(&output).contains("vda.full.zstd"), "byte {place}: {}", text(&output));
    }
}

#[test]
fn zstd_and_others_do_not_share_a_chain() {
    let lab = Lab::configured("zstdswitch");
    let vm = vm_with_data(&lab, "zstdswitch");
    lab.run_well(&vm);
    let before = Point::of(&lab, &vm, "virtnbdbackup.0");
    lab.configure(&[("COMPRESSION", "zstd")]);
    let ended = lab.run_well(&vm);
    assert_eq!(
        (ended.level().as_str(), ended.why().as_str()),
        ("full", "COMPRESSION was changed from or to zstd, and a chain holds no mixture")
    );
    lab.assert_points(Path::new(&ended.report("archived_to")), &[before]);
    let mut history = History::default();
    history.note(&lab, &vm);
    history.assert_restorable(&lab, &lab.chain_dir(&vm));
    // A copy of the same VM, shut off.
    vm.destroy();
    let ended = lab.run_well(&vm);
    assert_eq!(ended.level(), "copy");
    let set = lab.chain_dir(&vm);
    assert!(names(&set).contains(&"vda.copy.zstd".to_owned()), "{:?}", names(&set));
    vmstream(&lab, &["verify", "--no-archives", set.to_str().expect("text")]);
    assert_eq!(lab.run_well(&vm).level(), "skip");
    // And back: other streams take the place of the copy.
    lab.configure(&[("COMPRESSION", "none")]);
    vm.start_paused();
    assert_eq!(lab.run_well(&vm).level(), "full");
    lab.assert_points(&lab.chain_dir(&vm), &[Point::of(&lab, &vm, "virtnbdbackup.0")]);
}

#[test]
fn each_method_for_old_readers_is_restored_by_all_of_them() {
    for (name, keys, coding) in [
        ("plain", vec![("COMPRESSION", "none")], Value::Null),
        ("lz4", vec![("COMPRESSION", "lz4"), ("COMPRESSION_LEVEL", "12")], Value::from("lz4")),
        // Frames of several levels in one stream.
        ("auto", vec![("COMPRESSION", "auto")], Value::from("lz4")),
    ] {
        let lab = Lab::new(name);
        lab.configure(&keys);
        let vm = vm_with_data(&lab, name);
        let history = take_points(&lab, &vm);
        let set = lab.chain_dir(&vm);
        history.assert_restorable(&lab, &set);
        for version in VERSIONS {
            history.assert_virtnbdrestore(&lab, version, &set);
        }
        let info: Value =
            serde_json::from_str(&vmstream(&lab, &["info", "--json", set.to_str().expect("text")]))
                .expect("info is JSON");
        assert!(info.to_string().contains(&format!("\"compression\":{coding}")), "{info:#}");
    }
}

#[test]
fn a_run_tells_which_stage_was_the_bottleneck() {
    let lab = Lab::new("stages");
    // A target that takes a MiB a second, and content that does not compress: writing is what takes the time.
    lab.configure(&[("COMPRESSION", "none"), ("TARGET_BANDWIDTH", "1")]);
    let vm = lab.paused_vm("stages", &[DiskSpec::new("vda", 4 * MIB)]);
    vm.write_bytes("vda", 0, &text_of(3 * MIB as usize)).expect("a write");
    let ended = lab.run_well(&vm);
    assert!(ended.log.contains("bottleneck: writing (guest reads "), "{}", ended.log);
    let disks: Value = serde_json::from_str(&ended.report("disks")).expect("disks are JSON");
    let stages = &disks[0]["stages"];
    assert_eq!(stages["bottleneck"], "writing", "{disks:#}");
    assert!(stages["writing_percent"].as_u64().is_some_and(|percent| percent > 50), "{disks:#}");
    assert!(stages["copy_ms"].as_u64().is_some_and(|took| took > 1000), "{disks:#}");
}
