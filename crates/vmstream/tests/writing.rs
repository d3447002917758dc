//! What is left when the program is ended in mid-work, when two write the same image, and when nobody takes the result.

use crate::chains::{Form, Link, write_chain};
use crate::program::{VMSTREAM, text, vmstream};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::OpenOptions;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

fn names(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LIMIT, "{what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A set whose disk takes a while to write, and folders for what comes of it.
struct Bed {
    set: tempfile::TempDir,
    out: tempfile::TempDir,
    temp: tempfile::TempDir,
}

const FRAME: u64 = 1 << 20;

impl Bed {
    fn new() -> Self {
        let bed = Self {
            set: tempfile::tempdir().unwrap(),
            out: tempfile::tempdir().unwrap(),
            temp: tempfile::tempdir().unwrap(),
        };
        let frames = (0..192).map(|number| {
            (number * FRAME..(number + 1) * FRAME, Some(vec![1 + number as u8; FRAME as usize]))
        });
        let link = Link { size: 192 * FRAME, alone: true, frames: frames.collect() };
        let form = Form { compression: Some(1), frame_len: FRAME as usize, sidecars: true };
        write_chain(bed.set.path(), &[link], form);
        bed
    }

    /// Begins `vmstream ARGS` in the folder of the output, with signals as they come by default: a test runner in the
    /// background ignores some, and its children would too.
    fn begin(&self, args: &[&str]) -> Child {
        Command::new("env")
            .args(["--default-signal=INT,HUP,TERM", VMSTREAM])
            .args(args)
            .current_dir(self.out.path())
            .env("TMPDIR", self.temp.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn set(&self) -> &str {
        self.set.path().to_str().unwrap()
    }
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Ends a run that has begun `partial`; `None` when it was done sooner, or had given what it made its name.
fn ended_by(bed: &Bed, args: &[&str], partial: &str, with: Signal) -> Option<Output> {
    let mut child = bed.begin(args);
    let path = bed.out.path().join(partial);
    wait_for("nothing is begun", || path.exists() || child.try_wait().unwrap().is_some());
    let _ = kill_process(Pid::from_child(&child), with);
    let done = child.wait_with_output().unwrap();
    if done.status.success() || path.with_extension("").exists() {
        assert!(!path.exists(), "{args:?}: {partial} is left");
        for name in names(bed.out.path()) {
            let path = bed.out.path().join(name);
            std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path)).unwrap();
        }
        return None;
    }
    Some(done)
}

#[test]
fn a_signal_leaves_nothing_unfinished_and_says_so() {
    let bed = Bed::new();
    let set = bed.set().to_owned();
    let raw = ["extract", &set, "--disk", "vda", "-o", "x.raw"];
    let qcow2 = ["extract", &set, "--disk", "vda", "-o", "x.qcow2", "--format", "qcow2"];
    let again = ["convert", &set, "--to", "new", "--compression", "zstd"];
    let squash = ["convert", &set, "--to", "new", "--squash"];
    let cases: [(&[&str], &str, Signal, i32); 6] = [
        (&raw, "x.raw.partial", Signal::INT, 130),
        (&raw, "x.raw.partial", Signal::TERM, 143),
        (&raw, "x.raw.partial", Signal::HUP, 129),
        (&qcow2, "x.qcow2.partial", Signal::INT, 130),
        (&again, "new.partial", Signal::TERM, 143),
        (&squash, "new.partial", Signal::INT, 130),
    ];
    for (args, partial, with, code) in cases {
        let done = (0..50).find_map(|_| ended_by(&bed, args, partial, with));
        let done = done.unwrap_or_else(|| panic!("{args:?} is always done sooner"));
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(&format!("removed the unfinished {partial}")), "{args:?}: {said}");
        assert_eq!(names(bed.out.path()), [""; 0], "{args:?}");
        wait_for("something is left in the folder for temporary files", || names(bed.temp.path()).is_empty());
    }
}

#[test]
fn who_was_told_to_ignore_a_hang_up_does_so() {
    let bed = Bed::new();
    let mut child = Command::new("env")
        .args(["--ignore-signal=HUP", VMSTREAM, "extract", bed.set(), "--disk", "vda", "-o", "x.raw"])
        .current_dir(bed.out.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let partial = bed.out.path().join("x.raw.partial");
    wait_for("nothing is begun", || partial.exists() || child.try_wait().unwrap().is_some());
    let _ = kill_process(Pid::from_child(&child), Signal::HUP);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// One is stopped in mid-work, so that the other meets what it has begun.
#[test]
fn an_image_that_another_run_writes_is_left_alone() {
    let bed = Bed::new();
    let set = bed.set().to_owned();
    for format in ["raw", "qcow2"] {
        let args = ["extract", &set, "--disk", "vda", "-o", "x", "--format", format, "--force"];
        let partial = bed.out.path().join("x.partial");
        let target = bed.out.path().join("x");
        let child = (0..50).find_map(|_| {
            let mut child = bed.begin(&args);
            // It has a length once it is locked.
            let begun = || std::fs::metadata(&partial).is_ok_and(|about| about.len() > 0);
            wait_for("nothing is begun", || begun() || child.try_wait().unwrap().is_some());
            let _ = kill_process(Pid::from_child(&child), Signal::STOP);
            if partial.exists() && !target.exists() {
                return Some(child);
            }
            let _ = kill_process(Pid::from_child(&child), Signal::CONT);
            child.wait().unwrap();
            let _ = std::fs::remove_file(&target);
            None
        });
        let child = child.unwrap();
        let second = vmstream(bed.out.path(), &args);
        signal(&child, Signal::CONT);
        let first = child.wait_with_output().unwrap();
        let said = text(&second.stderr);
        assert_eq!(second.status.code(), Some(2), "{said}");
        assert!(said.contains("x.partial is in use by process"), "{said}");
        assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
        let same = vmstream(bed.out.path(), &["compare", &set, "x", "--disk", "vda"]);
        assert_eq!(same.status.code(), Some(0), "{}", text(&same.stdout));
        std::fs::remove_file(&target).unwrap();
    }
}

#[test]
fn what_a_killed_run_left_is_named_and_goes_with_force() {
    let bed = Bed::new();
    let set = bed.set().to_owned();
    std::fs::write(bed.out.path().join("x.partial"), "left").unwrap();
    let args = ["extract", &set, "--disk", "vda", "-o", "x"];
    let refused = vmstream(bed.out.path(), &args);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("remove it, or give --force"), "{}", text(&refused.stderr));
    let done = vmstream(bed.out.path(), &[&args[..], &["--force"]].concat());
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let again = vmstream(bed.out.path(), &args);
    assert!(text(&again.stderr).contains("give --force to replace it"), "{}", text(&again.stderr));
    assert_eq!(names(bed.out.path()), ["x"]);
}

#[test]
fn links_are_not_written_through() {
    let bed = Bed::new();
    let set = bed.set().to_owned();
    std::fs::write(bed.out.path().join("precious"), "kept").unwrap();
    for link in ["x", "x.partial"] {
        let link = bed.out.path().join(link);
        symlink("precious", &link).unwrap();
        let done = vmstream(bed.out.path(), &["extract", &set, "--disk", "vda", "-o", "x", "--force"]);
        assert_eq!(done.status.code(), Some(2), "{}", text(&done.stderr));
        assert!(text(&done.stderr).contains("is no regular file"), "{}", text(&done.stderr));
        assert_eq!(std::fs::read(bed.out.path().join("precious")).unwrap(), b"kept");
        std::fs::remove_file(link).unwrap();
    }
}

#[test]
fn a_result_that_cannot_be_written_is_no_success() {
    let bed = Bed::new();
    let set = bed.set().to_owned();
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    let cases: [&[&str]; 13] = [
        &["info", &set],
        &["info", &set, "--json"],
        &["verify", &set],
        &["verify", &set, "--quick", "--json"],
        &["extract", &set, "--disk", "vda", "-o", "x"],
        &["extract", &set, "--disk", "vda", "-o", "-"],
        &["map", &set],
        &["map", &set, "--json"],
        &["doctor", &set],
        &["compare", &set, "x", "--disk", "vda"],
        &["convert", &set, "--to", "new"],
        &["--help"],
        &["verify", "--help"],
    ];
    for args in cases {
        let mut command = Command::new(VMSTREAM);
        command.args(args).current_dir(bed.out.path()).stdout(full());
        let done = command.output().unwrap();
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains("No space left on device"), "{args:?}: {said}");
    }
    // Nor is it the end when nobody can be warned.
    let closed = Command::new(VMSTREAM).args(["info", "/nowhere"]).stderr(full()).status().unwrap();
    assert_eq!(closed.code(), Some(2));
    // What was found is said all the same.
    std::fs::remove_file(bed.set.path().join("vda.full.data")).unwrap();
    let damaged = Command::new(VMSTREAM).args(["verify", &set]).stdout(full()).output().unwrap();
    assert_eq!(damaged.status.code(), Some(1), "{}", text(&damaged.stderr));
    // A reader that has seen enough is no error.
    let bed = Bed::new();
    let shell = format!("{VMSTREAM} info {} | true; exit ${{PIPESTATUS[0]}}", bed.set());
    assert_eq!(Command::new("bash").args(["-c", &shell]).status().unwrap().code(), Some(0));
}
