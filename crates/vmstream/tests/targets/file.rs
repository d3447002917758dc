//! Files and folders: sizes that are only claimed, points without disks, folders that cannot be opened.

use crate::chains::{Form, Link, write_chain};
use crate::golden::Golden;
use crate::program::{VMSTREAM, text, vmstream, wait_until_free};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

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
            command.args(["60", VMSTREAM]).args(arguments).current_dir(dir.path());
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
        let mut command = Command::new(VMSTREAM);
        command.args(["extract", ".", "--disk", "vda", "-o", format, "--format", format]);
        let said = command.current_dir(dir.path()).output().unwrap();
        assert!(said.status.success(), "{said:?}");
    }
    let raw = std::fs::metadata(dir.path().join("raw")).unwrap();
    assert_eq!((raw.len(), raw.blocks() < 100), (size, true));
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
        text(&done.stderr).contains("virtnbdbackup.0 holds no disk; nothing was written"),
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
        let mut command = Command::new(VMSTREAM);
        command.args(["extract", ".", "--disk", "vda", "--force", "-o", image.to_str().unwrap()]);
        command.current_dir(golden.lz4()).uid(65534).gid(65534).output().unwrap()
    };
    let refused = extract(0o333);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("Permission denied"), "{}", text(&refused.stderr));
    assert_eq!(std::fs::read(&image).unwrap(), b"theirs");
    assert!(!out.join("image.partial").exists());
    wait_until_free(&image);
    let done = extract(0o777);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
}
