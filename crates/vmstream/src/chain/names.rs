//! Every file name of a backup set, read and built in one place.

use super::ident::{CheckpointName, DiskTarget, PointId, epoch};
use crate::durable::PARTIAL;
use crate::stream::Compression;
use std::fmt;

/// Which run wrote a stream, as its name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamKind {
    /// `DISK.full.data`
    Full,
    /// `DISK.inc.CHECKPOINT.data`
    Inc(CheckpointName),
    /// `DISK.diff.EPOCH.data`
    Diff(u64),
    /// `DISK.copy.data`: a stream for a qcow2 disk, a raw image for a raw disk.
    Copy,
}

/// How a stream's name ends. Old readers apply every `DISK*.data`: what they cannot read is called otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamSuffix {
    /// `.data`: uncompressed, or LZ4.
    Data,
    /// `.zstd`
    Zstd,
}

/// One file of a backup set, by its name alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetFile {
    /// `….data` or `….zstd`; with `.partial` while it is being written.
    Stream {
        /// Whose content.
        disk: DiskTarget,
        /// Of which run.
        kind: StreamKind,
        /// How its name ends.
        suffix: StreamSuffix,
        /// Not finished.
        partial: bool,
    },
    /// `….data.chksum` or `….zstd.chksum`
    Checksum {
        /// Of which disk's stream.
        disk: DiskTarget,
        /// Of which run.
        kind: StreamKind,
        /// How the stream's name ends.
        suffix: StreamSuffix,
    },
    /// `….idx`, beside a stream or a raw image.
    Sidecar {
        /// Of which disk's stream.
        disk: DiskTarget,
        /// Of which run.
        kind: StreamKind,
    },
    /// `DOMAIN.cpt`
    CheckpointList {
        /// The domain's name.
        domain: String,
    },
    /// `vmconfig.IDENT.xml`
    VmConfig(PointId),
    /// `DISK.IDENT.qcow.json`
    QcowInfo {
        /// Of which disk.
        disk: DiskTarget,
        /// Of which run.
        point: PointId,
    },
    /// `autostart.IDENT`
    Autostart(PointId),
    /// `osinfo.IDENT`
    OsInfo(PointId),
    /// `.identity.IDENT.json`: what libvirt knows besides the definition.
    Identity(PointId),
    /// `bitlocker.recovery.key.VOL.IDENT`
    BitlockerKey {
        /// The volume.
        volume: String,
        /// Of which run.
        point: PointId,
    },
    /// `backup.LEVEL.TIMESTAMP.log`
    Log {
        /// `full`, `inc`, `diff` or `copy`.
        level: String,
        /// As the writer put it.
        timestamp: String,
    },
    /// `BASENAME.IDENT`: loader, nvram, kernel or initrd. A copy has no IDENT there, so its files are not seen as such.
    BootFile {
        /// The name of the file on the host.
        base: String,
        /// Of which run.
        point: PointId,
    },
}

impl StreamKind {
    /// The part of a stream's name between the disk and `.data`.
    fn infix(self) -> String {
        match self {
            Self::Full => "full".to_owned(),
            Self::Inc(checkpoint) => format!("inc.{checkpoint}"),
            Self::Diff(epoch) => format!("diff.{epoch}"),
            Self::Copy => "copy".to_owned(),
        }
    }

    fn from_infix(infix: &str) -> Option<Self> {
        match infix.split_once('.') {
            None if infix == "full" => Some(Self::Full),
            None if infix == "copy" => Some(Self::Copy),
            Some(("inc", checkpoint)) => checkpoint.parse().ok().map(Self::Inc),
            Some(("diff", seconds)) => epoch(seconds).map(Self::Diff),
            _ => None,
        }
    }

    /// The finished stream's file name.
    pub fn file_name(self, disk: &DiskTarget, suffix: StreamSuffix) -> String {
        format!("{disk}.{}.{}", self.infix(), suffix.as_str())
    }

    /// The file name of the finished stream's sidecar.
    pub fn sidecar_name(self, disk: &DiskTarget) -> String {
        format!("{disk}.{}.idx", self.infix())
    }
}

