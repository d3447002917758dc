//! Scratch files that are as closed as the encrypted images whose content they take in.
//!
//! While a backup job runs, its scratch files hold what the guest overwrites. Those of a job with an encrypted image are
//! encrypted too, with a key of their own that lives for that job. libvirt would take its time to derive keys while the
//! guest is held still (two seconds for each file, and as much to make it), so the files are made before.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::SnapshotError;
use crate::engine::failure::FileError;
use crate::engine::image::key::Key;
use crate::engine::image::qemu_img;
use crate::engine::image::readable_disk::ReadableDisk;
use crate::engine::plan::role::Role;
use vmhost::libvirt::Host;

/// The daemon's secret for the scratch files of one job. Forgotten when dropped: QEMU has it by then.
pub(crate) struct ScratchSecret<'a> {
    host: &'a Host,
    usage: String,
    pub(crate) uuid: String,
}

/// What the secret of a job is called.
pub(crate) fn scratch_usage(journal_id: &str) -> String {
    format!("vmbackup-scratch-{journal_id}")
}

impl<'a> ScratchSecret<'a> {
    /// Makes all scratch files of a job, and the secret that opens those of encrypted disks. `None`, and nothing is made,
    /// when no disk is encrypted: libvirt makes the files then.
    pub(crate) fn prepare(
        host: &'a Host,
        journal_id: &str,
        disks: &[(&ReadableDisk, Role)],
        scratch: &[PathBuf],
    ) -> Result<Option<Self>, SnapshotError> {
        if disks.iter().all(|(disk, _)| disk.secret.is_none()) {
            return Ok(None);
        }
        let key = random_key()?;
        for ((disk, _), file) in disks.iter().zip(scratch) {
            let key = disk.secret.as_ref().map(|_| key.as_slice());
            qemu_img::create_scratch(file, disk.info.virtual_size, key)?;
        }
        let usage = scratch_usage(journal_id);
        let uuid = host.define_secret(&usage, &key)?;
        Ok(Some(Self { host, usage, uuid }))
    }
}

impl Drop for ScratchSecret<'_> {
    fn drop(&mut self) {
        self.host.forget_secret(&self.usage);
    }
}

/// 256 bits as text, because LUKS wants a passphrase.
fn random_key() -> Result<Key, SnapshotError> {
    let path = PathBuf::from("/dev/urandom");
    let mut random = Zeroizing::new([0_u8; 32]);
    let read = File::open(&path).and_then(|mut file| file.read_exact(random.as_mut()));
    read.map_err(|source| FileError { doing: "read", path, source })?;
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).map_or(b'0', |c| c as u8);
    Ok(Zeroizing::new(random.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()))
}
