//! One domain and where its backups go: what every room is told.
//!
//! Must not live here: how that was found (`session`), anything that is done to it.

use std::path::{Path, PathBuf};

use vmhost::libvirt::Domain;
use vmplan::rotation::Placement;
use vmplan::{OfflineFacts, UnseenChange};

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
    /// What was seen of the domain before this run started it.
    pub while_off: Option<WhileOff>,
}

/// What its images tell of a domain that is shut off, and not any more once QEMU has opened them.
#[derive(Clone)]
pub struct WhileOff {
    /// The disks that have a new image. QEMU drops from a header what names bitmaps that count no more.
    pub replaced: Vec<String>,
    /// Whether the newest point is of them as they are.
    pub offline: OfflineFacts,
}

impl VmTarget {
    pub(crate) fn backup_path(&self) -> &Path {
        self.vm_dir.parent().unwrap_or(&self.vm_dir)
    }
}
