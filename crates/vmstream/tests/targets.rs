//! Where a disk can go (standard output, qcow2, a block device), and how it compares with an image.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

mod chains;
mod golden;

use chains::{Form, Link, write_chain};
use golden::{Golden, damage};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use vmstream::chain::BackupSet;
use vmstream::restore::{ExtractError, ExtractOptions, Format, Watch, extract};

fn vmstream(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vmstream")).args(args).current_dir(dir).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn run(command: &mut Command) -> String {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn sha256(path: &Path) -> String {
    run(Command::new("sha256sum").arg(path)).split(' ').next().unwrap().to_owned()
}

/// Each disk at each point of the LZ4 set, with the hash recorded on the live VM.
fn recorded(golden: &Golden) -> Vec<(String, String, String)> {
    let lines = std::fs::read_to_string(golden.root().join("lz4/sha256.live")).unwrap();
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let number = words[0].strip_prefix("point")?;
        Some((format!("virtnbdbackup.{number}"), words[1].to_owned(), words[2].to_owned()))
    };
    let all: Vec<_> = lines.lines().filter_map(line).collect();
    assert_eq!(all.len(), 8);
    all
}

#[test]
fn standard_output_gets_every_byte_in_order() {
    let golden = Golden::extract();
    for (point, disk, want) in recorded(&golden) {
        let args = ["extract", ".", "--disk", &disk, "--until", &point, "-o", "-", "--workers", "3"];
        let done = vmstream(&golden.lz4(), &args);
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        // Increments of virtnbdbackup may lack changes: that is said, and nothing else.
        let doubt = "warning: this point is made of increments by virtnbdbackup that may lack changes: vmstream doctor says \
                     more\n";
        assert_eq!(text(&done.stderr), if point.ends_with(".0") { "" } else { doubt });
        let out = golden.root().join("out");
        std::fs::write(&out, done.stdout).unwrap();
        assert_eq!(sha256(&out), want, "{disk} at {point}");
    }
}

#[test]
fn a_raw_disk_goes_to_standard_output_too() {
    let golden = Golden::extract();
    let done = vmstream(&golden.plain(), &["extract", ".", "--disk", "vdb", "-o", "-"]);
    assert_eq!(done.status.code(), Some(0));
    assert!(done.stdout == std::fs::read(golden.plain().join("vdb.copy.data")).unwrap());
    assert!(text(&done.stderr).contains("its content is that of virtnbdbackup.0"));
}

#[test]
fn a_reader_that_goes_away_is_an_error() {
    let golden = Golden::extract();
    let shell = format!(
        "{} extract . --disk vda -o - | head -c 1000 >/dev/null; exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_vmstream")
    );
    let done = Command::new("bash").args(["-c", &shell]).current_dir(golden.lz4()).output().unwrap();
    assert_eq!(done.status.code(), Some(2), "{}", text(&done.stderr));
    assert!(text(&done.stderr).contains("Cannot write to the output"));
}

#[test]
fn qcow2_images_hold_the_disk_and_little_more() {
    let golden = Golden::extract();
    for (point, disk, want) in recorded(&golden) {
        let args =
            ["extract", ".", "--disk", &disk, "--until", &point, "-o", "../i.qcow2", "--format", "qcow2"];
        let done = vmstream(&golden.lz4(), &[&args[..], &["--force"]].concat());
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        let image = golden.lz4().join("../i.qcow2");
        run(Command::new("qemu-img").args(["check", "-q"]).arg(&image));
        let raw = golden.root().join("raw");
        run(Command::new("qemu-img").args(["convert", "-O", "raw"]).arg(&image).arg(&raw));
        assert_eq!(sha256(&raw), want, "{disk} at {point}");
        let used = |path: &Path| std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(path).unwrap());
        assert!(used(&image) * 512 <= used(&raw) * 512 + (8 << 20), "zeros take room");
        let args = ["compare", ".", "../i.qcow2", "--disk", &disk, "--until", &point];
        let same = vmstream(&golden.lz4(), &args);
        assert_eq!(same.status.code(), Some(0), "{}{}", text(&same.stdout), text(&same.stderr));
    }
    let args = ["extract", ".", "--disk", "vda", "-o", "../i.qcow2", "--format", "qcow2"];
    let again = vmstream(&golden.lz4(), &args);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("exists already"));
}