impl StreamSuffix {
    /// What follows the last dot of a finished stream's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Zstd => "zstd",
        }
    }

    /// The name's end that a stream of this compression must have.
    pub fn of(compression: Option<Compression>) -> Self {
        if matches!(compression, Some(Compression::Zstd(_))) { Self::Zstd } else { Self::Data }
    }

    /// Cuts `.data` or `.zstd` off.
    fn split_off(name: &str) -> Option<(&str, Self)> {
        let (stem, last) = name.rsplit_once('.')?;
        let suffix = [Self::Data, Self::Zstd].into_iter().find(|suffix| suffix.as_str() == last)?;
        Some((stem, suffix))
    }
}

impl SetFile {
    /// Reads a name. `None` for files that are not part of the format.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(list) = name.strip_suffix(".cpt") {
            return (!list.is_empty()).then(|| Self::CheckpointList { domain: list.to_owned() });
        }
        if let Some((stem, suffix)) = StreamSuffix::split_off(name) {
            return stream(stem).map(|(disk, kind)| Self::Stream { disk, kind, suffix, partial: false });
        }
        if let Some((stem, suffix)) = name.strip_suffix(PARTIAL).and_then(StreamSuffix::split_off) {
            return stream(stem).map(|(disk, kind)| Self::Stream { disk, kind, suffix, partial: true });
        }
        if let Some((stem, suffix)) = name.strip_suffix(".chksum").and_then(StreamSuffix::split_off) {
            return stream(stem).map(|(disk, kind)| Self::Checksum { disk, kind, suffix });
        }
        if let Some(stem) = name.strip_suffix(".idx") {
            return stream(stem).map(|(disk, kind)| Self::Sidecar { disk, kind });
        }
        if let Some(stem) = name.strip_suffix(".qcow.json") {
            let (disk, ident) = stem.split_once('.')?;
            return Some(Self::QcowInfo { disk: disk.parse().ok()?, point: PointId::from_ident(ident)? });
        }
        if let Some(ident) = name.strip_prefix(".identity.").and_then(|rest| rest.strip_suffix(".json")) {
            return PointId::from_ident(ident).map(Self::Identity);
        }
        if let Some(ident) = name.strip_prefix("vmconfig.").and_then(|rest| rest.strip_suffix(".xml")) {
            return PointId::from_ident(ident).map(Self::VmConfig);
        }
        if let Some(stem) = name.strip_prefix("backup.").and_then(|rest| rest.strip_suffix(".log")) {
            let (level, timestamp) = stem.split_once('.')?;
            return Some(Self::Log { level: level.to_owned(), timestamp: timestamp.to_owned() });
        }
        let (base, point) = PointId::split_off(name)?;
        if let Some(volume) = base.strip_prefix("bitlocker.recovery.key.") {
            return Some(Self::BitlockerKey { volume: volume.to_owned(), point });
        }
        match base {
            "" => None,
            "autostart" => Some(Self::Autostart(point)),
            "osinfo" => Some(Self::OsInfo(point)),
            _ if point == PointId::Copy => None,
            _ => Some(Self::BootFile { base: base.to_owned(), point }),
        }
    }
}

impl fmt::Display for SetFile {
    /// The file name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream { disk, kind, suffix, partial } => {
                write!(f, "{}{}", kind.file_name(disk, *suffix), if *partial { PARTIAL } else { "" })
            }
            Self::Checksum { disk, kind, suffix } => {
                write!(f, "{}.chksum", kind.file_name(disk, *suffix))
            }
            Self::Sidecar { disk, kind } => f.write_str(&kind.sidecar_name(disk)),
            Self::CheckpointList { domain } => write!(f, "{domain}.cpt"),
            Self::VmConfig(point) => write!(f, "vmconfig.{}.xml", point.ident()),
            Self::QcowInfo { disk, point } => write!(f, "{disk}.{}.qcow.json", point.ident()),
            Self::Autostart(point) => write!(f, "autostart.{}", point.ident()),
            Self::OsInfo(point) => write!(f, "osinfo.{}", point.ident()),
            Self::Identity(point) => write!(f, ".identity.{}.json", point.ident()),
            Self::BitlockerKey { volume, point } => {
                write!(f, "bitlocker.recovery.key.{volume}.{}", point.ident())
            }
            Self::Log { level, timestamp } => write!(f, "backup.{level}.{timestamp}.log"),
            Self::BootFile { base, point } => write!(f, "{base}.{}", point.ident()),
        }
    }
}

fn stream(stem: &str) -> Option<(DiskTarget, StreamKind)> {
    let (disk, infix) = stem.split_once('.')?;
    Some((disk.parse().ok()?, StreamKind::from_infix(infix)?))
}

