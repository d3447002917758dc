//! `virtnbdrestore`, the independent reader: the distribution's release and the newest.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::time::{Duration, Instant};

/// Which release to run. Their readers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// The one this machine's distribution packages.
    Distribution,
    /// The newest of Debian sid, unpacked by `scripts/lab-virtnbdbackup.sh`.
    Sid,
}

impl Release {
    /// Both, for loops.
    pub(crate) const ALL: [Self; 2] = [Self::Distribution, Self::Sid];

    fn restore(self) -> Command {
        if self == Self::Distribution {
            return Command::new("virtnbdrestore");
        }
        static UNPACKED: Once = Once::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        UNPACKED.call_once(|| {
            let done = Command::new(root.join("scripts/lab-virtnbdbackup.sh")).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        });
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        Command::new(target.join("lab/virtnbdrestore-sid"))
    }

    /// Restores one disk into the new folder `out` and returns its bytes. The program's exit code alone proves nothing.
    pub(crate) fn restored(self, set: &Path, disk: &str, until: Option<&str>, out: &Path) -> Vec<u8> {
        std::fs::create_dir(out).unwrap();
        let mut command = self.restore();
        // The test driver stands in for a libvirt daemon: only the configuration would be handed to it.
        command.args(["-U", "test:///default", "-n", "-d", disk]);
        command.arg("-f").arg(out.join("nbd.sock")).arg("-L").arg(out.join("restore.log"));
        command.arg("-i").arg(set).arg("-o").arg(out);
        command.args(until.map(|point| ["--until", point]).into_iter().flatten());
        let done = command.output().unwrap();
        let said = [done.stdout, done.stderr].concat();
        assert!(done.status.success(), "{self:?}, {}: {}", set.display(), String::from_utf8_lossy(&said));
        let raw = out.join("restored.raw");
        let image = out.join(format!("{disk}.qcow2"));
        // The server that the program wrote through ends by itself, a moment after it.
        let began = Instant::now();
        while !Command::new("qemu-img")
            .args(["convert", "-f", "qcow2", "-O", "raw"])
            .args([&image, &raw])
            .output()
            .unwrap()
            .status
            .success()
        {
            assert!(began.elapsed() < Duration::from_secs(60), "{} stays in use", image.display());
            std::thread::sleep(Duration::from_millis(50));
        }
        let bytes = std::fs::read(&raw).unwrap();
        std::fs::remove_dir_all(out).unwrap();
        bytes
    }
}