#[test]
fn without_qemu_the_missing_program_is_named() {
    let golden = Golden::extract();
    let args = ["extract", ".", "--disk", "vda", "-o", "../i.qcow2", "--format", "qcow2"];
    let done = Command::new(env!("CARGO_BIN_EXE_vmstream"))
        .args(args)
        .current_dir(golden.lz4())
        .env("PATH", "/nowhere")
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(2));
    assert!(text(&done.stderr).contains("the program qemu-img, which is not installed"));
    assert!(!golden.lz4().join("../i.qcow2.partial").exists());
}

#[test]
fn a_damaged_chain_gives_no_qcow2_either() {
    let golden = Golden::extract();
    damage(&golden.lz4().join("vda.inc.virtnbdbackup.2.data"));
    let before = std::fs::read_dir(golden.lz4().join("..")).unwrap().count();
    let args = ["extract", ".", "--disk", "vda", "-o", "../i.qcow2", "--format", "qcow2"];
    assert_eq!(vmstream(&golden.lz4(), &args).status.code(), Some(1));
    assert_eq!(vmstream(&golden.lz4(), &["extract", ".", "--disk", "vda", "-o", "-"]).status.code(), Some(1));
    assert_eq!(std::fs::read_dir(golden.lz4().join("..")).unwrap().count(), before, "something is left");
}

/// A loop device over a file. Detached when dropped.
struct Loop(PathBuf);

