//! Chains that virtnbdbackup wrote and that may have lost data while they were written: no checksum can tell.
//!
//! Two defects of its incremental and differential backups, measured up to version 2.47:
//! - Ranges that were zeroed or discarded since the point before are not recorded: a restore brings old data back.
//! - QEMU answers at most 131072 extents at once, and of a more fragmented disk the rest was misplaced: such an
//!   increment came out empty, or with parts missing.
//!
//! Must not live here: damage to files (`verify`).

use crate::causes::with_causes;
use crate::chain::{BackupSet, DiskTarget, Point, PointDisk, PointId, SetProblem, StreamEntry};
use crate::regular;
use crate::stream::StreamFile;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::PathBuf;

/// As many extents as QEMU tells at once.
const EXTENTS_AT_ONCE: u64 = 131_072;

/// The most bytes of a checkpoint's XML that are looked at; the description stands at its beginning.
const MAX_XML_LEN: u64 = 1 << 20;

/// Which program wrote a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Writer {
    /// This project's engine, which has neither defect.
    Vmbackup,
    /// virtnbdbackup, or something that writes as it does.
    Virtnbdbackup,
    /// The stream cannot be read.
    Unknown,
}

/// What may be wrong with an increment or a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// Nobody can tell whether something was zeroed or discarded; if so, it is not recorded.
    ZeroesLost,
    /// It is empty. Perhaps nothing changed.
    Empty,
    /// It is empty, and the disk is so fragmented that the second defect is likely.
    EmptyAndFragmented {
        /// Frames of the most fragmented stream before it.
        frames: u64,
    },
    /// Parts may be missing: the disk is so fragmented that the second defect is likely.
    Fragmented {
        /// Frames of the most fragmented stream before it.
        frames: u64,
    },
}

/// One stream that may not hold all it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The disk.
    pub disk: DiskTarget,
    /// The point.
    pub point: PointId,
    /// What may be wrong.
    pub suspicion: Suspicion,
}

/// One stream that cannot be looked at: nothing is known of who wrote it, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The disk.
    pub disk: DiskTarget,
    /// The point.
    pub point: PointId,
    /// Why.
    pub reason: String,
}

/// What was found in one set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// Who wrote each point.
    pub writers: BTreeMap<PointId, BTreeSet<Writer>>,
    /// The streams that may not hold all they should.
    pub suspects: Vec<Suspect>,
    /// The streams of which nobody can tell.
    pub unknown: Vec<Unknown>,
    /// The streams whose times are not in order: old readers would apply them wrongly.
    pub out_of_order: Vec<PathBuf>,
    /// Points that are made up of none of them, oldest first.
    pub sound_points: Vec<PointId>,
}

