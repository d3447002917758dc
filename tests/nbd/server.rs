//! A `qemu-nbd` of our own for one test, with its image in a temporary directory.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use vmhost::nbd::Export;

pub(crate) const MIB: usize = 1 << 20;

/// Serves one image read-only as `vda`; killed on drop.
pub(crate) struct Server {
    pub(crate) export: Export,
    child: Child,
    dir: TempDir,
}

impl Server {
    /// Serves a raw file with this content.
    pub(crate) fn raw(content: &[u8]) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("image"), content).unwrap();
        Self::start(dir, &["-f", "raw"])
    }

    /// Serves a qcow2 image of this size after running the `qemu-io` commands on it; a command that begins
    /// with `bitmap ` adds a bitmap of that name instead.
    pub(crate) fn qcow2(size: usize, commands: &[&str], options: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let image = dir.path().join("image");
        run(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&image).arg(size.to_string()));
        for command in commands {
            match command.strip_prefix("bitmap ") {
                Some(name) => run(Command::new("qemu-img").args(["bitmap", "--add"]).arg(&image).arg(name)),
                None => run(Command::new("qemu-io").args(["-f", "qcow2", "-c", command]).arg(&image)),
            }
        }
        Self::start(dir, &[&["-f", "qcow2"], options].concat())
    }

    fn start(dir: TempDir, options: &[&str]) -> Self {
        let socket = dir.path().join("sock");
        let mut command = Command::new("qemu-nbd");
        command.args(["-r", "-t", "--shared", "32", "-x", "vda", "-k"]).arg(&socket).args(options);
        // It complains there of every client that leaves in the middle.
        let log = File::create(dir.path().join("log")).unwrap();
        let child = command.arg(dir.path().join("image")).stderr(log).spawn().expect("qemu-nbd is installed");
        let server = Self { export: Export { socket, name: "vda".to_owned() }, child, dir };
        server.wait_for_socket();
        server
    }

    fn wait_for_socket(&self) {
        let begun = Instant::now();
        while UnixStream::connect(&self.export.socket).is_err() {
            let said = || std::fs::read_to_string(self.dir.path().join("log")).unwrap();
            assert!(begun.elapsed() < Duration::from_secs(20), "qemu-nbd does not listen: {}", said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets it answer nothing until `resume`.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(command: &mut Command) {
    let said = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(said.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said.stderr));
}

/// Bytes that tell their own position: each 8-byte word differs from every other.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    let words = (0..len.div_ceil(8) as u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    let mut bytes: Vec<u8> = words.flatten().collect();
    bytes.truncate(len);
    bytes
}

/// Resident memory of this process in KiB.
pub(crate) fn resident_kib() -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc/self/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
