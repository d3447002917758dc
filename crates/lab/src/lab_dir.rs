//! One test's part of the lab: its directory, its VMs and their removal.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::command::{output_of, virsh};
use super::daemon;
use super::domain_xml::{DiskSpec, VmSpec};
use super::prefix::{Prefix, is_stale};
use super::vm::Vm;

/// Owns every domain and file of one test. Dropping it removes them.
///
/// VMs it made do not borrow it, so keep it alive as long as they are used: `let lab = …` before `let vm = …`.
#[derive(Debug)]
pub struct Lab {
    prefix: Prefix,
    directory: PathBuf,
    numbers: AtomicU32,
    daemon: daemon::Use,
}

impl Lab {
    /// Starts what is needed, removes what dead test processes left, and makes a directory.
    ///
    /// The directory is where QEMU's user can reach images: `LAB_DIR`, or libvirt's own images folder.
    pub fn new(test_name: &str) -> Self {
        Self::with(test_name, daemon::Use::together)
    }

    /// [`Lab::new`] with a configuration that fits small disks and quick runs; see [`Lab::configure`].
    pub fn configured(test_name: &str) -> Self {
        let lab = Self::new(test_name);
        lab.configure(&[]);
        lab
    }

    /// [`Lab::new`] for a test that stops, hangs or restarts the libvirt daemon. Waits for every other lab, and keeps others
    /// waiting, so a test may have one such lab and no second.
    pub fn alone(test_name: &str) -> Self {
        Self::with(test_name, daemon::Use::alone)
    }

    fn with(test_name: &str, use_daemon: fn() -> daemon::Use) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "the lab needs root: run the tests as root or with sudo"
        );
        let daemon = use_daemon();
        daemon::start();
        daemon::check(&format!("before the test {test_name}"));
        let base = PathBuf::from(std::env::var_os("LAB_DIR").unwrap_or("/var/lib/libvirt/images".into()));
        remove_stale(&base);
        let prefix = Prefix::next();
        let plain: String =
            test_name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let directory = base.join(format!("{}{plain}", prefix.as_str()));
        fs::create_dir(&directory)
            .unwrap_or_else(|error| panic!("Cannot create {}: {error}", directory.display()));
        Self { prefix, directory, numbers: AtomicU32::new(1), daemon }
    }

    /// The test's own directory.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// What begins the name of each domain of this test.
    pub fn prefix(&self) -> &str {
        self.prefix.as_str()
    }

    /// A new empty directory inside [`Lab::path`].
    pub fn new_dir(&self, name: &str) -> PathBuf {
        let directory = self.directory.join(name);
        fs::create_dir_all(&directory)
            .unwrap_or_else(|error| panic!("Cannot create {}: {error}", directory.display()));
        directory
    }

    /// A number this lab gives once.
    pub(super) fn unused_number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes a VM with these disks and starts it without letting its processor run.
    pub fn paused_vm(&self, name: &str, disks: &[DiskSpec]) -> Vm {
        let spec = disks.iter().cloned().fold(VmSpec::new(name), VmSpec::disk);
        let vm = self.define(&spec);
        vm.start_paused();
        vm
    }

    /// Makes a VM with these disks and starts it. It has nothing to boot and runs its firmware, which writes nothing.
    pub fn running_vm(&self, name: &str, disks: &[DiskSpec]) -> Vm {
        let vm = self.paused_vm(name, disks);
        vm.resume();
        vm
    }

    /// Makes a VM and leaves it switched off.
    pub fn define(&self, spec: &VmSpec) -> Vm {
        // A dot that is to begin the name does.
        let (dot, rest) = if spec.name.starts_with('.') { spec.name.split_at(1) } else { ("", &*spec.name) };
        let domain = format!("{dot}{}{rest}", self.prefix.as_str());
        let plain: String =
            spec.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let mut directory = self.directory.join(format!("vm-{plain}"));
        if directory.exists() {
            directory = self.directory.join(format!("vm-{plain}-{}", self.unused_number()));
        }
        Vm::define(&domain, &directory, spec)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let was_alive = daemon::check(&format!("at the end of the test in {}", self.directory.display()));
        for domain in domains() {
            if domain.trim_start_matches('.').starts_with(self.prefix.as_str()) {
                remove_domain(&domain);
            }
        }
        if std::thread::panicking() && std::env::var_os("LAB_KEEP").is_some_and(|value| value == "1") {
            eprintln!("LAB_KEEP: files are kept in {}", self.directory.display());
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("Cannot remove {}: {error}", self.directory.display());
        }
        assert!(
            was_alive || !self.daemon.is_alone || std::thread::panicking(),
            "the test left the libvirt daemon dead"
        );
    }
}

/// The names of all domains of the host, the lab's or not.
pub fn domains() -> Vec<String> {
    let list = output_of(&mut virsh(["list", "--all", "--name"]));
    String::from_utf8_lossy(&list.stdout).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Removes what test processes that no longer run have left.
fn remove_stale(base: &Path) {
    for domain in domains().iter().filter(|domain| is_stale(domain)) {
        remove_domain(domain);
    }
    let entries =
        fs::read_dir(base).unwrap_or_else(|error| panic!("Cannot list {}: {error}", base.display()));
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(is_stale) {
            unmount_below(&entry.path());
            // Another test process may be removing it at the same time.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A file system whose test died is still mounted, and one that was served by the test answers nothing any more.
fn unmount_below(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for point in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        if Path::new(point).starts_with(dir) {
            output_of(std::process::Command::new("umount").arg("--lazy").arg(point));
        }
    }
}

/// Removes a domain with all libvirt keeps about it. Best effort: it may be half gone already.
fn remove_domain(domain: &str) {
    output_of(&mut virsh(["destroy", domain]));
    let metadata = ["--checkpoints-metadata", "--snapshots-metadata", "--managed-save"];
    output_of(virsh(["undefine", domain, "--nvram", "--tpm"]).args(metadata));
    let logs = Path::new("/var/log/libvirt/qemu");
    for entry in fs::read_dir(logs).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(&format!("{domain}.log"))) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
