//! The chain or copy that a folder holds, and what makes it impossible to go on with.
//!
//! Must not live here: what libvirt has of it (`checkpoint_origin`), the list of its files (`chain_files`).

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use vmstream::chain::cpt::CptError;
use vmstream::chain::{
    BackupSet, CheckpointName, Point, PointDisk, PointId, SetError, SetProblem, Severity, StreamSuffix,
};
use vmstream::stream::StreamError;
use vmstream::verify::{Depth, Level, VerifyOptions, verify_set};

use super::{LookError, chain_files, checkpoint_origin};
use crate::engine::domain::xml;
use crate::engine::failure::FileError;
use vmplan::{Broken, ChainFacts};

/// How often a chain is read that the system fails to read, and how long it has in between.
const READ_TRIES: usize = 4;
const READ_PAUSE: Duration = Duration::from_millis(500);

/// Threads for the quick look at a chain.
const QUICK_WORKERS: NonZeroUsize = NonZeroUsize::MIN;

/// What the folder holds. One that cannot be read is an error, not an empty one: what is in it would be overwritten.
pub(super) fn chain_seen(
    dir: &Path,
    uuid: &str,
    suffix: StreamSuffix,
) -> Result<(Option<BackupSet>, ChainFacts), LookError> {
    let failed = |source| FileError { doing: "read folder", path: dir.to_owned(), source };
    let is_backup =
        |name: &String| [".data", ".zstd", ".cpt"].into_iter().any(|ending| name.ends_with(ending));
    let names = match chain_files::entries(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => vec![],
        other => other.map_err(failed)?,
    };
    let has_files = names.iter().any(is_backup);
    let nothing = ChainFacts { has_files, ..ChainFacts::default() };
    let set = match open_readable(dir)? {
        Ok(set) => set,
        Err(SetError::NotASet { .. }) => return Ok((None, nothing)),
        Err(SetError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok((None, nothing));
        }
        Err(SetError::Read { source, .. }) => return Err(failed(source).into()),
        Err(e) => return Ok((None, ChainFacts { broken: Some(Broken::List(e.to_string())), ..nothing })),
    };
    let points = checkpoint_origin::checkpoints_of(&set);
    // Also one that has no disk.
    let has_files = has_files || !set.points.is_empty();
    let is_copy = points.is_empty() && set.points.iter().any(|p| p.id == PointId::Copy);
    let broken = chain_fault(&set, &points);
    let began = set.points.first().and_then(day_of);
    let other_vm = set.newest().and_then(uuid_of).filter(|of_chain| of_chain != uuid);
    let has_other_suffix = set.points.iter().flat_map(|p| p.disks.values()).any(|disk| match disk {
        PointDisk::Stream(entry) => entry.path.extension().is_some_and(|end| end != suffix.as_str()),
        PointDisk::Raw(_) => false,
    });
    let lost_xml = vec![];
    let chain =
        ChainFacts { points, has_files, is_copy, broken, began, other_vm, has_other_suffix, lost_xml };
    Ok((Some(set), chain))
}

/// Opens a folder of which everything can be read that a chain is judged by. What the system cannot read now says nothing
/// about the content: it is read again, and then it is the error, never a reason to give up a chain.
fn open_readable(dir: &Path) -> Result<Result<BackupSet, SetError>, LookError> {
    for _ in 1..READ_TRIES {
        let opened = BackupSet::open(dir);
        if opened.as_ref().map_or(None, unreadable).is_none() {
            return Ok(opened);
        }
        thread::sleep(READ_PAUSE);
    }
    let opened = BackupSet::open(dir);
    match opened.as_ref().map_or(None, unreadable) {
        Some((path, message)) => Err(LookError::ChainUnreadable { path, message }),
        None => Ok(opened),
    }
}

/// The first file of a set that the system failed to read, and what it said.
fn unreadable(set: &BackupSet) -> Option<(PathBuf, String)> {
    let list = set.problems.iter().find_map(|problem| match problem {
        SetProblem::ListDamaged { path, source: CptError::Read { source } } => {
            source.raw_os_error().map(|_| (path.clone(), source.to_string()))
        }
        _ => None,
    });
    let stream = |disk: &PointDisk| match disk {
        PointDisk::Stream(entry) => match &entry.meta {
            Err(StreamError::Read { source, .. }) => Some((entry.path.clone(), source.to_string())),
            _ => None,
        },
        PointDisk::Raw(_) => None,
    };
    list.or_else(|| set.points.iter().flat_map(|point| point.disks.values()).find_map(stream))
}

/// The local day of a point, as its streams have it. Their modification times are only the next best: copies lose them.
fn day_of(point: &Point) -> Option<Date> {
    let written = |disk: &PointDisk| match disk {
        PointDisk::Stream(entry) => entry.meta.as_ref().ok()?.date.get(..10)?.parse().ok(),
        PointDisk::Raw(_) => None,
    };
    let modified = || {
        let time = point.disks.values().map(PointDisk::modified).max()?;
        Some(Timestamp::try_from(time).ok()?.to_zoned(TimeZone::system()).date())
    };
    point.disks.values().find_map(written).or_else(modified)
}

/// The UUID in a point's domain XML.
fn uuid_of(point: &Point) -> Option<String> {
    xml::uuid(&fs::read_to_string(point.vmconfig.as_ref()?).ok()?)
}

/// What makes a chain impossible to continue: a gap, or a stream of it that is missing or unreadable.
fn chain_fault(set: &BackupSet, points: &[CheckpointName]) -> Option<Broken> {
    for (want, name) in (0_u32..).zip(points) {
        if name.number() != want {
            return Some(Broken::List(format!("restore point virtnbdbackup.{want} is missing")));
        }
    }
    let of_list = |p: &SetProblem| {
        use SetProblem::{ListDamaged, ListMissing, ListShort, ManyLists};
        matches!(p, ListMissing | ListDamaged { .. } | ListShort { .. } | ManyLists { .. })
    };
    let lost = set.problems.iter().find(|p| p.severity() == Severity::Damage || of_list(p));
    if let Some(problem) = lost {
        let text = problem.to_string();
        return Some(if of_list(problem) { Broken::List(text) } else { Broken::Data(text) });
    }
    let begun = |p: &&SetProblem| matches!(p, SetProblem::Leftover { .. } | SetProblem::Unfinished { .. });
    if let Some(leftover) = set.problems.iter().find(begun) {
        // A list that was shortened, as likely as a run that broke off: the next points would replace those files.
        return Some(Broken::List(leftover.to_string()));
    }
    // Both ends of each file, their lengths, and what binds them: no content.
    let quick = VerifyOptions { depth: Depth::Quick, workers: QUICK_WORKERS };
    let report = verify_set(set, quick, &());
    let mut findings = report.streams.iter().flat_map(|stream| &stream.findings);
    let damage = findings.find(|finding| finding.level == Level::Damage)?;
    Some(Broken::Data(format!("{}: {}", damage.path.display(), damage.message)))
}
