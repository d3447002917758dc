//! The facts that a decision rests on.

use std::time::Duration;

use jiff::civil::Date;
use vmstream::chain::CheckpointName;

use super::plan::UnseenChange;
use super::rotation::Placement;
use super::unnoted_copy::UnnotedCopy;
use crate::{AutoRecovery, OfflineMode};

/// Where a checkpoint that libvirt knows comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The chain in the current folder: same name, same creation time.
    Chain(CheckpointName),
    /// An older chain of this domain, in an archive or another period.
    OlderChain,
    /// Nobody we know.
    Foreign,
}

/// A checkpoint that libvirt knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointFacts {
    pub name: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// What the current folder holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainFacts {
    /// Checkpoints of the chain, oldest first.
    pub points: Vec<CheckpointName>,
    /// There are files of a chain or copy, so they are in the way of a new full.
    pub has_files: bool,
    /// It is a copy of a domain that was shut off.
    pub is_copy: bool,
    /// What makes it impossible to go on with, if anything.
    pub broken: Option<Broken>,
    /// The day of its first point.
    pub began: Option<Date>,
    /// Its checkpoints that libvirt has and whose XML its folder has lost.
    pub lost_xml: Vec<String>,
    /// It belongs to a VM of the same name with this UUID, which is not the domain's.
    pub other_vm: Option<String>,
    /// Its streams are zstd and the new ones are not to be, or the reverse.
    pub has_other_suffix: bool,
}

/// What makes it impossible to go on with a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Its list of points is missing, damaged, or has a gap.
    List(String),
    /// A stream of it is missing or damaged.
    Data(String),
}

/// A disk that is to be backed up as a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFacts {
    pub target: String,
    /// Bytes of the disk now.
    pub size: u64,
    /// Its image can keep dirty bitmaps. Of one that cannot each point has the whole disk.
    pub keeps_bitmaps: bool,
    /// The last checkpoint has a bitmap for it.
    pub has_bitmap: bool,
    /// Bytes of the disk at its newest stream in the chain.
    pub size_in_chain: Option<u64>,
    /// The chain has it as a raw image, from before it was converted.
    pub raw_in_chain: bool,
    /// Whose its image is, as that says itself.
    pub image: ImageFacts,
}

/// Whose the image of a disk is that had a bitmap of the last checkpoint's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageFacts {
    /// The one that the chain went on with, as far as anybody can tell.
    Own,
    /// A new one, with no trace of the chain, while all others are the chain's: it was replaced.
    Replaced,
    /// That of this other disk.
    OfDisk(String),
    /// Another than the chain went on with.
    PutBack,
}

/// What the images of a domain that is shut off tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfflineFacts {
    /// As they were when the folder's newest point was taken.
    Unchanged,
    /// Changed, or nothing to compare with.
    Changed,
    /// There is a copy, and no note of what they were like then: another program made it.
    Unnoted(UnnotedCopy),
}

/// The settings that a decision follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Restore points of an accumulating chain from which on a warning is due.
    pub warn_depth: u32,
    /// Restore points at which an accumulating chain ends.
    pub hard_limit: u32,
    /// Day of the month on which weekly and monthly chains begin anew.
    pub full_day: u32,
    /// What to do when checkpoints and chain do not fit any more.
    pub recovery: AutoRecovery,
    /// A domain that is shut off and unchanged is skipped.
    pub skip_unchanged: bool,
    /// An image of a domain that is shut off counts as changed for so long after it was written.
    pub offline_settle: Duration,
    /// What is taken of a domain that is shut off.
    pub offline_mode: OfflineMode,
}

/// Everything a decision rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The period and its folder.
    pub placement: Placement,
    /// The settings.
    pub rules: Rules,
    /// What the last try of this run failed with, if a full can cure that.
    pub failed: Option<String>,
    /// What the increment of this run found, so that it was given up.
    pub unseen_change: Option<UnseenChange>,
    /// What earlier tries and runs found of the chain in the folder, whose fulls have failed.
    pub noted_changes: Vec<UnseenChange>,
    /// A QEMU process has the disks open.
    pub active: bool,
    /// The current folder.
    pub chain: ChainFacts,
    /// What libvirt knows.
    pub checkpoints: Vec<CheckpointFacts>,
    /// Checkpoints of the chain, oldest first, that libvirt has lost although their bitmaps live.
    pub redefinable: Vec<String>,
    /// Why the last checkpoint's bitmaps cannot be used; `None` when they are sound (or nobody asked).
    pub bitmap_fault: Option<String>,
    /// Some disk is to be copied, as a stream or as a raw image.
    pub copies_disks: bool,
    /// The disks that become streams. None where all that is to be copied is raw.
    pub disks: Vec<DiskFacts>,
    /// For a domain that is shut off, or was until it was started for this backup.
    pub offline: OfflineFacts,
    /// Why a domain that is shut off is not to be started for its backup; `None` when nothing speaks against it.
    pub obstacle: Option<String>,
}

impl Facts {
    /// Targets of the disks that have a new image.
    pub fn replaced(&self) -> impl Iterator<Item = &str> {
        let replaced = self.disks.iter().filter(|disk| disk.image == ImageFacts::Replaced);
        replaced.map(|disk| disk.target.as_str())
    }
}
