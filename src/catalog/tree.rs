//! The backups on disk, as rows want them: chains with their points and dates.
//!
//! Must not live here: what may be deleted. A date from here is for people; retention reads its own.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use vmstream::chain::{
    BackupSet, CheckpointName, Definition, DiskContent, Point, PointDisk, PointId, Severity,
};
use vmstream::sidecar::LeftOut;

use super::words::words;
use vmconfig::value::RotationPolicy;
use vmplan::rotation::{ACCUMULATE, Period};
use vmstore::{SetDir, VmDir};

words! {
    /// Where a restore point's date comes from.
    DateSource {
        /// The checkpoint's creation time: an instant.
        Checkpoint = "checkpoint",
        /// The stream's own text: the host's local time, without its zone.
        Stream = "stream",
    }
}

/// A folder with a chain or a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainFolder {
    /// The VM's name, as far as its files tell; else that of its folder.
    pub vm: String,
    /// The period it is in.
    pub period: String,
    /// The period's policy.
    pub policy: RotationPolicy,
    pub folder: PathBuf,
    /// It lies in an archive.
    pub archived: bool,
    /// Oldest first.
    pub points: Vec<PointOnDisk>,
    /// What is lost or contradicts itself.
    pub damage: Vec<String>,
}

/// A restore point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointOnDisk {
    /// Its name: `virtnbdbackup.N`, `diff.EPOCH`, `copy`.
    pub name: String,
    /// When it was taken and how that is known. `None` where no file tells.
    pub taken: Option<(Timestamp, DateSource)>,
    pub disks: Vec<String>,
    /// Bytes of its own files.
    pub file_bytes: u64,
    /// Every stream that it needs is there and readable at its beginning.
    pub restorable: bool,
}

impl ChainFolder {
    /// Points that can be restored.
    pub fn restorable(&self) -> usize {
        self.points.iter().filter(|point| point.restorable).count()
    }

    /// Bytes of its points' files.
    pub fn bytes(&self) -> u64 {
        self.points.iter().map(|point| point.file_bytes).sum()
    }

    /// Dates of the first and of the last point.
    pub fn dates(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        let date = |point: Option<&PointOnDisk>| point.and_then(|point| point.taken).map(|(at, _)| at);
        (date(self.points.first()), date(self.points.last()))
    }
}

/// The restore points in a folder, oldest first. None where there is no backup.
pub fn points_in(folder: &Path) -> Vec<PointOnDisk> {
    BackupSet::open(folder).map(|set| points_of(&set)).unwrap_or_default()
}

/// Every chain of a VM, period by period, the archived ones of a period before its own.
pub fn chains_of(vm: &VmDir) -> Vec<ChainFolder> {
    places(vm).filter_map(|place| chain_in(&place, vm)).collect()
}

/// The newest chain of a VM outside the archives: of the latest period of any policy that has one, or without periods.
pub fn newest_chain(vm: &VmDir) -> Option<ChainFolder> {
    let mut places: Vec<_> = places(vm).filter(|place| !place.archived).collect();
    let flat = places.pop();
    let first_day = |place: &ChainPlace| Period::parse(&place.period).map(Period::first_day);
    places.sort_by_key(|place| std::cmp::Reverse(first_day(place)));
    let open = |place: ChainPlace| chain_in(&place, vm);
    let of_period = places.into_iter().find_map(open);
    let newest = |chain: &ChainFolder| chain.dates().1;
    of_period.into_iter().chain(flat.and_then(open)).max_by_key(newest)
}

/// A folder in which a VM can have a chain.
struct ChainPlace {
    folder: PathBuf,
    period: String,
    policy: RotationPolicy,
    archived: bool,
}

/// Where a VM can have chains: its periods by name, then its own folder, each after its archives. What cannot be listed has none.
fn places(vm: &VmDir) -> impl Iterator<Item = ChainPlace> {
    vm.sets().flatten().filter_map(|SetDir { folder, inner, archived }| {
        let (period, policy) = match inner {
            Some(name) => Period::parse(&name).map(|period| (period.to_string(), period.policy()))?,
            None => (ACCUMULATE.to_owned(), RotationPolicy::Accumulate),
        };
        Some(ChainPlace { folder, period, policy, archived })
    })
}