/// Streams of one run may carry different seconds when the disks were begun one after the other.
const SAME_RUN_SECONDS: u64 = 5;

/// True for seconds that files of one run may carry.
pub(super) fn is_same_run(seconds: u64, other: u64) -> bool {
    seconds.abs_diff(other) <= SAME_RUN_SECONDS
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn vda() -> DiskTarget {
        "vda".parse().unwrap()
    }

    #[test]
    fn every_name_is_read_and_built() {
        let one = CheckpointName::new(1);
        let at_one = PointId::Checkpoint(one);
        let diff = PointId::Diff(1_795_377_788);
        let kinds = [
            ("vda.full.data", StreamKind::Full),
            ("vda.inc.virtnbdbackup.1.data", StreamKind::Inc(one)),
            ("vda.diff.1795377788.data", StreamKind::Diff(1_795_377_788)),
            ("vda.copy.data", StreamKind::Copy),
        ];
        let mut cases = vec![
            ("my.vm.cpt".to_owned(), SetFile::CheckpointList { domain: "my.vm".to_owned() }),
            ("vmconfig.virtnbdbackup.1.xml".to_owned(), SetFile::VmConfig(at_one)),
            ("vmconfig.1795377788.xml".to_owned(), SetFile::VmConfig(diff)),
            ("vmconfig.copy.xml".to_owned(), SetFile::VmConfig(PointId::Copy)),
            ("vda.virtnbdbackup.1.qcow.json".to_owned(), SetFile::QcowInfo { disk: vda(), point: at_one }),
            ("vda.copy.qcow.json".to_owned(), SetFile::QcowInfo { disk: vda(), point: PointId::Copy }),
            ("autostart.virtnbdbackup.1".to_owned(), SetFile::Autostart(at_one)),
            ("osinfo.1795377788".to_owned(), SetFile::OsInfo(diff)),
            (".identity.virtnbdbackup.1.json".to_owned(), SetFile::Identity(at_one)),
            (".identity.copy.json".to_owned(), SetFile::Identity(PointId::Copy)),
            (
                "bitlocker.recovery.key.C:.virtnbdbackup.1".to_owned(),
                SetFile::BitlockerKey { volume: "C:".to_owned(), point: at_one },
            ),
            (
                "backup.inc.11222026200230.log".to_owned(),
                SetFile::Log { level: "inc".to_owned(), timestamp: "11222026200230".to_owned() },
            ),
            (
                "gold1_VARS.fd.virtnbdbackup.1".to_owned(),
                SetFile::BootFile { base: "gold1_VARS.fd".to_owned(), point: at_one },
            ),
        ];
        for (name, kind) in kinds {
            cases.push((name.replace(".data", ".idx"), SetFile::Sidecar { disk: vda(), kind }));
            for (name, suffix) in
                [(name.to_owned(), StreamSuffix::Data), (name.replace(".data", ".zstd"), StreamSuffix::Zstd)]
            {
                let stream = |partial| SetFile::Stream { disk: vda(), kind, suffix, partial };
                cases.push((name.clone(), stream(false)));
                cases.push((format!("{name}.partial"), stream(true)));
                cases.push((format!("{name}.chksum"), SetFile::Checksum { disk: vda(), kind, suffix }));
            }
        }
        for (name, file) in cases {
            assert_eq!(SetFile::parse(&name).as_ref(), Some(&file), "{name}");
            assert_eq!(file.to_string(), name);
        }
    }

    #[test]
    fn other_files_are_not_ours() {
        for name in [
            "",
            ".cpt",
            ".full-backup-month",
            ".identity.json",
            ".identity.virtnbdbackup.1.json.partial",
            "vda.data",
            "vda.full.zst",
            "vda.full.data.zstd",
            ".full.data",
            "vda.inc.data",
            "vda.inc.virtnbdbackup.data",
            "vda.inc.virtnbdbackup.01.data",
            "vda.inc.other.1.data",
            "vda.diff.x.data",
            "a.b.full.data",
            "chain-manifest.json",
            "vmlinuz-6.1.0",
            "checkpoints",
            "vda.full.data.idx",
            "vda.inc.virtnbdbackup.+1.data",
            "vda.inc.virtnbdbackup.4294967296.data",
            ".virtnbdbackup.1",
            "notes.copy",
        ] {
            assert_eq!(SetFile::parse(name), None, "{name}");
        }
    }
}
