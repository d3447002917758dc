//! What became of the disks of a VM, and how busy the stages of a copy were.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A stage that was busy for less than this can have held up nobody.
const BUSY_PERCENT: u64 = 25;

/// One disk that was copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskReport {
    pub target: String,
    /// File in the chain directory.
    pub file: String,
    pub file_bytes: u64,
    /// Bytes of the disk that it holds.
    pub data_bytes: u64,
    /// How busy each stage of the copy was.
    pub stages: Stages,
}

/// What became of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskResult {
    /// As a stream.
    BackedUp,
    /// As a raw image, or while its VM was shut off.
    Copied,
    Skipped,
}

/// One disk of a VM, copied or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskOutcome {
    pub disk: String,
    /// What became of it.
    pub result: DiskResult,
    /// What was taken, or why nothing was.
    pub detail: String,
    /// What somebody who relies on the backup must know.
    pub caveats: Vec<String>,
    /// It holds something of the guest's that no backup has, and nobody asked for that.
    pub gap: bool,
}

impl DiskResult {
    /// `backed up`, `copied` or `skipped`.
    pub fn word(self) -> &'static str {
        match self {
            Self::BackedUp => "backed up",
            Self::Copied => "copied",
            Self::Skipped => "skipped",
        }
    }
}

impl DiskOutcome {
    /// The detail and the caveats, for people.
    pub fn remark(&self) -> String {
        let caveats = self.caveats.iter().map(|caveat| format!("; {caveat}"));
        std::iter::once(self.detail.clone()).chain(caveats).collect()
    }
}

/// `vda: backed up (the whole disk)`, `sda: skipped: empty drive`.
impl fmt::Display for DiskOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (disk, word, remark) = (&self.disk, self.result.word(), self.remark());
        match self.result {
            DiskResult::Skipped => write!(f, "{disk}: {word}: {remark}"),
            DiskResult::BackedUp | DiskResult::Copied => write!(f, "{disk}: {word} ({remark})"),
        }
    }
}

/// A stage of the copy of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The guest's disk, as QEMU serves it.
    Reads,
    /// The compressors, which all disks of a run share.
    Compression,
    /// The file in the target.
    Writing,
}

/// How busy each stage was while a disk was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stages {
    /// The busiest one: the others waited for it.
    pub bottleneck: Stage,
    /// Of the connections' time: that in which they waited for QEMU.
    pub reads_percent: u64,
    /// Of the compressors' time: that in which they worked, for this disk or others.
    pub compression_percent: u64,
    /// Of the writer's time: that in which it wrote, and was held back by a bandwidth limit.
    pub writing_percent: u64,
    /// How long the copy took.
    #[serde(rename = "copy_ms", with = "super::backup::millis")]
    pub took: Duration,
}

impl Stages {
    /// The busiest of them is the bottleneck.
    pub fn new(reads_percent: u64, compression_percent: u64, writing_percent: u64, took: Duration) -> Self {
        let stages = [
            (Stage::Reads, reads_percent),
            (Stage::Compression, compression_percent),
            (Stage::Writing, writing_percent),
        ];
        let busiest = stages.into_iter().max_by_key(|(_, percent)| *percent);
        let bottleneck = busiest.map_or(Stage::Reads, |(stage, _)| stage);
        Self { bottleneck, reads_percent, compression_percent, writing_percent, took }
    }
}

impl fmt::Display for Stages {
    /// `bottleneck: compression (guest reads 41 %, compression 97 %, writing 30 % busy)`. Where so little was copied that
    /// no stage was busy, none held up the others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reads_percent, compression_percent, writing_percent, .. } = self;
        let most = *reads_percent.max(compression_percent).max(writing_percent);
        let bottleneck = match self.bottleneck {
            _ if most < BUSY_PERCENT => "none",
            Stage::Reads => "guest reads",
            Stage::Compression => "compression",
            Stage::Writing => "writing",
        };
        write!(
            f,
            "bottleneck: {bottleneck} (guest reads {reads_percent} %, compression {compression_percent} %, writing \
             {writing_percent} % busy)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_stage_is_the_bottleneck() {
        let second = Duration::from_secs(1);
        for (percents, want) in
            [([90, 40, 30], Stage::Reads), ([40, 90, 30], Stage::Compression), ([40, 30, 90], Stage::Writing)]
        {
            let [reads, compression, writing] = percents;
            assert_eq!(Stages::new(reads, compression, writing, second).bottleneck, want);
        }
        assert_eq!(
            Stages::new(41, 97, 30, second).to_string(),
            "bottleneck: compression (guest reads 41 %, compression 97 %, writing 30 % busy)"
        );
        let idle = Stages::new(1, 0, 14, second).to_string();
        assert!(idle.starts_with("bottleneck: none (guest reads 1 %"), "{idle}");
    }
}