/// The chain in one folder, `None` when there is none.
fn chain_in(place: &ChainPlace, vm: &VmDir) -> Option<ChainFolder> {
    let set = BackupSet::open(&place.folder).ok()?;
    let points = points_of(&set);
    if points.is_empty() {
        return None;
    }
    let vm = set.domain.clone().or_else(|| domain_of(&set)).unwrap_or_else(|| vm.folder().to_owned());
    let damage = set.problems.iter().filter(|problem| problem.severity() == Severity::Damage);
    let damage = damage.map(ToString::to_string).collect();
    Some(ChainFolder {
        vm,
        period: place.period.clone(),
        policy: place.policy,
        folder: place.folder.clone(),
        archived: place.archived,
        points,
        damage,
    })
}

/// The points of a set as rows want them.
pub(super) fn points_of(set: &BackupSet) -> Vec<PointOnDisk> {
    set.points.iter().map(|point| describe(set, point)).collect()
}

fn describe(set: &BackupSet, point: &Point) -> PointOnDisk {
    let disks = set.disks_at(point);
    let whole = |content: DiskContent<'_>| match content {
        DiskContent::Raw { .. } => true,
        DiskContent::Streams(streams) => streams.iter().all(|stream| stream.meta.is_ok()),
    };
    let restorable = |disk| set.content(disk, point.id).is_ok_and(whole);
    PointOnDisk {
        name: point.id.to_string(),
        taken: taken(set, point),
        file_bytes: point.disks.values().map(PointDisk::file_len).sum::<u64>()
            + point.definition.as_ref().map_or(0, Definition::bytes),
        restorable: (!disks.is_empty() || point.definition.is_some()) && disks.iter().all(restorable),
        disks: disks.into_iter().map(|disk| disk.to_string()).collect(),
    }
}

/// The disks that a point was taken without, each with the reason of then, as far as its folder tells.
pub fn left_out_of(folder: &Path, point: &str) -> Vec<LeftOut> {
    let of_point = || {
        let set = BackupSet::open(folder).ok()?;
        let point = set.points.iter().find(|found| found.id.to_string() == point)?;
        let mut sidecars = point.disks.values().filter_map(|disk| disk.open_sidecar()?.ok());
        let told = || Some(sidecars.next()?.head().left_out.clone());
        point.definition.as_ref().map(|definition| definition.left_out.clone()).or_else(told)
    };
    of_point().unwrap_or_default()
}

fn taken(set: &BackupSet, point: &Point) -> Option<(Timestamp, DateSource)> {
    let exact = match point.id {
        PointId::Checkpoint(name) => creation_time(&set.dir, name),
        PointId::Diff(second) => Timestamp::from_second(i64::try_from(second).ok()?).ok(),
        PointId::Copy => None,
    };
    let told = || {
        let dates = point.disks.values().filter_map(|disk| match disk {
            PointDisk::Stream(stream) => stream.meta.as_ref().ok()?.date.parse::<DateTime>().ok(),
            PointDisk::Raw(_) => None,
        });
        let definition = point.definition.iter().filter_map(|definition| definition.taken.parse().ok());
        let date = dates.chain(definition).next()?;
        date.to_zoned(TimeZone::system()).ok().map(|date| date.timestamp())
    };
    // Raw images alone: their sidecars know the second.
    let of_images = || {
        let mut sidecars = point.disks.values().filter_map(|disk| disk.open_sidecar()?.ok());
        Timestamp::from_second(i64::try_from(sidecars.next()?.head().taken_seconds).ok()?).ok()
    };
    let exact = exact.map(|at| (at, DateSource::Checkpoint));
    exact.or_else(|| told().or_else(of_images).map(|at| (at, DateSource::Stream)))
}

/// When libvirt made a checkpoint.
fn creation_time(dir: &Path, name: CheckpointName) -> Option<Timestamp> {
    let xml = fs::read_to_string(dir.join(format!("checkpoints/{name}.xml"))).ok()?;
    let document = roxmltree::Document::parse(&xml).ok()?;
    let time = document.root_element().children().find(|node| node.has_tag_name("creationTime"))?;
    Timestamp::from_second(time.text()?.trim().parse().ok()?).ok()
}

/// The name in the newest domain XML of a set.
fn domain_of(set: &BackupSet) -> Option<String> {
    let xml = fs::read_to_string(set.points.iter().rev().find_map(|point| point.vmconfig.as_ref())?).ok()?;
    let document = roxmltree::Document::parse(&xml).ok()?;
    let name = document.root_element().children().find(|node| node.has_tag_name("name"))?;
    name.text().map(str::to_owned)
}
