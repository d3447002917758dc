//! What the names of a set's files tell, and the date of its newest point.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::civil::DateTime;
use vmstream::chain::{DiskTarget, SetFile, StreamKind, StreamSuffix};
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
}

/// What a stream says about its date.
enum Said {
    Date(DateTime),
    Nothing,
    /// A raw image: it cannot say anything.
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

    /// True when there is a stream or a checkpoint list.
    pub(super) fn is_set(&self) -> bool {
        !self.streams.is_empty() || !self.lists.is_empty()
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

    /// Sums up; reads the date when `dir` is given.
    pub(super) fn describe(&self, dir: Option<&Path>) -> SetTree {
        let kinds: BTreeSet<StreamKind> = self.streams.iter().map(|(kind, ..)| *kind).collect();
        let begins = kinds.contains(&StreamKind::Full) || kinds.contains(&StreamKind::Copy);
        let points = if begins { u32::try_from(kinds.len()).unwrap_or(u32::MAX) } else { 0 };
        let newest = dir.and_then(|dir| self.newest(dir, &kinds));
        SetTree { data_files: self.data_files, points, doubtful: false, newest }
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
                Said::Raw | Said::Nothing => return None,
            }
        }
        newest
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

fn is_no_stream(error: &StreamError) -> bool {
    matches!(error, StreamError::Damaged(damage) if matches!(damage.problem, Problem::NotAStream { .. }))
}
