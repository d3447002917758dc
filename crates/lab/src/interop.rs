//! The independent writer and reader of the format: `virtnbdbackup` and `virtnbdrestore`, oldest and newest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Once;
use std::time::{Duration, Instant, SystemTime};

use super::command::{must, output_of, text};
use super::place::{repository, target};
use super::vm::to_raw;
use super::{Lab, Shadow, Vm};

/// How often a restore may lose its server's socket before that is a failure.
const RESTORE_TRIES: u32 = 3;

/// Which release of the tools to run. Their readers differ, so tests use both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The one this machine's distribution packages.
    Distribution,
    /// The one of Debian 13 (2.28), unpacked by `scripts/lab-virtnbdbackup.sh`.
    Trixie,
    /// The newest of Debian sid, unpacked the same way.
    Sid,
}

impl Version {
    /// The oldest and the newest, for loops.
    pub const ALL: [Self; 2] = [Self::Distribution, Self::Sid];

    fn tool(self, name: &str) -> Command {
        static UNPACKED: [Once; 2] = [Once::new(), Once::new()];
        let (suite, unpacked) = match self {
            Self::Distribution => return Command::new(name),
            Self::Trixie => ("trixie", &UNPACKED[0]),
            Self::Sid => ("sid", &UNPACKED[1]),
        };
        unpacked.call_once(|| {
            must(Command::new(repository().join("scripts/lab-virtnbdbackup.sh")).arg(suite));
        });
        Command::new(target().join("lab").join(format!("{name}-{suite}")))
    }
}

impl Lab {
    /// Backs a running VM up with `virtnbdbackup`: `level` is `full`, `inc`, `diff`, `copy` or `auto`.
    pub fn virtnbdbackup(
        &self,
        version: Version,
        vm: &Vm,
        level: &str,
        set: &Path,
        extra: &[&str],
    ) -> Output {
        let mut command = version.tool("virtnbdbackup");
        command.args(["--noprogress", "--level", level, "--domain", vm.name(), "--output"]).arg(set);
        // Not /var/tmp: a scratch file left behind goes with the lab.
        command.arg("--scratchdir").arg(self.path()).args(extra);
        let output = output_of(&mut command);
        // It ends before its job is gone, which takes a while on a busy machine.
        let began = Instant::now();
        while vm.backup_job().is_some() {
            if began.elapsed() > Duration::from_secs(30) {
                assert!(!output.status.success(), "the backup job does not end: {}", text(&output));
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        output
    }

    /// Restores a backup set with `virtnbdrestore`, the last point or the named one, into a new directory.
    ///
    /// Returns each restored disk as a raw file, by the name of the image it was backed up from without its
    /// extension: for disks of the lab that is the disk target.
    ///
    /// # Errors
    /// The tool's whole output.
    pub fn virtnbdrestore(
        &self,
        version: Version,
        set: &Path,
        until: Option<&str>,
    ) -> Result<BTreeMap<String, PathBuf>, String> {
        self.virtnbdrestore_with(version, set, until, &[])
    }

    /// The same with more arguments.
    ///
    /// # Errors
    /// The tool's whole output.
    pub fn virtnbdrestore_with(
        &self,
        version: Version,
        set: &Path,
        until: Option<&str>,
        extra: &[&str],
    ) -> Result<BTreeMap<String, PathBuf>, String> {
        let mut tries = 0;
        loop {
            let directory = self.new_dir(&format!("restored-{}", self.unused_number()));
            let mut command = version.tool("virtnbdrestore");
            command.args(["--noprogress", "--input"]).arg(set).arg("--output").arg(&directory);
            command.arg("--socketfile").arg(directory.join("nbd.sock"));
            command.arg("--logfile").arg(directory.join("restore.log"));
            command.args(until.map(|point| ["--until", point]).into_iter().flatten()).args(extra);
            let output = output_of(&mut command);
            if output.status.success() {
                return Ok(raw_disks(&directory));
            }
            // One disk's server removes its socket when it ends, late on a busy machine: by then it may be the one
            // that the next disk's server has just made.
            let said = text(&output);
            tries += 1;
            let socket_lost = [
                "Timeout during connection to NBD server",
                "nbd_connect_uri: connect: No such file or directory",
            ];
            if tries == RESTORE_TRIES || !socket_lost.iter().any(|words| said.contains(words)) {
                return Err(said);
            }
        }
    }

    /// Restores a set and compares each disk with its shadow.
    pub fn assert_virtnbdrestore(
        &self,
        version: Version,
        set: &Path,
        until: Option<&str>,
        shadows: &[(&str, &Shadow)],
    ) {
        let restored = self.virtnbdrestore(version, set, until);
        let restored =
            restored.unwrap_or_else(|said| panic!("{version:?} cannot restore {}: {said}", set.display()));
        for (target, shadow) in shadows {
            let raw = restored
                .get(*target)
                .unwrap_or_else(|| panic!("{version:?} restored no {target}: {restored:?}"));
            if let Err(difference) = shadow.equals(raw) {
                panic!(
                    "{version:?} restored {target} of {} until {until:?} wrongly: {difference}",
                    set.display()
                );
            }
        }
    }
}

/// Waits until what is written now is newer than each file of a set by a whole second: old readers order by time, and points of
/// ours, which lie whole seconds apart, are ahead of the clock when several are taken within one. Real runs are hours apart.
pub fn wait_for_the_clock(set: &Path) {
    let times = set.read_dir().expect("a set can be listed").flatten();
    let times = times.map(|entry| entry.metadata().and_then(|about| about.modified()).expect("a time"));
    let next = times.max().map(|newest| newest + Duration::from_secs(1));
    while next.is_some_and(|next| SystemTime::now() < next) {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits for the server that the tool wrote an image through: it ends by itself, a moment after the tool.
fn wait_until_closed(image: &Path) {
    let began = Instant::now();
    while !output_of(Command::new("qemu-img").arg("info").arg(image)).status.success() {
        assert!(began.elapsed() < Duration::from_secs(20), "{} stays in use", image.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn raw_disks(directory: &Path) -> BTreeMap<String, PathBuf> {
    let entries = directory.read_dir().expect("the restored directory can be listed");
    let mut disks = BTreeMap::new();
    for image in entries.flatten().map(|entry| entry.path()) {
        let is_disk = image.extension().is_some_and(|extension| extension == "qcow2" || extension == "raw");
        if let (true, Some(name)) = (is_disk, image.file_stem().and_then(|stem| stem.to_str())) {
            let raw = image.with_extension("plain");
            wait_until_closed(&image);
            to_raw(&image, &raw);
            disks.insert(name.to_owned(), raw);
        }
    }
    disks
}
