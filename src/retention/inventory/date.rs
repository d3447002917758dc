//! What the names of a set's files tell, and the date of its newest point.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use vmstream::chain::{
    BackupSet, Definition, DiskTarget, PointId, SetFile, StreamKind, StreamSuffix, open_file,
};
use vmstream::stream::{Problem, StreamError, StreamFile};

use super::SetTree;

/// The files of one set, by their names.
#[derive(Default)]
pub(super) struct Names {
    data_files: u32,
    streams: BTreeSet<(StreamKind, DiskTarget, StreamSuffix)>,
    lists: Vec<String>,
    /// The disks that have one.
    sidecars: BTreeSet<DiskTarget>,
    /// What commits a copy is there, and what may say that it has no disk.
    copy: (bool, bool),
}

/// What a stream says about its date.
enum Said {
    Date(DateTime),
    Nothing,
    /// A raw image: it cannot say anything, its sidecar can.
    Raw,
}

impl Names {
    /// Takes the name of a regular file.
    pub(super) fn take(&mut self, name: &str) {
        if let Some(SetFile::Sidecar { disk, .. }) =
            name.ends_with(".idx").then(|| SetFile::parse(name)).flatten()
        {
            self.sidecars.insert(disk);
        }
        match SetFile::parse(name).filter(|_| name.contains(".copy.")) {
            Some(SetFile::VmConfig(PointId::Copy)) => self.copy.0 = true,
            Some(SetFile::Identity(PointId::Copy)) => self.copy.1 = true,
            _ => {}
        }
        let is_data = name.ends_with(".data") || name.ends_with(".zstd");
        self.data_files += u32::from(is_data);
        if !is_data && !name.ends_with(".cpt") {
            return;
        }
        match SetFile::parse(name) {
            Some(SetFile::Stream { disk, kind, suffix, partial: false }) => {
                self.streams.insert((kind, disk, suffix));
            }
            Some(SetFile::CheckpointList { domain }) => self.lists.push(domain),
            _ => {}
        }
    }

    /// True when there is a stream, a checkpoint list or a definition without disks.
    pub(super) fn is_set(&self) -> bool {
        !self.streams.is_empty() || !self.lists.is_empty() || self.may_be_definition()
    }

    fn may_be_definition(&self) -> bool {
        self.streams.is_empty() && self.lists.is_empty() && self.copy == (true, true)
    }

    /// True when the definition that is kept with a copy is there.
    pub(super) fn has_definition_of_copy(&self) -> bool {
        self.copy.0
    }

    /// The names of the checkpoint lists, which are the domain's.
    pub(super) fn lists(&self) -> &[String] {
        &self.lists
    }

    /// True when files may contradict each other and leave it open which are right: that takes two disks of a point with
    /// sidecars.
    pub(super) fn may_be_doubtful(&self) -> bool {
        self.sidecars.len() > 1
    }

    /// Sums up what is in `dir`; reads the date when it is `dated`.
    pub(super) fn describe(&self, dir: &Path, dated: bool) -> SetTree {
        let definition = self.may_be_definition().then(|| definition_in(dir)).flatten();
        if let Some(definition) = definition {
            let newest = definition.taken.parse().ok().filter(|_| dated);
            return SetTree { points: 1, definition_only: true, newest, ..SetTree::default() };
        }
        let kinds: BTreeSet<StreamKind> = self.streams.iter().map(|(kind, ..)| *kind).collect();
        let begins = kinds.contains(&StreamKind::Full) || kinds.contains(&StreamKind::Copy);
        let points = if begins { u32::try_from(kinds.len()).unwrap_or(u32::MAX) } else { 0 };
        let newest = dated.then(|| self.newest(dir, &kinds)).flatten();
        SetTree { data_files: self.data_files, points, newest, ..SetTree::default() }
    }

    /// The date of the newest point: of the last of the chain, the last difference and the copy, whichever is newest.
    /// `None` when one of them does not tell.
    fn newest(&self, dir: &Path, kinds: &BTreeSet<StreamKind>) -> Option<DateTime> {
        let last = |wanted: fn(&StreamKind) -> bool| kinds.iter().copied().rfind(wanted);
        let chain = last(|kind| matches!(kind, StreamKind::Full | StreamKind::Inc(_)));
        let diff = last(|kind| matches!(kind, StreamKind::Diff(_)));
        let copy = last(|kind| *kind == StreamKind::Copy);
        let mut newest = None;
        for kind in [chain, diff, copy].into_iter().flatten() {
            match self.date_of(dir, kind) {
                Said::Date(date) => newest = newest.max(Some(date)),
                // Taken with the full: a raw disk of a chain.
                Said::Raw if chain.is_some() => {}
                Said::Raw => newest = newest.max(Some(self.date_of_images(dir)?)),
                Said::Nothing => return None,
            }
        }
        newest
    }

    /// When the raw images of a copy were taken, as their sidecars tell: those that earlier programs made say nothing.
    fn date_of_images(&self, dir: &Path) -> Option<DateTime> {
        let images = self.streams.iter().filter(|(kind, ..)| *kind == StreamKind::Copy);
        let mut names = images.map(|(kind, disk, suffix)| kind.file_name(disk, *suffix));
        names.find_map(|name| date_of_image(&dir.join(name)))
    }

    /// All disks of a point are of one moment, so the first that tells is enough.
    fn date_of(&self, dir: &Path, kind: StreamKind) -> Said {
        let mut all_raw = true;
        for (_, disk, suffix) in self.streams.iter().filter(|(other, ..)| *other == kind) {
            match StreamFile::open(&dir.join(kind.file_name(disk, *suffix))) {
                Ok(stream) => match stream.meta().date.parse() {
                    Ok(date) => return Said::Date(date),
                    Err(_) => all_raw = false,
                },
                Err(error) => all_raw &= kind == StreamKind::Copy && is_no_stream(&error),
            }
        }
        if all_raw { Said::Raw } else { Said::Nothing }
    }
}

fn definition_in(dir: &Path) -> Option<Definition> {
    BackupSet::open(dir).ok()?.points.pop()?.definition
}

/// When a raw image was taken, as its sidecar tells.
fn date_of_image(image: &Path) -> Option<DateTime> {
    let sidecar = open_file(image).ok()?.open_sidecar()?.ok()?;
    let taken = Timestamp::from_second(i64::try_from(sidecar.head().taken_seconds).ok()?).ok()?;
    Some(taken.to_zoned(TimeZone::system()).datetime())
}

fn is_no_stream(error: &StreamError) -> bool {
    matches!(error, StreamError::Damaged(damage) if matches!(damage.problem, Problem::NotAStream { .. }))
}