impl Loop {
    fn over(file: &Path) -> Self {
        Self(run(Command::new("losetup").args(["--find", "--show"]).arg(file)).trim().into())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

#[test]
fn a_block_device_gets_every_byte_and_keeps_its_rest() {
    let golden = Golden::extract();
    let (size, more) = (100_663_296usize, 1 << 20);
    let file = golden.root().join("device");
    std::fs::write(&file, vec![0xa5; size + more]).unwrap();
    let device = Loop::over(&file);
    let name = device.0.to_str().unwrap();
    let args = ["extract", ".", "--disk", "vda", "-o", name];
    let refused = vmstream(&golden.lz4(), &args);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("is a block device"), "{}", text(&refused.stderr));
    assert!(std::fs::read(&file).unwrap().iter().all(|byte| *byte == 0xa5));
    let qcow2 = vmstream(&golden.lz4(), &[&args[..], &["--force", "--format", "qcow2"]].concat());
    assert!(text(&qcow2.stderr).contains("takes the raw format only"), "{}", text(&qcow2.stderr));

    let done = vmstream(&golden.lz4(), &[&args[..], &["--force"]].concat());
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    // The rest of the device is no difference, and is not passed over in silence.
    let same = vmstream(&golden.lz4(), &["compare", ".", name, "--disk", "vda"]);
    let want = format!(
        "Disk vda at virtnbdbackup.3 and {name}: the same (96.0 MiB)\n\
         {name} is longer by 1.00 MiB: what is there was not looked at\n"
    );
    assert_eq!((text(&same.stdout), same.status.code()), (&want[..], Some(0)));
    let same = vmstream(&golden.lz4(), &["compare", ".", name, "--disk", "vda", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&same.stdout).unwrap();
    let numbers = ["different_bytes", "image_bytes", "rest_bytes"].map(|key| json[key].as_u64().unwrap());
    assert_eq!((numbers, &json["same"]), ([0, (size + more) as u64, more as u64], &true.into()));
    let written = std::fs::OpenOptions::new().write(true).open(&device.0).unwrap();
    written.write_all_at(b"other", 5_000_000).unwrap();
    let other = vmstream(&golden.lz4(), &["compare", ".", name, "--disk", "vda"]);
    assert_eq!(other.status.code(), Some(1), "{}", text(&other.stdout));
    drop(written);
    let again = vmstream(&golden.lz4(), &[&args[..], &["--force"]].concat());
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    drop(device);
    let bytes = std::fs::read(&file).unwrap();
    assert!(bytes[size..].iter().all(|byte| *byte == 0xa5), "behind the disk");
    let image = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    image.set_len(size as u64).unwrap();
    let want = recorded(&golden).into_iter().find(|(point, disk, _)| point.ends_with('3') && disk == "vda");
    assert_eq!(sha256(&file), want.unwrap().2);
}

#[test]
fn a_device_that_is_too_small_is_not_touched() {
    let golden = Golden::extract();
    let file = golden.root().join("device");
    std::fs::write(&file, vec![0xa5; 1 << 20]).unwrap();
    let device = Loop::over(&file);
    let args = ["extract", ".", "--disk", "vda", "--force", "-o", device.0.to_str().unwrap()];
    let done = vmstream(&golden.lz4(), &args);
    assert_eq!(done.status.code(), Some(2));
    assert!(text(&done.stderr).contains("has 1048576 bytes, the disk has 100663296"));
    assert!(std::fs::read(&file).unwrap().iter().all(|byte| *byte == 0xa5));
}

#[test]
fn a_device_that_an_error_left_half_written_is_said_to_be() {
    let golden = Golden::extract();
    let file = golden.root().join("device");
    std::fs::write(&file, vec![0xa5; 100_663_296]).unwrap();
    let device = Loop::over(&file);
    let args = ["extract", ".", "--disk", "vda", "--force", "-o", device.0.to_str().unwrap()];
    let stream = golden.lz4().join("vda.full.data");
    let good = std::fs::read(&stream).unwrap();
    let said_of = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&stream, bad).unwrap();
        let done = vmstream(&golden.lz4(), &args);
        assert_eq!(done.status.code(), Some(1), "{at}: {}", text(&done.stderr));
        text(&done.stderr).to_owned()
    };
    let late = said_of(good.len() - 5000);
    assert!(late.contains("was overwritten, in part at least") && late.contains("vda.full.data"), "{late}");
    // The meta frame: nothing was written.
    let early = said_of(20);
    assert!(!early.contains("overwritten"), "{early}");
}

