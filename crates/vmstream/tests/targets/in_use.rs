//! An image that somebody uses, or may use, is not replaced.

use super::set_up::{Loop, run};
use crate::golden::Golden;
use crate::program::{VMSTREAM, text, vmstream, wait_until_free};
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use vmstream::chain::BackupSet;
use vmstream::restore::{ExtractError, ExtractOptions, Format, Watch, extract};

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
        wait_until_free(&image);
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
        let mut command = Command::new(VMSTREAM);
        command.args(["extract", ".", "--disk", "vda", "--force", "-o", image.to_str().unwrap()]);
        command.current_dir(golden.lz4()).uid(65534).gid(65534).output().unwrap()
    };
    let refused = extract(0o600);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    let said = text(&refused.stderr);
    assert!(said.contains("its locks cannot be read") && said.contains("Run as root"), "{said}");
    assert_eq!(std::fs::read(&image).unwrap(), b"theirs");
    assert!(!golden.root().join("image.partial").exists());
    wait_until_free(&image);
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
