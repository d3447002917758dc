//! What a verification found, as values that a program and a person can both read.

use super::finding::{Finding, Level};
use super::options::Depth;
use super::stream_report::StreamReport;
use crate::chain::{DiskTarget, PointId};
use crate::sidecar::Checked;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The answer in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No damage, and every restore point is proven (a quick look proves none, and asks for none).
    Good,
    /// Something is damaged or missing.
    Damaged,
    /// Something could not be read, or nothing proves the content of some restore point.
    CannotTell,
}

/// What one disk at one point is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskVerdict {
    /// Every byte it needs is proven.
    Good,
    /// Nothing wrong was found, but these files prove nothing: no checksum, no LZ4.
    Unproven {
        /// The files.
        files: Vec<PathBuf>,
    },
    /// The system could not read these files.
    Unknown {
        /// The files.
        files: Vec<PathBuf>,
    },
    /// It needs these damaged files.
    Lost {
        /// The files; empty when a stream is missing.
        files: Vec<PathBuf>,
        /// The point whose stream is missing.
        missing: Option<PointId>,
    },
}

impl DiskVerdict {
    /// For programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Unproven { .. } => "unproven",
            Self::Unknown { .. } => "unknown",
            Self::Lost { .. } => "lost",
        }
    }
}

impl Verdict {
    /// For programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Damaged => "damaged",
            Self::CannotTell => "cannot-tell",
        }
    }
}

/// What one restore point is worth, in one word. The worst disk decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// All that it holds can be restored, and its content is proven; at a quick look, nothing says otherwise.
    Proven,
    /// Nothing wrong was found, and nothing proves all of it.
    Unproven,
    /// Some of it could not be read.
    Unknown,
    /// Some disk of it cannot be restored as it was.
    Damaged,
}

/// What one restore point is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointVerdict {
    /// The point.
    pub id: PointId,
    /// Each of its disks.
    pub disks: BTreeMap<DiskTarget, DiskVerdict>,
    /// What its definition is worth, of a point that has no disk on purpose.
    pub definition: Option<Worth>,
}

impl PointVerdict {
    /// The answer in one word. A point that has lost its disks is of no use to anybody.
    pub fn worth(&self) -> Worth {
        let of_disk = |disk: &DiskVerdict| match disk {
            DiskVerdict::Good => Worth::Proven,
            DiskVerdict::Unproven { .. } => Worth::Unproven,
            DiskVerdict::Unknown { .. } => Worth::Unknown,
            DiskVerdict::Lost { .. } => Worth::Damaged,
        };
        self.disks.values().map(of_disk).chain(self.definition).max().unwrap_or(Worth::Damaged)
    }

    /// True when some disk of it cannot be restored.
    pub fn is_lost(&self) -> bool {
        self.worth() == Worth::Damaged
    }

    /// True when all its disks can be restored as far as anything here can tell.
    pub fn is_good(&self) -> bool {
        self.worth() <= Worth::Unproven
    }
}

/// All that was found in one folder.
#[derive(Debug)]
pub struct SetReport {
    /// The folder.
    pub dir: PathBuf,
    /// The domain, where known.
    pub domain: Option<String>,
    /// How much was looked at.
    pub depth: Depth,
    /// Each stream that was looked at.
    pub streams: Vec<StreamReport>,
    /// Raw images that their sidecars prove.
    pub proven_images: usize,
    /// Each restore point, oldest first.
    pub points: Vec<PointVerdict>,
    /// With [`Depth::Deep`], the digest of each disk at each point that can be restored.
    pub digests: Vec<DiskDigest>,
    /// Worst first.
    pub findings: Vec<Finding>,
}

/// What was found in one file that was looked at alone.
#[derive(Debug)]
pub struct FileReport {
    /// The file.
    pub path: PathBuf,
    /// How much was looked at.
    pub depth: Depth,
    /// What its stream is like; `None` for a raw image.
    pub stream: Option<StreamReport>,
    /// Worst first.
    pub findings: Vec<Finding>,
}

/// The content of a disk at a point, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskDigest {
    /// The disk.
    pub disk: DiskTarget,
    /// The point.
    pub point: PointId,
    /// Bytes of the disk.
    pub size: u64,
    /// BLAKE3 over one for each MiB of the disk, that over the BLAKE3 of each of its 64 KiB. In hex. The last parts
    /// may be shorter.
    ///
    /// So that an increment costs what it changed, and all cores can work on one disk.
    pub digest: String,
    /// How it compares with the granules of the sidecars; `None` where they say nothing of it.
    pub checked: Option<Checked>,
}

impl FileReport {
    /// The answer in one word.
    pub fn verdict(&self) -> Verdict {
        let proven = match &self.stream {
            _ if self.depth == Depth::Quick => true,
            Some(stream) => stream.proof.is_some(),
            // A raw image that nothing proves has a finding that says so.
            None => self.findings.is_empty(),
        };
        verdict(&self.findings, proven)
    }
}

impl SetReport {
    /// The answer in one word.
    pub fn verdict(&self) -> Verdict {
        match self.points.iter().map(PointVerdict::worth).max() {
            Some(Worth::Damaged) => Verdict::Damaged,
            worst => verdict(&self.findings, worst == Some(Worth::Proven)),
        }
    }

    /// How many restore points are worth that.
    pub fn count(&self, worth: Worth) -> usize {
        self.points.iter().filter(|point| point.worth() == worth).count()
    }
}

fn verdict(findings: &[Finding], proven: bool) -> Verdict {
    let any = |level| findings.iter().any(|finding| finding.level == level);
    if any(Level::Damage) {
        Verdict::Damaged
    } else if any(Level::Unreadable) || !proven {
        Verdict::CannotTell
    } else {
        Verdict::Good
    }
}
