//! A set by the names of its files, as the Bash program told its kind, points and disks.

use std::collections::{BTreeMap, BTreeSet};

use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;
use vmstore::inventory;
use vmstore::layout::TPM_STATE;
use vmstream::chain::{CheckpointName, DiskTarget, PointId, SetFile, StreamKind};

/// Beside a set of a VM with a TPM, where its state may be gone.
const TPM_MARKER: &str = ".tpm-backup-marker";

/// What a set is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SetKind {
    /// A chain with increments or differences.
    Incremental,
    Full,
    Copy,
    Unknown,
}

impl SetKind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Incremental => "incremental",
            Self::Full => "full",
            Self::Copy => "copy",
            Self::Unknown => "unknown",
        }
    }
}

/// The files of one set, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetFiles {
    /// The disks of each point that has a stream or an image.
    points: BTreeMap<PointId, BTreeSet<DiskTarget>>,
    full: bool,
    /// A copy without disks: the definition of the VM alone.
    definition_only: bool,
    pub tpm: bool,
    /// When a data file last changed.
    pub newest: Option<SystemTime>,
}

impl SetFiles {
    /// Looks at a folder. Nothing where it is not there or cannot be read: that is told where its sizes are read.
    pub fn of(dir: &Path) -> Self {
        let mut files = Self::default();
        let (mut vmconfig, mut identity) = (false, false);
        for entry in inventory::entries(dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            files.tpm |= name == TPM_STATE || name == TPM_MARKER;
            match SetFile::parse(name) {
                Some(SetFile::Stream { disk, kind, partial: false, .. }) => {
                    files.full |= kind == StreamKind::Full;
                    files.points.entry(point_of(kind)).or_default().insert(disk);
                    let modified = entry.metadata().and_then(|about| about.modified()).ok();
                    files.newest = files.newest.max(modified);
                }
                Some(SetFile::VmConfig(PointId::Copy)) => vmconfig = true,
                Some(SetFile::Identity(PointId::Copy)) => identity = true,
                _ => {}
            }
        }
        files.definition_only = files.points.is_empty() && vmconfig && identity;
        // A raw disk is copied with the full of its chain: without a definition of its own that is no copy of the VM.
        if files.full && !vmconfig {
            if let Some(raw) = files.points.remove(&PointId::Copy) {
                files.points.entry(PointId::Checkpoint(CheckpointName::FIRST)).or_default().extend(raw);
            }
        }
        files
    }

    pub fn has_data(&self) -> bool {
        !self.points.is_empty() || self.definition_only
    }

    pub fn kind(&self) -> SetKind {
        let any = |wanted: fn(&PointId) -> bool| self.points.keys().any(wanted);
        let is_later = |id: &PointId| {
            matches!(id, PointId::Diff(_))
                || matches!(id, PointId::Checkpoint(name) if *name > CheckpointName::FIRST)
        };
        match () {
            () if any(is_later) => SetKind::Incremental,
            () if self.full => SetKind::Full,
            () if any(|id| *id == PointId::Copy) || self.definition_only => SetKind::Copy,
            () => SetKind::Unknown,
        }
    }

    /// Restore points. A chain without a beginning has none.
    pub fn points(&self) -> usize {
        let begins = self.full || self.points.contains_key(&PointId::Copy);
        if begins { self.points.len() } else { usize::from(self.definition_only) }
    }

    /// The disks of the newest point.
    pub fn newest_disks(&self) -> impl Iterator<Item = &DiskTarget> {
        self.points.last_key_value().into_iter().flat_map(|(_, disks)| disks)
    }
}

fn point_of(kind: StreamKind) -> PointId {
    match kind {
        StreamKind::Full => PointId::Checkpoint(CheckpointName::FIRST),
        StreamKind::Inc(name) => PointId::Checkpoint(name),
        StreamKind::Diff(seconds) => PointId::Diff(seconds),
        StreamKind::Copy => PointId::Copy,
    }
}
