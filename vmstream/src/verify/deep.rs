//! Every disk at every point, put together and digested.
//!
//! Without a record of what the digests were when the backup was made, this proves that each point can be put together
//! to its last byte, and gives a value by which copies can be compared. It does not prove that the guest had that.

use super::report::{DiskDigest, DiskVerdict, Finding, PointVerdict};
use super::set::Watch;
use crate::chain::{BackupSet, DiskContent, DiskTarget, PointId, StreamEntry};
use crate::restore::content::Content;
use crate::restore::replay::{LEAF_LEN, Leaf, Replay, Stop};
use crate::restore::{ExtractError, Layer, MapError};
use crate::stream::StreamError;
use sha2::{Digest, Sha256};
use std::num::NonZeroUsize;

/// The digests of all that can be restored, and what stood in the way of others.
pub(super) fn digests(
    set: &BackupSet,
    points: &[PointVerdict],
    workers: NonZeroUsize,
    watch: &dyn Watch,
) -> (Vec<DiskDigest>, Vec<Finding>) {
    let (mut digests, mut findings) = (Vec::new(), Vec::new());
    for disk in set.disks() {
        let ids: Vec<PointId> =
            points.iter().filter(|point| can_restore(point, &disk)).map(|p| p.id).collect();
        let done = match ids.first().map(|id| set.content(&disk, *id)) {
            None | Some(Err(_)) => continue,
            Some(Ok(DiskContent::Raw { .. })) => raw(set, &disk, &ids, workers),
            Some(Ok(DiskContent::Streams(_))) => streams(set, &disk, &ids, workers, watch),
        };
        match done {
            Ok(found) => digests.extend(found),
            Err(MapError { path, source }) => findings.push(Finding::of_error(&path, &source)),
        }
    }
    (digests, findings)
}

fn can_restore(point: &PointVerdict, disk: &DiskTarget) -> bool {
    matches!(point.disks.get(disk), Some(DiskVerdict::Good | DiskVerdict::Unproven { .. }))
}

/// A chain and its differences, in one replay.
fn streams(
    set: &BackupSet,
    disk: &DiskTarget,
    ids: &[PointId],
    workers: NonZeroUsize,
    watch: &dyn Watch,
) -> Result<Vec<DiskDigest>, MapError> {
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
    let open = |entries: &[&StreamEntry]| {
        entries.iter().map(|entry| Layer::open(entry.path.clone())).collect::<Result<Vec<_>, _>>()
    };
    let (chain, side) = (open(&chain)?, open(&side)?);
    let mut tops = vec![Sha256::new(); stops.len()];
    let replay = Replay { chain: &chain, side: &side, stops: &stops };
    replay.run(workers, leaf, |bytes| watch.read(bytes), |stop, leaves| add(&mut tops[stop], leaves))?;
    let digest = |((point, stop), top): ((PointId, Stop), Sha256)| DiskDigest {
        disk: disk.clone(),
        point,
        size: stop.size,
        digest: hex(&top.finalize()),
    };
    Ok(known.into_iter().zip(stops).zip(tops).map(digest).collect())
}

/// A raw image is the same at all points.
fn raw(
    set: &BackupSet,
    disk: &DiskTarget,
    ids: &[PointId],
    workers: NonZeroUsize,
) -> Result<Vec<DiskDigest>, MapError> {
    let failed = |error| match error {
        ExtractError::Map(error) => error,
        ExtractError::ReadRaw { path, source } => {
            MapError { path, source: StreamError::Read { at: 0, len: 0, source } }
        }
        other => MapError {
            path: set.dir.clone(),
            source: StreamError::Read { at: 0, len: 0, source: std::io::Error::other(other) },
        },
    };
    let mut found = Vec::new();
    for id in ids {
        let content = match found.last() {
            None => Content::open(set, disk, *id).map_err(failed)?,
            Some(DiskDigest { size, digest, .. }) => {
                let (size, digest) = (*size, digest.clone());
                found.push(DiskDigest { disk: disk.clone(), point: *id, size, digest });
                continue;
            }
        };
        let mut top = Sha256::new();
        let look = |window: &crate::restore::content::Window| {
            Ok(window.bytes.chunks(LEAF_LEN as usize).map(leaf).collect::<Vec<_>>())
        };
        let see = |_: &_, leaves: Vec<Leaf>| {
            add(&mut top, &leaves);
            Ok(())
        };
        content.read(workers, look, see).map_err(failed)?;
        let digest = hex(&top.finalize());
        found.push(DiskDigest { disk: disk.clone(), point: *id, size: content.size, digest });
    }
    Ok(found)
}

fn leaf(bytes: &[u8]) -> Leaf {
    Sha256::digest(bytes).into()
}

fn add(top: &mut Sha256, leaves: &[Leaf]) {
    leaves.iter().for_each(|leaf| top.update(leaf));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
