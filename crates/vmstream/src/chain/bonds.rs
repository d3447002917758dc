//! What sidecars say that binds the files of a set to each other: which sidecar each goes on from, which disks the point
//! has, and which files lie beside it. A stream or image that is whole, and of another backup, is known by nothing else.
//!
//! Must not live here: content (`verify`), what is done about it.

use super::ident::{CheckpointName, DiskTarget, PointId};
use super::names::{SetFile, StreamKind};
use super::point::{Point, PointDisk};
use super::problem::SetProblem;
use super::set::BackupSet;
use crate::sidecar::{Digest, FileIdentity, Head, Sidecar};
use std::collections::{BTreeMap, BTreeSet};

/// What the head of a sidecar, which fits the file beside it, says of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bond {
    /// Its own digest.
    digest: Digest,
    /// The sidecar that it goes on from.
    parent: Option<Digest>,
    /// The disks of its point, and whether those are all: earlier programs tell of streams alone.
    disks: BTreeSet<DiskTarget>,
    says_all: bool,
    left_out: BTreeSet<DiskTarget>,
    /// The list of the files beside it, in short. `None` for an empty list.
    files: Option<Digest>,
}

impl Bond {
    pub(super) fn of(sidecar: &Sidecar, kind: StreamKind) -> Self {
        let head = sidecar.head();
        let named =
            head.disks.as_ref().map(|disks| disks.iter().filter_map(|disk| disk.parse().ok()).collect());
        let left_out = head.left_out.iter().filter_map(|one| one.disk.parse().ok()).collect();
        Self {
            digest: *sidecar.digest(),
            parent: head.parent_sidecar,
            says_all: named.is_some(),
            disks: named.unwrap_or_else(|| with_checksums(head, kind)),
            left_out,
            files: (!head.files.is_empty()).then(|| list_digest(&head.files)),
        }
    }
}

/// The disks whose checksum files are listed with this run.
fn with_checksums(head: &Head, run: StreamKind) -> BTreeSet<DiskTarget> {
    let of_run = |file: &FileIdentity| match SetFile::parse(&file.name) {
        Some(SetFile::Checksum { disk, kind, .. }) if kind == run => Some(disk),
        _ => None,
    };
    head.files.iter().filter_map(of_run).collect()
}

fn list_digest(files: &[FileIdentity]) -> Digest {
    let mut lines: Vec<String> = files.iter().map(|file| file.to_json().to_string()).collect();
    lines.sort();
    blake3::hash(lines.join("\n").as_bytes()).into()
}

/// The disks that a point has by what its sidecars list, and those that it is known not to have.
#[derive(Default)]
pub(super) struct Listed {
    pub(super) disks: BTreeSet<DiskTarget>,
    pub(super) left_out: BTreeSet<DiskTarget>,
    /// There is no other disk.
    pub(super) says_all: bool,
}

impl Listed {
    pub(super) fn of(point: &Point) -> Self {
        let mut listed = Self::default();
        for bond in point.disks.values().filter_map(PointDisk::bond) {
            listed.disks.extend(bond.disks.iter().cloned());
            listed.left_out.extend(bond.left_out.iter().cloned());
            listed.says_all |= bond.says_all;
        }
        listed
    }
}

/// Fills in the streams and images that are of another backup than the rest.
pub(super) fn check(set: &mut BackupSet) {
    let mut found = Verdicts::default();
    for disk in set.disks() {
        for runs in segments(set, &disk) {
            foreign_runs(set, &runs, &mut found);
        }
    }
    for point in &set.points {
        contradictions(set, point, &mut found);
    }
    set.problems.extend(found.0.into_values());
}

/// One problem for each file: what is sure wins.
#[derive(Default)]
struct Verdicts(BTreeMap<std::path::PathBuf, SetProblem>);

impl Verdicts {
    fn exchanged(&mut self, part: &PointDisk, why: &'static str) {
        let path = part.path().to_owned();
        self.0.insert(path.clone(), SetProblem::Exchanged { path, why });
    }

    fn doubtful(&mut self, part: &PointDisk) {
        let path = part.path().to_owned();
        self.0.entry(path.clone()).or_insert(SetProblem::Doubtful { path });
    }
}

/// The files of a disk that go on from each other by their sidecars.
type Run<'a> = Vec<(PointId, &'a PointDisk)>;

/// How a sidecar and that of its parent hang together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    /// One of them does not tell.
    Unknown,
    /// It goes on from that one.
    Joined,
    /// Both are whole, and it goes on from another one.
    Cut,
}

