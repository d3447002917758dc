//! Every disk at every point, put together and digested.
//!
//! Sidecars tell what the disk held at each point, granule by granule. Where there is none, this proves only that each
//! point can be put together to its last byte, and gives a value by which copies can be compared.

use super::finding::{Finding, Level};
use super::options::Watch;
use super::report::{DiskDigest, DiskVerdict, PointVerdict};
use crate::causes::with_causes;
use crate::chain::{BackupSet, DiskContent, DiskTarget, PointId, SidecarProblem, StreamEntry};
use crate::restore::claim;
use crate::restore::content::{Content, OnWrong};
use crate::restore::leaf::{LEAF_LEN, Leaf};
use crate::restore::replay::{Replay, Stop};
use crate::restore::state::Leaves;
use crate::restore::window::Window;
use crate::restore::{ExtractError, Layer, MapError};
use crate::sidecar::{Checked, Granules, Sidecar, Tables, Value};
use crate::stream::StreamFile;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What putting disks together gave.
#[derive(Default)]
pub(super) struct Deep {
    pub(super) digests: Vec<DiskDigest>,
    /// What stood in the way, and what is not as it was.
    pub(super) findings: Vec<Finding>,
    /// The streams all of which was decoded, with nothing wrong.
    pub(super) sound: BTreeSet<PathBuf>,
}

/// The digests of all that can be restored.
pub(super) fn digests(
    set: &BackupSet,
    points: &[PointVerdict],
    workers: NonZeroUsize,
    watch: &dyn Watch,
) -> Deep {
    let mut deep = Deep::default();
    for disk in set.disks() {
        let ids: Vec<PointId> =
            points.iter().filter(|point| can_restore(point, &disk)).map(|p| p.id).collect();
        let done = match ids.first().map(|id| set.content(&disk, *id)) {
            None | Some(Err(_)) => continue,
            Some(Ok(DiskContent::Raw { .. })) => {
                raw(set, &disk, &ids, workers).map(|found| (found, Vec::new()))
            }
            Some(Ok(DiskContent::Streams(_))) => streams(set, &disk, &ids, workers, watch),
        };
        match done {
            Ok((found, decoded)) => {
                let wrong = wrong_content(set, &found);
                deep.sound.extend(decoded.into_iter().filter(|_| wrong.is_empty()));
                deep.findings.extend(wrong);
                deep.digests.extend(found);
            }
            Err(error) => deep.findings.push(unfinished(set, &disk, &error)),
        }
    }
    deep
}

/// The finding about a disk that could not be put together.
fn unfinished(set: &BackupSet, disk: &DiskTarget, error: &ExtractError) -> Finding {
    let path = match error {
        ExtractError::Map(MapError { path, source }) => return Finding::of_error(path, source),
        ExtractError::ReadRaw { path, .. } => path,
        _ => &set.dir,
    };
    let message = format!("disk {disk} is not put together: {}", with_causes(error));
    Finding::about(Level::Unreadable, path, message)
}

fn can_restore(point: &PointVerdict, disk: &DiskTarget) -> bool {
    matches!(point.disks.get(disk), Some(DiskVerdict::Good | DiskVerdict::Unproven { .. }))
}

/// A chain and its differences, in one replay; and the streams that were decoded for it.
fn streams(
    set: &BackupSet,
    disk: &DiskTarget,
    ids: &[PointId],
    workers: NonZeroUsize,
    watch: &dyn Watch,
) -> Result<(Vec<DiskDigest>, Vec<PathBuf>), ExtractError> {
    let (mut chain, mut side): (Vec<&StreamEntry>, Vec<&StreamEntry>) = (Vec::new(), Vec::new());
    let (mut stops, mut known) = (Vec::new(), Vec::new());
    for id in ids {
        let Ok(DiskContent::Streams(mut entries)) = set.content(disk, *id) else { continue };
        let mut stop = Stop { applied: entries.len(), side: None, size: 0 };
        if !matches!(id, PointId::Checkpoint(_)) {
            stop.applied -= 1;
            stop.side = Some(side.len());
            side.extend(entries.pop());
        }
        // Each point's streams are those of the point before it and its own.
        chain.extend(entries.into_iter().skip(chain.len()));
        let newest = stop.side.map_or_else(|| chain[..stop.applied].last(), |at| side.get(at));
        stop.size = newest.and_then(|entry| entry.meta.as_ref().ok()).map_or(0, |meta| meta.virtual_size);
        stops.push(stop);
        known.push(*id);
    }
    let sidecars = sidecars(&chain);
    let layers = chain.iter().zip(&sidecars).map(|(entry, sidecar)| {
        let own = entry.sidecar.as_deref().filter(|_| sidecar.as_ref().is_some_and(|(own, _)| *own));
        let layer = Layer::open(entry.path.clone())?;
        let own = own.filter(|_| layer.stream.is_compressed()).and_then(|path| Sidecar::open(path).ok());
        Ok(layer.checked_by(own))
    });
    let layers = layers.collect::<Result<Vec<_>, MapError>>()?;
    let side =
        side.iter().map(|entry| Layer::open(entry.path.clone())).collect::<Result<Vec<_>, MapError>>()?;
    let all = || layers.iter().chain(&side).map(|layer| &layer.stream);
    let (largest, stored) =
        (all().map(|stream| stream.meta().virtual_size).max(), all().map(StreamFile::file_len));
    claim::check(largest.unwrap_or(0), stored.sum())?;
    let mut tops = vec![blake3::Hasher::new(); stops.len()];
    let replay = Replay { chain: &layers, side: &side, stops: &stops };
    let sidecars = sidecars.into_iter().map(|sidecar| Some(sidecar?.1)).collect();
    let mut proofs = Proofs::of(Tables::new(sidecars), &stops);
    let see = |stop: usize, window: &Range<u64>, leaves: &Leaves| {
        add(&mut tops[stop], leaves);
        proofs.add(stop, window, leaves);
    };
    replay.run(workers, |bytes| watch.read(bytes), see)?;
    let digest = |(((point, stop), top), checked): (((PointId, Stop), blake3::Hasher), Option<Checked>)| {
        DiskDigest { disk: disk.clone(), point, size: stop.size, digest: top.finalize().to_string(), checked }
    };
    let found = known.into_iter().zip(stops.iter().copied()).zip(tops).zip(proofs.found).map(digest);
    Ok((found.collect(), layers.into_iter().chain(side).map(|layer| layer.path).collect()))
}