/// Looks at who wrote a set's streams, and how. Reads headers only.
pub fn diagnose(set: &BackupSet) -> Diagnosis {
    let mut writers: BTreeMap<PointId, BTreeSet<Writer>> = BTreeMap::new();
    let (mut suspects, mut unknown) = (Vec::new(), Vec::new());
    for disk in set.disks() {
        let mut frames = 0;
        for point in &set.points {
            let entry = match point.disks.get(&disk) {
                Some(PointDisk::Stream(entry)) => entry,
                Some(PointDisk::Raw(_)) => continue,
                None => {
                    if set.lacks(point.id, &disk) {
                        let reason = "it is missing".to_owned();
                        unknown.push(Unknown { disk: disk.clone(), point: point.id, reason });
                    }
                    continue;
                }
            };
            if let Err(error) = StreamFile::open(&entry.path).and_then(|stream| stream.check_ends()) {
                unknown.push(Unknown { disk: disk.clone(), point: point.id, reason: with_causes(&error) });
            }
            let writer = writer(set, point, entry);
            writers.entry(point.id).or_default().insert(writer);
            let Ok(meta) = &entry.meta else { continue };
            if is_suspect(entry, || writer) {
                let suspicion = match (meta.data_size == 0, frames >= EXTENTS_AT_ONCE) {
                    (true, true) => Suspicion::EmptyAndFragmented { frames },
                    (true, false) => Suspicion::Empty,
                    (false, true) => Suspicion::Fragmented { frames },
                    (false, false) => Suspicion::ZeroesLost,
                };
                suspects.push(Suspect { disk: disk.clone(), point: point.id, suspicion });
            }
            frames = frames.max(frame_count(entry));
        }
    }
    let suspect = |disk: &DiskTarget, point: &Point| {
        suspects.iter().any(|suspect| suspect.disk == *disk && suspect.point == point.id)
            || unknown.iter().any(|unknown| unknown.disk == *disk && unknown.point == point.id)
    };
    let sound = |point: &&Point| {
        set.disks_at(point).iter().all(|disk| {
            let mut needed = set.needed(point).into_iter().rev();
            // Back to the newest stream that stands alone.
            let mut own = needed.by_ref().filter(|part| part.disks.contains_key(disk) || suspect(disk, part));
            loop {
                match own.next() {
                    None => return true,
                    Some(part) if suspect(disk, part) => return false,
                    Some(part) if stands_alone(part, disk) => return true,
                    Some(_) => {}
                }
            }
        })
    };
    let sound_points = set.points.iter().filter(sound).map(|point| point.id).collect();
    let out_of_order = set.problems.iter().filter_map(|problem| match problem {
        SetProblem::TimeOrder { later, .. } => Some(later.clone()),
        _ => None,
    });
    Diagnosis { writers, suspects, unknown, out_of_order: out_of_order.collect(), sound_points }
}

/// True when [`diagnose`] would suspect a stream of it. Stops at the first, and walks none.
pub fn may_lack_changes(set: &BackupSet) -> bool {
    set.points.iter().any(|point| {
        point.disks.values().any(|content| match content {
            PointDisk::Stream(entry) => is_suspect(entry, || writer(set, point, entry)),
            PointDisk::Raw(_) => false,
        })
    })
}

/// Both defects are of increments and differences.
fn is_suspect(entry: &StreamEntry, writer: impl FnOnce() -> Writer) -> bool {
    entry.meta.as_ref().is_ok_and(|meta| meta.incremental) && writer() == Writer::Virtnbdbackup
}

fn stands_alone(point: &Point, disk: &DiskTarget) -> bool {
    match point.disks.get(disk) {
        Some(PointDisk::Stream(entry)) => entry.meta.as_ref().is_ok_and(|meta| !meta.incremental),
        _ => true,
    }
}

/// This project reserves room in the meta text and leaves blanks there; virtnbdbackup never does. Where a copy or
/// another tool has changed the text, the checkpoint's description still tells.
fn writer(set: &BackupSet, point: &Point, entry: &StreamEntry) -> Writer {
    let Ok(stream) = StreamFile::open(&entry.path) else { return Writer::Unknown };
    if stream.has_reserved_meta() {
        return Writer::Vmbackup;
    }
    let PointId::Checkpoint(name) = point.id else { return Writer::Virtnbdbackup };
    let path = set.dir.join("checkpoints").join(format!("{name}.xml"));
    let mut xml = Vec::new();
    let read = regular::open(&path).and_then(|file| file.take(MAX_XML_LEN).read_to_end(&mut xml));
    let description = "<description>vmbackup ";
    match read {
        Ok(_) if String::from_utf8_lossy(&xml).contains(description) => Writer::Vmbackup,
        _ => Writer::Virtnbdbackup,
    }
}

/// Frames as far as the stream can be walked.
fn frame_count(entry: &StreamEntry) -> u64 {
    // A stream of fewer bytes than that many headers need not be walked.
    if entry.file_len < EXTENTS_AT_ONCE * 40 {
        return 0;
    }
    StreamFile::open(&entry.path).map_or(0, |stream| stream.frames().take_while(Result::is_ok).count() as u64)
}
