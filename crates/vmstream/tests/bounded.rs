//! Trees of many sets: told as each set ends, in the memory that one of them needs.

use crate::golden::{build, data_header, meta};
use crate::program::VMSTREAM;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Points of each set: enough that a report takes more memory than noise does.
const POINTS: usize = 40;

/// A tree of so many equal sets; all but the first are links to its files.
fn tree(root: &Path, sets: usize) {
    let dir = |number: usize| root.join(format!("vm{number:03}"));
    std::fs::create_dir_all(dir(0)).unwrap();
    let mut names = Vec::new();
    for number in 0..POINTS {
        let mut meta = meta(1 << 20, 512, None);
        meta.checkpoint_name = format!("virtnbdbackup.{number}");
        let mut file = "vda.full.data".to_owned();
        if number > 0 {
            meta.incremental = true;
            meta.parent_checkpoint = format!("virtnbdbackup.{}", number - 1);
            file = format!("vda.inc.{}.data", meta.checkpoint_name);
        }
        let frames = [&data_header(0, 512)[..], &[7; 512], b"\r\n"].concat();
        std::fs::write(dir(0).join(file), build(&meta, &frames, None)).unwrap();
        let config = format!("vmconfig.{}.xml", meta.checkpoint_name);
        std::fs::write(dir(0).join(config), "<domain>\n</domain>\n").unwrap();
        names.push(meta.checkpoint_name);
    }
    std::fs::write(dir(0).join("vm.cpt"), serde_json::to_string(&names).unwrap()).unwrap();
    let files: Vec<PathBuf> = std::fs::read_dir(dir(0)).unwrap().map(|entry| entry.unwrap().path()).collect();
    for number in 1..sets {
        std::fs::create_dir(dir(number)).unwrap();
        for file in &files {
            std::fs::hard_link(file, dir(number).join(file.file_name().unwrap())).unwrap();
        }
    }
}

/// The most memory that it ever had, in KiB.
fn peak(root: &Path, args: &[&str]) -> u64 {
    let mut command = Command::new("/usr/bin/time");
    command.args(["-q", "-f", "%M", VMSTREAM]).args(args).arg(root).stdout(Stdio::null());
    let done = command.output().unwrap();
    let told = String::from_utf8(done.stderr).unwrap();
    told.lines().last().unwrap().parse().unwrap_or_else(|error| panic!("{args:?}: {error}: {told}"))
}

#[test]
fn memory_does_not_grow_with_the_number_of_sets() {
    let (few, many) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    tree(few.path(), 5);
    tree(many.path(), 200);
    for args in [
        &["info"][..],
        &["info", "--json"],
        &["verify", "--quick"],
        &["verify", "--workers", "1", "--json"],
        &["doctor", "--json"],
    ] {
        let (few, many) = (peak(few.path(), args), peak(many.path(), args));
        assert!(many < few + 4096, "{args:?}: {few} KiB for 5 sets, {many} KiB for 200");
    }
}

/// The program with a pipe that holds one page, so that it cannot run far ahead of its reader.
fn started(root: &Path, args: &[&str]) -> (Child, std::fs::File) {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    let mut command = Command::new(VMSTREAM);
    let child =
        command.args(args).arg(root).stdout(Stdio::from(writer)).stderr(Stdio::null()).spawn().unwrap();
    (child, std::fs::File::from(reader))
}

#[test]
fn each_set_is_told_before_the_next_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path(), 200);
    for command in [&["info"][..], &["verify", "--quick"]] {
        let good = Command::new(VMSTREAM).args(command).arg(dir.path()).output().unwrap();
        assert_eq!(good.status.code(), Some(0), "{}", String::from_utf8_lossy(&good.stdout));
    }
    let full = |vm: &str| dir.path().join(vm).join("vda.full.data");
    for args in [&["info"][..], &["info", "--json"], &["verify", "--quick"], &["verify", "--quick", "--json"]]
    {
        let (mut child, mut out) = started(dir.path(), args);
        let mut first = [0; 512];
        out.read_exact(&mut first).unwrap();
        assert!(String::from_utf8_lossy(&first).contains("vm000"), "{args:?}");
        // The last one gets lost while the program waits for its reader.
        std::fs::remove_file(full("vm199")).unwrap();
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{args:?}: the lost one was looked at too early");
        std::fs::hard_link(full("vm000"), full("vm199")).unwrap();
    }
}
