//! What a backup does with each disk of a domain: the same value for plans, checks, summaries and the job itself.

use std::fmt;

use serde::{Serialize, Serializer};
use vmstream::chain::CheckpointName;

use crate::engine::domain::image_format::ImageFormat;
use crate::engine::domain::skip_reason::SkipReason;
use crate::engine::image::readable_disk::ReadableDisk;
use crate::engine::look::observe::Observed;
use vmplan::{Decision, ImageFacts};
use vmreport::{DiskOutcome, DiskResult};
use vmstream::sidecar::LeftOut;

/// What becomes of one disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// A stream of what changed since this checkpoint.
    Changes(CheckpointName),
    /// A stream of the whole disk.
    Whole,
    /// The same, in a chain that goes on: the disk was added to the domain.
    Added,
    /// The same: its image is a new one.
    Replaced,
    /// A stream of the whole disk at each point: its image keeps no bitmaps.
    Unmarked,
    /// A raw image beside the streams.
    RawImage,
    /// A copy of the disk, of a domain that is shut off or of which no disk keeps bitmaps.
    Copy {
        /// It is shut off.
        off: bool,
    },
    Skipped(SkipReason),
}

/// What is taken, or why nothing is.
impl fmt::Display for Treatment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changes(since) => write!(f, "changes since {since}"),
            Self::Whole => write!(f, "the whole disk"),
            Self::Added => write!(f, "the whole disk: new in this chain"),
            Self::Replaced => write!(f, "the whole disk: its image was replaced"),
            Self::RawImage => write!(f, "the whole disk as a raw image"),
            Self::Unmarked => write!(
                f,
                "the whole disk: a qcow2 image of version 2 (compat 0.10) keeps no dirty bitmaps; while the VM is off, qemu-img \
                 amend -o compat=1.1 changes that"
            ),
            Self::Copy { off: true } => write!(f, "the whole disk: the VM is shut off"),
            Self::Copy { off: false } => write!(f, "the whole disk: no disk of the VM keeps dirty bitmaps"),
            Self::Skipped(reason) => write!(f, "{reason}"),
        }
    }
}

/// What somebody who relies on the backup of a disk must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caveat {
    /// `<shareable/>`: a job of this domain's QEMU does not see what others write.
    Shareable,
    /// The image is encrypted; QEMU hands out what the guest sees.
    Encrypted,
}

impl fmt::Display for Caveat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shareable => {
                "shared with other VMs: what those write while it is read may be in the backup in part"
            }
            Self::Encrypted => "its image is encrypted, the backup is not",
        })
    }
}

/// One disk of a domain in one backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskPlan {
    pub target: String,
    /// What becomes of it.
    pub treatment: Treatment,
    /// What to know about that.
    pub caveats: Vec<Caveat>,
}

impl DiskPlan {
    /// Why it is left out, if it is.
    pub fn skipped(&self) -> Option<&SkipReason> {
        match &self.treatment {
            Treatment::Skipped(reason) => Some(reason),
            _ => None,
        }
    }

    /// The same for whoever is told.
    pub fn outcome(&self) -> DiskOutcome {
        DiskOutcome {
            disk: self.target.clone(),
            result: match &self.treatment {
                Treatment::Changes(_)
                | Treatment::Whole
                | Treatment::Added
                | Treatment::Replaced
                | Treatment::Unmarked => DiskResult::BackedUp,
                Treatment::RawImage | Treatment::Copy { .. } => DiskResult::Copied,
                Treatment::Skipped(_) => DiskResult::Skipped,
            },
            detail: self.treatment.to_string(),
            caveats: self.caveats.iter().map(ToString::to_string).collect(),
            gap: self.skipped().is_some_and(SkipReason::is_gap),
        }
    }
}

impl fmt::Display for DiskPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.outcome().fmt(f)
    }
}

impl Serialize for DiskPlan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.outcome().serialize(serializer)
    }
}

/// The disks that are left out, as the files of a point tell it.
pub(crate) fn left_out(every_disk: &[DiskPlan]) -> Vec<LeftOut> {
    let left_out = |disk: &DiskPlan| {
        let reason = disk.skipped()?.to_string();
        Some(LeftOut { disk: disk.target.clone(), reason })
    };
    every_disk.iter().filter_map(left_out).collect()
}

/// Every disk of the domain, by target: `vda` before `vdb` before `vdaa`.
pub(crate) fn plan_disks(observed: &Observed, decision: &Decision, raw_disks: bool) -> Vec<DiskPlan> {
    let readable = observed.disks.iter().map(|disk| DiskPlan {
        target: disk.target.clone(),
        treatment: treatment(disk, observed, decision, raw_disks),
        caveats: caveats_of(disk),
    });
    let skipped = observed.skipped.iter().map(|skipped| DiskPlan {
        target: skipped.target.clone(),
        treatment: Treatment::Skipped(skipped.reason.clone()),
        caveats: vec![],
    });
    let mut all: Vec<_> = readable.chain(skipped).collect();
    for disk in &mut all {
        if disk.skipped().is_some() {
            disk.caveats.clear();
        }
    }
    all.sort_by(|a, b| (a.target.len(), &a.target).cmp(&(b.target.len(), &b.target)));
    all
}

fn caveats_of(disk: &ReadableDisk) -> Vec<Caveat> {
    let shareable = disk.shareable.then_some(Caveat::Shareable);
    shareable.into_iter().chain(disk.secret.as_ref().map(|_| Caveat::Encrypted)).collect()
}

fn treatment(disk: &ReadableDisk, observed: &Observed, decision: &Decision, raw_disks: bool) -> Treatment {
    let is_raw = disk.format == ImageFormat::Raw;
    let incremental = matches!(decision, Decision::Incremental { .. });
    if is_raw && (incremental || !raw_disks) {
        return Treatment::Skipped(SkipReason::Raw { incremental });
    }
    match decision {
        Decision::Skip => Treatment::Skipped(SkipReason::Unchanged),
        Decision::Refuse(_) => Treatment::Skipped(SkipReason::Refused),
        Decision::Copy { .. } => Treatment::Copy { off: !observed.seen.active },
        Decision::Full { .. } if is_raw => Treatment::RawImage,
        Decision::Full { .. } | Decision::Incremental { .. } if !disk.keeps_bitmaps() => Treatment::Unmarked,
        Decision::Full { .. } => Treatment::Whole,
        Decision::Incremental { parent, .. } => {
            let seen = observed.seen.disks.iter().find(|seen| seen.target == disk.target);
            let has_bitmap = seen.is_some_and(|seen| seen.has_bitmap);
            match seen.map(|seen| &seen.image) {
                _ if has_bitmap => Treatment::Changes(*parent),
                Some(ImageFacts::Replaced) => Treatment::Replaced,
                _ => Treatment::Added,
            }
        }
    }
}
