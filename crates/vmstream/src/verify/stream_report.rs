//! What was found in one stream, and what proves it.

use super::finding::{Finding, Level};
use std::path::PathBuf;

/// What proves a stream's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Its sidecar: every block, every byte of the file.
    Sidecar,
    /// The checksum file's sum over every byte.
    Checksum,
    /// There is no content.
    Empty,
}

/// What the checksum file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// There is none (old tools write none).
    Missing,
    /// It fits.
    Matches,
    /// It does not fit.
    Differs {
        /// What the file says.
        recorded: u32,
        /// The sum of the stream.
        found: u32,
    },
    /// It is no checksum, or could not be read.
    Unusable,
    /// The stream broke off before its sum was known.
    Unknown,
}

/// What was found in one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamReport {
    /// The file.
    pub path: PathBuf,
    /// Frames walked.
    pub frame_count: u64,
    /// Content bytes of its data frames, as far as walked.
    pub data_bytes: u64,
    /// The checksum file.
    pub checksum: Checksum,
    /// It has a sidecar of its own, in which nothing is wrong.
    pub has_sidecar: bool,
    /// What proves it; `None` when damaged, unreadable, or when nothing does.
    pub proof: Option<Proof>,
    /// What was found; at most a hundred and one that counts the rest.
    pub findings: Vec<Finding>,
}

impl StreamReport {
    /// True when a restore must not trust it.
    pub fn is_damaged(&self) -> bool {
        // An unusable checksum file is damage too, but not of the stream.
        self.findings.iter().any(|finding| finding.level == Level::Damage && finding.path == self.path)
    }

    /// True when the system could not read all of it.
    pub fn is_unreadable(&self) -> bool {
        self.findings.iter().any(|finding| finding.level == Level::Unreadable)
    }
}
