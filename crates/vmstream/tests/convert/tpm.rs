//! What a TPM left goes along, for its owner alone.

use super::set_up::{WORKERS, converted, digests, left, point};
use crate::golden::Golden;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use vmstream::chain::BackupSet;
use vmstream::convert::{Compression, ConvertError, Shape};
use vmstream::verify::{Depth, VerifyOptions, verify_set};

/// Gives the golden chain what a VM with a TPM has, with doors that somebody left open: the state changed with
/// `virtnbdbackup.2`, and there are leftovers.
fn add_tpm(dir: &Path) {
    let write = |name: &str, content: &str| {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        if !name.starts_with(".tpm-state.") {
            return;
        }
        for path in path.ancestors().take_while(|path| *path != dir) {
            if rustix::process::geteuid().is_root() {
                chown(path, Some(1234), Some(1235)).unwrap();
            }
            let mode = if path.is_dir() { 0o2775 } else { 0o644 };
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
    };
    for (number, content) in [(0, "a"), (2, "b"), (9, "of a run that did not finish")] {
        write(&format!(".tpm-state.virtnbdbackup.{number}/tpm2/tpm2-00.permall"), content);
        symlink(
            format!(".tpm-state.virtnbdbackup.{number}"),
            dir.join(format!(".tpm-state.virtnbdbackup.{}", number + 1)),
        )
        .unwrap();
    }
    for number in 0..4 {
        write(&format!(".identity.virtnbdbackup.{number}.json"), &format!("{{\"at\": {number}}}"));
    }
    write(".tpm-state.virtnbdbackup.3.tpm2.tpm2-00.permall.partial", "half");
    write(".tpm-backup-marker", "2026-11-22 20:02:30\n");
    write(".copy-state.json", "{}");
    symlink(".tpm-state.virtnbdbackup.2", dir.join("tpm-state")).unwrap();
    symlink(".tpm-state.virtnbdbackup.2", dir.join(".tpm-state.link")).unwrap();
    std::fs::set_permissions(dir, Permissions::from_mode(0o2770)).unwrap();
}

/// What is hidden in a set, and what a TPM left: folders with `/`, links with their targets, files with their content.
fn hidden(dir: &Path) -> Vec<String> {
    let (mut found, mut paths) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(folder) = paths.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            let about = path.symlink_metadata().unwrap();
            let private = name.starts_with(".tpm-state.") && !about.is_symlink();
            if private {
                let want = if about.is_dir() { 0o700 } else { 0o600 };
                let owner = if rustix::process::geteuid().is_root() {
                    (1234, 1235)
                } else {
                    (about.uid(), about.gid())
                };
                assert_eq!((about.mode() & 0o7777, (about.uid(), about.gid())), (want, owner), "{name}");
            }
            if about.is_symlink() {
                found.push(format!("{name} -> {}", std::fs::read_link(&path).unwrap().display()));
            } else if about.is_dir() && private {
                found.push(format!("{name}/"));
                paths.push(path);
            } else if about.is_file() && name.starts_with('.') && name != ".full-backup-month" {
                found.push(format!("{name}: {}", std::fs::read_to_string(&path).unwrap().trim_end()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn what_a_tpm_left_goes_along_with_its_point_for_its_owner_alone() {
    let golden = Golden::extract();
    let (dir, new) = (golden.lz4(), golden.root().join("tpm-new"));
    add_tpm(&dir);
    converted(&dir, Shape::SamePoints, &new, Compression::Lz4(1)).unwrap();
    let all = [
        ".identity.virtnbdbackup.0.json: {\"at\": 0}",
        ".identity.virtnbdbackup.1.json: {\"at\": 1}",
        ".identity.virtnbdbackup.2.json: {\"at\": 2}",
        ".identity.virtnbdbackup.3.json: {\"at\": 3}",
        ".tpm-backup-marker: 2026-11-22 20:02:30",
        ".tpm-state.virtnbdbackup.0/",
        ".tpm-state.virtnbdbackup.0/tpm2/",
        ".tpm-state.virtnbdbackup.0/tpm2/tpm2-00.permall: a",
        ".tpm-state.virtnbdbackup.1 -> .tpm-state.virtnbdbackup.0",
        ".tpm-state.virtnbdbackup.2/",
        ".tpm-state.virtnbdbackup.2/tpm2/",
        ".tpm-state.virtnbdbackup.2/tpm2/tpm2-00.permall: b",
        ".tpm-state.virtnbdbackup.3 -> .tpm-state.virtnbdbackup.2",
    ];
    assert_eq!(hidden(&new), all);
    // A link of an older version becomes a folder.
    let newest = |dir: &Path| {
        assert!(!dir.join("tpm-state").is_symlink());
        std::fs::read_to_string(dir.join("tpm-state/tpm2/tpm2-00.permall")).unwrap()
    };
    assert_eq!(newest(&new), "b");
    assert_eq!(new.join("tpm-state").metadata().unwrap().mode() & 0o7777, 0o700);
    // And stays one.
    let again = golden.root().join("tpm-again");
    converted(&new, Shape::SamePoints, &again, Compression::Lz4(1)).unwrap();
    assert_eq!((hidden(&again), newest(&again)), (hidden(&new), "b".to_owned()));
    let full = golden.root().join("tpm-again-full");
    converted(&new, Shape::Full(point("virtnbdbackup.3")), &full, Compression::Lz4(1)).unwrap();
    assert!(full.join(".tpm-backup-marker").exists(), "it is the newest state");
    assert_eq!(newest(&full), "b");
    assert_eq!(new.metadata().unwrap().mode() & 0o7777, 0o2770);
    digests(&new);
    // No sidecar speaks of secrets: who may not read them can prove the rest.
    std::fs::remove_dir_all(new.join(".tpm-state.virtnbdbackup.0")).unwrap();
    digests(&new);
    std::fs::write(new.join(".identity.virtnbdbackup.0.json"), "{}").unwrap();
    let set = BackupSet::open(&new).unwrap();
    let report = verify_set(&set, VerifyOptions { depth: Depth::Content, workers: WORKERS }, &());
    let found: Vec<_> = report.findings.iter().map(|found| found.path.clone()).collect();
    assert_eq!(found, [new.join(".identity.virtnbdbackup.0.json")]);
    for (number, state, marker) in [(1, "a", false), (3, "b", true)] {
        let new = golden.root().join(format!("tpm-full-{number}"));
        converted(&dir, Shape::Full(point(&format!("virtnbdbackup.{number}"))), &new, Compression::Lz4(1))
            .unwrap();
        let mut want = vec![format!(".identity.virtnbdbackup.0.json: {{\"at\": {number}}}")];
        want.extend(marker.then(|| all[4].to_owned()));
        want.extend([all[5].to_owned(), all[6].to_owned()]);
        want.push(format!(".tpm-state.virtnbdbackup.0/tpm2/tpm2-00.permall: {state}"));
        assert_eq!(hidden(&new), want, "{number}");
        assert_eq!(newest(&new), state);
        digests(&new);
    }
    // Where the state cannot be followed nothing is made.
    std::fs::rename(dir.join(".tpm-state.virtnbdbackup.2"), golden.root().join("away")).unwrap();
    let lost = golden.root().join("lost");
    let error = converted(&dir, Shape::SamePoints, &lost, Compression::Lz4(1)).unwrap_err();
    assert!(matches!(&error, ConvertError::Read { path, .. } if path.starts_with(&dir)), "{error}");
    assert_eq!(left(&lost), Vec::<String>::new());
}

#[test]
fn the_tpm_state_of_an_older_program_goes_along_as_a_folder() {
    let golden = Golden::extract();
    let (dir, other) = (golden.lz4(), golden.root().join("tpm-other"));
    std::fs::create_dir_all(other.join("tpm2")).unwrap();
    std::fs::write(other.join("tpm2/tpm2-00.permall"), "old").unwrap();
    symlink(&other, dir.join("tpm-state")).unwrap();
    for (name, shape) in [("same", Shape::SamePoints), ("full", Shape::Full(point("virtnbdbackup.1")))] {
        let new = golden.root().join(name);
        converted(&dir, shape, &new, Compression::Lz4(1)).unwrap();
        let (folder, file) = (new.join("tpm-state"), new.join("tpm-state/tpm2/tpm2-00.permall"));
        let mode = |path: &Path| path.symlink_metadata().unwrap().mode() & 0o7777;
        assert!(!folder.is_symlink());
        assert_eq!(
            (mode(&folder), mode(&file), std::fs::read(&file).unwrap()),
            (0o700, 0o600, b"old".to_vec())
        );
    }
}