#[test]
fn differences_are_told_with_their_ranges() {
    let golden = Golden::extract();
    let args = ["extract", ".", "--disk", "vda", "-o", "../vda.raw"];
    assert_eq!(vmstream(&golden.lz4(), &args).status.code(), Some(0));
    let image = golden.lz4().join("../vda.raw");
    let compare = || vmstream(&golden.lz4(), &["compare", ".", "../vda.raw", "--disk", "vda"]);
    let same = compare();
    let want = "Disk vda at virtnbdbackup.3 and ../vda.raw: the same (96.0 MiB)\n";
    assert_eq!((text(&same.stdout), same.status.code()), (want, Some(0)));

    let file = std::fs::OpenOptions::new().write(true).read(true).open(&image).unwrap();
    // In data, in a hole, and across the border of two windows.
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1_000_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 1_000_000).unwrap();
    file.write_all_at(b"new", 90_000_000).unwrap();
    let border = 32 << 20;
    let mut around = [0; 1024];
    file.read_exact_at(&mut around, border - 512).unwrap();
    file.write_all_at(&around.map(|byte| !byte), border - 512).unwrap();
    let different = compare();
    let want = "\
different: disk bytes 999936..1000448 (512 B)
different: disk bytes 33553920..33554944 (1.00 KiB)
different: disk bytes 89999872..90000384 (512 B)
Disk vda at virtnbdbackup.3 and ../vda.raw: DIFFERENT in 2.00 KiB (96.0 MiB)
";
    assert_eq!((text(&different.stdout), different.status.code()), (want, Some(1)));

    // An image file that is longer is another, whatever the rest holds: other than a device, it need not be.
    let longer = golden.lz4().join("../longer.raw");
    let extract = ["extract", ".", "--disk", "vda", "-o", "../longer.raw"];
    assert_eq!(vmstream(&golden.lz4(), &extract).status.code(), Some(0));
    let long = std::fs::OpenOptions::new().write(true).open(&longer).unwrap();
    let of_longer = |len: u64, more: &[u8]| {
        long.set_len(100_663_296 + len).unwrap();
        long.write_all_at(more, 100_663_296 + len - more.len() as u64).unwrap();
        let done = vmstream(&golden.lz4(), &["compare", ".", "../longer.raw", "--disk", "vda"]);
        (done.status.code(), text(&done.stdout).to_owned())
    };
    let (exit, said) = of_longer(1 << 20, b"");
    assert_eq!(exit, Some(1), "{said}");
    assert!(said.contains("DIFFERENT in size (100663296 bytes against 101711872 in the image)"), "{said}");
    let (exit, said) = of_longer(1 << 20, b"more");
    assert!(exit == Some(1) && said.contains("different: disk bytes 101711360..101711872 (512 B)"), "{said}");

    file.set_len(100_663_296 - 512).unwrap();
    let shorter = compare();
    assert_eq!(shorter.status.code(), Some(1));
    assert!(text(&shorter.stdout).contains("100663296 bytes against 100662784 in the image"));
    let missing = vmstream(&golden.lz4(), &["compare", ".", "../nothing", "--disk", "vda"]);
    assert_eq!(missing.status.code(), Some(2));
}