/// A disk's files along the chain, cut where nothing tells how they hang together; each part as the runs that do. More than
/// one run means that something was exchanged.
fn segments<'a>(set: &'a BackupSet, disk: &DiskTarget) -> Vec<Vec<Run<'a>>> {
    let mut segments: Vec<Vec<Run<'a>>> = Vec::new();
    let mut before: Option<(CheckpointName, &PointDisk)> = None;
    for point in &set.points {
        let (PointId::Checkpoint(name), Some(part)) = (point.id, point.disks.get(disk)) else { continue };
        let parent = before.filter(|(before, _)| Some(*before) == point.parent).map(|(_, part)| part);
        match (parent.map_or(Link::Unknown, |parent| link(part, parent)), segments.last_mut()) {
            (Link::Joined, Some(runs)) => runs.last_mut().map_or((), |run| run.push((point.id, part))),
            (Link::Cut, Some(runs)) => runs.push(vec![(point.id, part)]),
            _ => segments.push(vec![vec![(point.id, part)]]),
        }
        before = Some((name, part));
    }
    segments
}

fn link(part: &PointDisk, parent: &PointDisk) -> Link {
    let named = part.bond().and_then(|bond| bond.parent);
    match named.zip(parent.bond()) {
        None => Link::Unknown,
        Some((named, parent)) if parent.digest == named => Link::Joined,
        // A damaged sidecar is no reason to doubt its stream.
        Some(_) if is_whole(part) && is_whole(parent) => Link::Cut,
        Some(_) => Link::Unknown,
    }
}

fn is_whole(part: &PointDisk) -> bool {
    matches!(part.whole_sidecar(), Some(Ok(_)))
}

/// What comes behind the first run is lost in any case: it builds on something else than is there. One exchanged file in
/// between cuts twice, so what comes before it is right; of two runs the files beside tell, else their length.
fn foreign_runs(set: &BackupSet, runs: &[Run<'_>], found: &mut Verdicts) {
    const WHY: &str = "the sidecars of its disk do not go on from each other here";
    let [first, second, more @ ..] = runs else { return };
    let foreign = |run: &Run<'_>| run.iter().any(|(_, part)| beside_others(set, part) > 0);
    let first_is_foreign = match (foreign(first), foreign(second)) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ if !more.is_empty() || first.len() > second.len() => Some(false),
        _ => (first.len() < second.len()).then_some(true),
    };
    let exchanged = if first_is_foreign == Some(true) { first } else { second };
    if first_is_foreign.is_none() {
        first.iter().for_each(|(_, part)| found.doubtful(part));
    }
    exchanged.first().into_iter().for_each(|(_, part)| found.exchanged(part, WHY));
}

/// Sidecars of one point that list other files than each other: one of them is of another backup.
fn contradictions(set: &BackupSet, point: &Point, found: &mut Verdicts) {
    const WHY: &str = "its sidecar lists other files than those of the point's other disks";
    let lists = || point.disks.values().filter(|part| part.bond().is_some_and(|bond| bond.files.is_some()));
    let distinct: BTreeSet<_> = lists().map(|part| part.bond().and_then(|bond| bond.files)).collect();
    let settled = point
        .disks
        .values()
        .any(|part| matches!(found.0.get(part.path()), Some(SetProblem::Exchanged { .. })));
    if distinct.len() < 2 || settled {
        return;
    }
    let judged: Vec<_> =
        lists().filter(|part| is_whole(part)).map(|part| (beside_others(set, part), part)).collect();
    let (fewest, most) =
        (judged.iter().map(|(wrong, _)| *wrong).min(), judged.iter().map(|(wrong, _)| *wrong).max());
    for (wrong, part) in judged {
        if fewest == most {
            found.doubtful(part);
        } else if Some(wrong) != fewest {
            found.exchanged(part, WHY);
        }
    }
}

/// How many of the files that a sidecar lists are others. Those that bear a disk's name may have come along with it, and the
/// list of checkpoints changes from point to point.
fn beside_others(set: &BackupSet, part: &PointDisk) -> usize {
    let Some(Ok(sidecar)) = part.open_sidecar() else { return 0 };
    let of_disk = |file: &&FileIdentity| {
        use SetFile::{CheckpointList, Checksum, QcowInfo, Sidecar, Stream};
        let parsed = SetFile::parse(&file.name);
        matches!(
            parsed,
            Some(CheckpointList { .. } | Checksum { .. } | QcowInfo { .. } | Sidecar { .. } | Stream { .. })
        )
    };
    let files = sidecar.head().files.iter().filter(|file| !of_disk(file));
    files.filter(|file| matches!(file.is_at(&set.dir.join(&file.name)), Ok(false))).count()
}