/// The points of a replay, held against the granules of their sidecars.
struct Proofs<'a> {
    tables: Option<Tables>,
    /// They could not be read any more: what comes is unproven.
    broken: bool,
    stops: &'a [Stop],
    /// What is known of the window, for each stop.
    known: Vec<Option<Known>>,
    /// The window at the last stop, and how it compared: it is mostly the same at the next one.
    last: Option<(Leaves, Known, Checked)>,
    /// `None` where nothing at all is known.
    found: Vec<Option<Checked>>,
}

/// Granules of a window; the very same at two points where no sidecar tells of a change.
type Known = Arc<(Granules, Vec<Value>)>;

impl<'a> Proofs<'a> {
    fn of(tables: Tables, stops: &'a [Stop]) -> Self {
        Self {
            tables: Some(tables),
            broken: false,
            stops,
            known: vec![None; stops.len()],
            last: None,
            found: vec![None; stops.len()],
        }
    }

    fn add(&mut self, number: usize, window: &Range<u64>, leaves: &Leaves) {
        if number == 0 {
            self.look_up(window);
        }
        let size = self.stops[number].size;
        if self.broken {
            let checked = self.found[number].get_or_insert_default();
            checked.unproven_bytes += window.end.min(size).saturating_sub(window.start);
        }
        let Some(known) = &self.known[number] else { return };
        if known.0.disk_size() != size {
            return;
        }
        let same =
            |last: &&(Leaves, Known, Checked)| Arc::ptr_eq(&last.0, leaves) && Arc::ptr_eq(&last.1, known);
        let checked = self.found[number].get_or_insert_default();
        if let Some((.., found)) = self.last.as_ref().filter(same) {
            return checked.append(found);
        }
        let mut found = Checked::default();
        found.add_sums(known, window.start, |at| Some(&leaves.get(at)?.sums));
        checked.append(&found);
        self.last = Some((leaves.clone(), known.clone(), found));
    }

    fn look_up(&mut self, window: &Range<u64>) {
        self.known.fill(None);
        let Some(tables) = &mut self.tables else { return };
        let mut before: Option<Known> = None;
        let looked = tables.window(window, |layer, known| {
            let same = |(granules, values): &(Granules, &[Value])| {
                before.as_ref().is_some_and(|before| before.0 == *granules && before.1 == *values)
            };
            if !known.as_ref().is_some_and(same) {
                before = known.map(|(granules, values)| Arc::new((granules, values.to_vec())));
            }
            // A difference has no sidecar, so nothing is known of it.
            let from = self.stops.partition_point(|stop| stop.applied <= layer);
            let here = self.stops[from..].iter().zip(&mut self.known[from..]);
            let here = here.take_while(|(stop, _)| stop.applied == layer + 1);
            for (_, slot) in here.filter(|(stop, _)| stop.side.is_none()) {
                slot.clone_from(&before);
            }
        });
        if looked.is_err() {
            // Proven or not is all that hangs on it: the sidecars themselves were looked at before.
            (self.tables, self.broken) = (None, true);
            self.known.fill(None);
        }
    }
}