/// A claim costs nothing: a disk may call itself as large as numbers go, with a sector stored.
#[test]
fn no_claim_of_a_size_keeps_anybody_busy() {
    for size in [1 << 60, u64::MAX, u64::MAX - 511] {
        let dir = tempfile::tempdir().unwrap();
        let frames = vec![(0..512, Some(vec![7; 512])), (1 << 59..(1 << 59) + 512, Some(vec![8; 512]))];
        let link = Link { size, alone: true, frames };
        write_chain(dir.path(), &[link], Form { compression: None, frame_len: 512, sidecars: false });
        let run_one_of = |arguments: &[&str], want: &[i32]| {
            let mut command = Command::new("timeout");
            command.args(["60", env!("CARGO_BIN_EXE_vmstream")]).args(arguments).current_dir(dir.path());
            let said = command.output().unwrap();
            let text = String::from_utf8_lossy(&said.stderr) + String::from_utf8_lossy(&said.stdout);
            let code = said.status.code().expect("it ends by itself");
            assert!(want.contains(&code), "{size} {arguments:?}: {code} {text}");
            text.into_owned()
        };
        let run = |arguments: &[&str], want: i32| run_one_of(arguments, &[want]);
        run(&["info", "."], 0);
        run(&["map", "."], 0);
        run(&["verify", "."], 0);
        run(&["convert", ".", "--to", "again"], 0);
        for whole in [
            &["verify", ".", "--deep"][..],
            &["extract", ".", "--disk", "vda", "-o", "-"],
            &["compare", ".", "made.cpt", "--disk", "vda"],
            &["convert", ".", "--squash", "--to", "full"],
        ] {
            assert!(run(whole, 2).contains("too many to meet each of them"), "{whole:?}");
        }
        // No file system on a disk takes so large a file. One in memory takes some.
        let codes: &[i32] = if size == 1 << 60 { &[0, 2] } else { &[2] };
        for format in ["raw", "qcow2"] {
            let image = format!("image.{format}");
            run_one_of(&["extract", ".", "--disk", "vda", "-o", &image, "--format", format], codes);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let size = 1 << 40;
    let link = Link { size, alone: true, frames: vec![(size - 512..size, Some(vec![8; 512]))] };
    write_chain(dir.path(), &[link], Form { compression: None, frame_len: 512, sidecars: true });
    for format in ["raw", "qcow2"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmstream"));
        command.args(["extract", ".", "--disk", "vda", "-o", format, "--format", format]);
        let said = command.current_dir(dir.path()).output().unwrap();
        assert!(said.status.success(), "{said:?}");
    }
    let raw = std::fs::metadata(dir.path().join("raw")).unwrap();
    assert_eq!((raw.len(), raw.blocks() < 100), (size, true));
}

/// A program that is ended when dropped.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// qemu-nbd with an image open, as a running VM has it.
fn qemu_nbd(image: &Path, more: &[&str]) -> Running {
    let socket = image.with_extension("socket");
    // One that was killed leaves its own, which says nothing of the next.
    let _ = std::fs::remove_file(&socket);
    let mut command = Command::new("qemu-nbd");
    command.args(["--persistent", "--format=raw", "--socket"]).arg(&socket).args(more).arg(image);
    let running = Running(command.spawn().unwrap());
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !socket.exists() {
        assert!(std::time::Instant::now() < end, "qemu-nbd does not serve");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    running
}

/// Begins to use an image when all of its replacement is written.
struct TakesItAtTheEnd<'a> {
    image: &'a Path,
    by: Mutex<Option<Running>>,
}

impl Watch for TakesItAtTheEnd<'_> {
    fn progress(&self, at: u64, size: u64) {
        if at == size {
            self.by.lock().unwrap().get_or_insert_with(|| qemu_nbd(self.image, &[]));
        }
    }
}

#[test]
fn force_replaces_no_image_that_somebody_took_while_it_wrote() {
    let golden = Golden::extract();
    let image = golden.root().join("image");
    let set = BackupSet::open(&golden.lz4()).unwrap();
    let options =
        ExtractOptions { replace: true, format: Format::Raw, check: true, workers: NonZeroUsize::MIN };
    for format in [Format::Raw, Format::Qcow2] {
        std::fs::write(&image, vec![0xa5; 1 << 20]).unwrap();
        let watch = TakesItAtTheEnd { image: &image, by: Mutex::new(None) };
        let options = ExtractOptions { format, ..options };
        let newest = set.points.last().unwrap().id;
        let refused = extract(&set, &"vda".parse().unwrap(), newest, &image, options, &watch).unwrap_err();
        assert!(watch.by.lock().unwrap().is_some(), "{format:?}: {refused}");
        assert!(matches!(refused, ExtractError::InUse { .. }), "{format:?}: {refused}");
        assert!(std::fs::read(&image).unwrap().iter().all(|byte| *byte == 0xa5), "{format:?}");
        assert!(!golden.root().join("image.partial").exists(), "{format:?}");
    }
}

#[test]
fn no_folder_is_made_for_a_point_without_disks() {
    let golden = Golden::extract();
    let set = golden.root().join("none");
    std::fs::create_dir(&set).unwrap();
    std::fs::write(set.join("web.cpt"), r#"["virtnbdbackup.0"]"#).unwrap();
    std::fs::write(set.join("vmconfig.virtnbdbackup.0.xml"), "<domain type='kvm'>\n</domain>\n").unwrap();
    let done = vmstream(&set, &["extract", ".", "--all", "../out"]);
    assert_eq!(done.status.code(), Some(2), "{}", text(&done.stdout));
    assert!(
        text(&done.stderr).contains("There is no disk to extract at virtnbdbackup.0"),
        "{}",
        text(&done.stderr)
    );
    assert!(!golden.root().join("out").exists());
}

/// What cannot be made durable after the rename is known before it.
#[test]
fn a_folder_that_cannot_be_opened_keeps_its_old_image() {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let golden = Golden::extract();
    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    mode(golden.root(), 0o755);
    let out = golden.root().join("out");
    std::fs::create_dir(&out).unwrap();
    let image = out.join("image");
    std::fs::write(&image, "theirs").unwrap();
    let extract = |folder: u32| {
        mode(&out, folder);
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmstream"));
        command.args(["extract", ".", "--disk", "vda", "--force", "-o", image.to_str().unwrap()]);
        command.current_dir(golden.lz4()).uid(65534).gid(65534).output().unwrap()
    };
    let refused = extract(0o333);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("Permission denied"), "{}", text(&refused.stderr));
    assert_eq!(std::fs::read(&image).unwrap(), b"theirs");
    assert!(!out.join("image.partial").exists());
    let done = extract(0o777);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
}

/// Whoever may not read a file learns nothing of the locks on it.
#[test]
fn force_replaces_nothing_whose_users_this_user_cannot_see() {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let golden = Golden::extract();
    let open_to_all = |dir: &Path| std::fs::set_permissions(dir, PermissionsExt::from_mode(0o777)).unwrap();
    open_to_all(golden.root());
    let image = golden.root().join("image");
    std::fs::write(&image, "theirs").unwrap();
    let extract = |mode: u32| {
        std::fs::set_permissions(&image, PermissionsExt::from_mode(mode)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmstream"));
        command.args(["extract", ".", "--disk", "vda", "--force", "-o", image.to_str().unwrap()]);
        command.current_dir(golden.lz4()).uid(65534).gid(65534).output().unwrap()
    };
    let refused = extract(0o600);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    let said = text(&refused.stderr);
    assert!(said.contains("its locks cannot be read") && said.contains("Run as root"), "{said}");
    assert_eq!(std::fs::read(&image).unwrap(), b"theirs");
    assert!(!golden.root().join("image.partial").exists());
    let done = extract(0o644);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
}

#[test]
fn force_takes_no_image_away_from_who_uses_it() {
    let golden = Golden::extract();
    let image = golden.root().join("image");
    let extract = |target: &Path| {
        let args = ["extract", ".", "--disk", "vda", "--force", "-o", target.to_str().unwrap()];
        vmstream(&golden.lz4(), &args)
    };
    let refused = |target: &Path, by: &str| {
        let done = extract(target);
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{said}");
        assert!(said.contains("is in use by") && said.contains(by), "{by}: {said}");
        assert!(std::fs::read(&image).unwrap().iter().all(|byte| *byte == 0xa5), "{by}: it was replaced");
        assert!(!golden.root().join("image.partial").exists(), "{by}");
    };
    std::fs::write(&image, vec![0xa5; 100_663_296]).unwrap();

    // A VM writes to it.
    let writer = qemu_nbd(&image, &[]);
    refused(&image, "(qemu-nbd)");
    drop(writer);
    // A VM has it beneath its own image.
    let reader = qemu_nbd(&image, &["--read-only"]);
    refused(&image, "a QEMU that holds its lock");
    drop(reader);
    // The host has it as a device: by its file, by that device, and by another node of the same number.
    let device = Loop::over(&image);
    refused(&image, device.0.to_str().unwrap());
    let own_dev = tempfile::tempdir_in("/dev/shm").unwrap();
    let node = own_dev.path().join("node");
    let rdev = std::fs::metadata(&device.0).unwrap().rdev();
    run(Command::new("mknod")
        .arg(&node)
        .arg("b")
        .args([rustix::fs::major(rdev).to_string(), rustix::fs::minor(rdev).to_string()]));
    let writer = qemu_nbd(&device.0, &[]);
    refused(&device.0, "(qemu-nbd)");
    refused(&node, "(qemu-nbd)");
    drop(writer);
    drop(device);

    assert_eq!(extract(&image).status.code(), Some(0), "nobody has it now");
}
