//! One domain and where its backups go: what every room is told.
//!
//! Must not live here: how that was found (`session`), anything that is done to it.

use std::path::{Path, PathBuf};

use vmhost::libvirt::Domain;
use vmplan::UnseenChange;
use vmplan::rotation::Placement;

/// One domain and where its backups go.
#[derive(Clone)]
pub struct VmTarget {
    pub domain: Domain,
    /// Its folder below the backup path; also the name of its journal.
    pub folder: String,
    /// `BACKUP_PATH/VM`
    pub vm_dir: PathBuf,
    /// `BACKUP_PATH/VM/PERIOD`, or `BACKUP_PATH/VM` for a chain that does not end by date
    pub chain_dir: PathBuf,
    /// Which period that is.
    pub placement: Placement,
    /// What the last try of this run failed with, if a full can cure that.
    pub failed: Option<String>,
    /// What an increment of this run found, so that it was given up.
    pub unseen_change: Option<UnseenChange>,
    /// The disks that had a new image before this run started the domain. Their headers do not tell it any more: QEMU drops
    /// bitmaps that count no more when it opens an image.
    pub replaced_while_off: Option<Vec<String>>,
}

impl VmTarget {
    pub(crate) fn backup_path(&self) -> &Path {
        self.vm_dir.parent().unwrap_or(&self.vm_dir)
    }
}