/// The sidecars of a chain's streams, and whether they are of their own. One that was left beside a stream which was replaced still tells what the disk held, where
/// links bind it to sidecars that are of their streams: on both sides of it, as far as there are streams. A chain that an old
/// program archived leaves sidecars that bind each other alone, and say nothing of the chain that it began in their place.
fn sidecars(chain: &[&StreamEntry]) -> Vec<Option<(bool, Sidecar)>> {
    let own = |entry: &&StreamEntry| match entry.whole_sidecar()? {
        Ok(sidecar) => Some((true, sidecar)),
        Err(SidecarProblem::Stale) => entry.left_sidecar().map(|sidecar| (false, sidecar)),
        Err(_) => None,
    };
    let all: Vec<_> = chain.iter().map(own).collect();
    let digest = |number: usize| Some(*all.get(number)?.as_ref()?.1.digest());
    let parent = |number: usize| all.get(number)?.as_ref()?.1.head().parent_sidecar;
    let joined = |number: usize| parent(number).is_some() && parent(number) == digest(number.wrapping_sub(1));
    let fits = |number: usize| all[number].as_ref().is_some_and(|(own, _)| *own);
    // For one side: a sidecar of its own stream, and whether links lead there or to the chain's end.
    let before = |number: usize| {
        let last = (1..=number).rev().find(|at| fits(*at) || !joined(*at)).unwrap_or(0);
        (fits(last), fits(last) || last == 0)
    };
    let after = |number: usize| {
        let last = (number..all.len() - 1).find(|at| fits(*at) || !joined(at + 1)).unwrap_or(all.len() - 1);
        (fits(last), fits(last) || last == all.len() - 1)
    };
    let bound = |number: usize| {
        let (before, after) = (before(number), after(number));
        (before.0 || after.0) && before.1 && after.1
    };
    let kept: Vec<_> = (0..all.len()).map(|number| fits(number) || bound(number)).collect();
    all.into_iter().zip(kept).map(|(sidecar, kept)| sidecar.filter(|_| kept)).collect()
}

/// Where disks are not what their sidecars say: each range at the first point that has it.
fn wrong_content(set: &BackupSet, digests: &[DiskDigest]) -> Vec<Finding> {
    let (mut findings, mut before): (_, &[Range<u64>]) = (Vec::new(), &[]);
    for found in digests {
        let wrong = found.checked.as_ref().map_or(&[][..], |checked| &checked.wrong);
        for range in wrong.iter().filter(|range| !before.contains(range)) {
            let message = format!(
                "disk {} at {}, put together from its streams, is not what was backed up: the checksum in the sidecar \
                 differs",
                found.disk, found.point
            );
            let finding = Finding::about(Level::Damage, &newest_file(set, found), message);
            findings.push(Finding { disk_range: Some(range.clone()), ..finding });
        }
        before = wrong;
    }
    findings
}

fn newest_file(set: &BackupSet, found: &DiskDigest) -> PathBuf {
    match set.content(&found.disk, found.point) {
        Ok(DiskContent::Streams(entries)) => entries.last().map(|entry| entry.path.as_path()),
        Ok(DiskContent::Raw { image, .. }) => Some(image.path.as_path()),
        Err(_) => None,
    }
    .map_or_else(|| set.dir.clone(), Path::to_owned)
}

/// A raw image is the same at all points.
fn raw(
    set: &BackupSet,
    disk: &DiskTarget,
    ids: &[PointId],
    workers: NonZeroUsize,
) -> Result<Vec<DiskDigest>, ExtractError> {
    let mut found = Vec::new();
    for id in ids {
        let content = match found.last() {
            None => Content::open(set, disk, *id, OnWrong::Note)?,
            Some(DiskDigest { size, digest, .. }) => {
                let (size, digest) = (*size, digest.clone());
                found.push(DiskDigest { disk: disk.clone(), point: *id, size, digest, checked: None });
                continue;
            }
        };
        let mut top = blake3::Hasher::new();
        let look =
            |window: &Window| Ok(window.bytes.chunks(LEAF_LEN as usize).map(Leaf::of).collect::<Vec<_>>());
        let see = |_: &_, leaves: Vec<Leaf>| {
            add(&mut top, &leaves);
            Ok(())
        };
        content.read(workers, look, see)?;
        let digest = top.finalize().to_string();
        let (disk, size) = (disk.clone(), content.size);
        found.push(DiskDigest { disk, point: *id, size, digest, checked: None });
    }
    Ok(found)
}

fn add(top: &mut blake3::Hasher, leaves: &[Leaf]) {
    for leaf in leaves {
        top.update(&leaf.digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sidecar_cannot_tell_any_more_is_unproven() {
        let vector =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../format-spec/vectors/sidecars/chunk-flipped.idx");
        let sidecar = Sidecar::open(Path::new(vector)).unwrap();
        let size = sidecar.head().granules.disk_size();
        let stops = [Stop { applied: 1, side: None, size }];
        let mut proofs = Proofs::of(Tables::new(vec![Some(sidecar)]), &stops);
        proofs.add(0, &(0..size), &Leaves::from([]));
        let want = Checked { unproven_bytes: size, ..Checked::default() };
        assert_eq!(proofs.found, [Some(want)]);
    }
}
