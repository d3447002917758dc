//! Gathers everything a decision rests on, in one place, without touching anything.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use vmstream::chain::cpt::CptError;
use vmstream::chain::{
    BackupSet, CheckpointName, Point, PointDisk, PointId, SetError, SetProblem, Severity, StreamSuffix,
};
use vmstream::stream::StreamError;
use vmstream::verify::{Depth, Level, VerifyOptions, verify_set};

use super::LookError;
use super::image_state::{self, Now};
use super::lineage::{self, Lineage};
use super::still::Asked;
use super::{chain_files, start_obstacle, still, unseen};
use crate::engine::VmTarget;
use crate::engine::cancel::Cancel;
use crate::engine::domain::disk::{self, Disk, DomainFacts, ImageSource, SkipReason, Skipped};
use crate::engine::domain::image_format::ImageFormat;
use crate::engine::domain::xml;
use crate::engine::domain::xml::Owner;
use crate::engine::failure::FileError;
use crate::engine::image::bitmap;
use crate::engine::image::damage;
use crate::engine::image::qemu_img;
use crate::engine::image::readable_disk::ReadableDisk;
use crate::engine::settings::EngineSettings;
use crate::engine::threads::{joined, some_at_once};
use vmconfig::value::OfflineMode;
use vmhost::libvirt::{ErrorKind, LibvirtError};
use vmplan::{Broken, ChainSeen, DiskSeen, ImageSeen, OfflineSeen, Seen};
use vmprogram::Used;
use vmstore::{RemovedCheckpoints, StateDir};

/// How often a chain is read that the system fails to read, and how long it has in between.
const READ_TRIES: usize = 4;
const READ_PAUSE: Duration = Duration::from_millis(500);

/// How many images are asked about at once.
const IMAGES_AT_ONCE: usize = 8;

/// Threads for the quick look at a chain.
const QUICK_WORKERS: NonZeroUsize = NonZeroUsize::MIN;

/// Everything that was seen of one domain.
pub(crate) struct Observed {
    pub(crate) seen: Seen,
    pub(crate) facts: DomainFacts,
    /// The XML to restore the domain from.
    pub(crate) config_xml: String,
    pub(crate) disks: Vec<ReadableDisk>,
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) set: Option<BackupSet>,
    /// The chain's id, if its images bear a witness.
    pub(crate) chain_id: Option<String>,
    /// Of a domain that is shut off: `(target, file, who)` of the disks that somebody writes to.
    elsewhere: Vec<(String, PathBuf, String)>,
}

impl Observed {
    /// The error of a domain that is shut off here while somebody writes to a disk that would be copied.
    pub(crate) fn in_use_elsewhere(&self, vm: &VmTarget, raw_disks: bool) -> Option<LookError> {
        let wanted =
            |target: &String| image_state::wanted(&self.disks, raw_disks).any(|disk| disk.target == *target);
        let (target, image, by) = self.elsewhere.iter().find(|(target, ..)| wanted(target))?.clone();
        Some(LookError::InUse { domain: vm.domain.name().to_owned(), target, image, by })
    }

    /// Images that QEMU has marked as damaged.
    pub(crate) fn marked_corrupt(&self) -> Vec<String> {
        let marked = self.disks.iter().filter(|disk| disk.info.is_marked_corrupt);
        marked.map(|disk| damage::words(&disk.target, &disk.image, damage::MARKED)).collect()
    }
}

/// Looks at the domain, its checkpoints, its images and its chain directory.
///
/// `unfinished` is the id of a run that ended in the middle and is not undone yet: its checkpoint is passed over.
pub(crate) fn observe(
    vm: &VmTarget,
    settings: &EngineSettings,
    unfinished: Option<&str>,
    cancel: &Cancel,
) -> Result<Observed, LookError> {
    let domain = &vm.domain;
    let active = domain.state()?.is_active();
    let live_xml = domain.xml(false)?;
    let mut facts = disk::parse_domain(&live_xml)?;
    facts.disks.select(&settings.include_disks, &settings.exclude_disks);
    let mut skipped = std::mem::take(&mut facts.disks.skipped);
    let config_xml = config_xml(vm, &facts, live_xml)?;
    let readable = std::mem::take(&mut facts.disks.readable);
    // Asking qemu-img takes as long as everything else.
    let (images, history) = thread::scope(|scope| {
        let images = scope.spawn(|| read_images(vm, readable, active, cancel));
        let history = History::of(vm, active, unfinished, settings.method.suffix());
        (joined(images), history)
    });
    let (images, history) = (images?, history?);
    let mut disks = vec![];
    for image in images {
        match image {
            Ok(disk) => disks.push(disk),
            Err(left_out) => skipped.push(left_out),
        }
    }
    let mut elsewhere = vec![];
    if !active {
        let asked = still::who_writes(disks.iter(), cancel)?;
        (disks, elsewhere) = left_out_or_used(disks, asked, &mut skipped);
    }
    let with_bitmap = history.lineage.disks_with_bitmap(&disks);
    let seen_disks = disks_seen(&history, &disks, &with_bitmap);
    let now = Now {
        disks: &disks,
        raw_disks: settings.raw_disks,
        config_xml: &config_xml,
        // That of files, also where a test has another time of day.
        time: SystemTime::now(),
        settle: settings.offline_settle,
    };
    let offline = if active
        || !elsewhere.is_empty()
        || !image_state::unchanged(&vm.chain_dir, history.set.as_ref(), &now, cancel)
    {
        OfflineSeen::Changed
    } else {
        OfflineSeen::Unchanged
    };
    let starts = !active && settings.rules.offline_mode == OfflineMode::Incremental;
    let obstacle = if starts { start_obstacle::of(vm, settings, &config_xml, &disks)? } else { None };
    let recording = || if active { bitmap::live(&vm.domain) } else { Ok(bitmap::kept(&disks)) };
    let revivable =
        if active || starts { history.lineage.revivable(&recording, &disks, &with_bitmap)? } else { vec![] };
    let History { set, chain, lineage, mut bitmap_fault } = history;
    if starts && lineage.parent_known {
        let parent = lineage.parent.as_ref();
        bitmap_fault = parent.and_then(|parent| bitmap::fault(&disks, &with_bitmap, &parent.name));
    }
    let seen = Seen {
        placement: vm.placement.clone(),
        rules: settings.rules.clone(),
        failed: vm.failed.clone(),
        unseen_change: vm.unseen_change.clone(),
        noted_changes: unseen::noted(&state_of(vm), vm, lineage.chain_id.as_deref()),
        active,
        chain,
        checkpoints: lineage.seen,
        revivable,
        bitmap_fault,
        disks: seen_disks,
        offline,
        obstacle: obstacle.map(|obstacle| obstacle.to_string()),
    };
    Ok(Observed { seen, facts, config_xml, disks, skipped, set, chain_id: lineage.chain_id, elsewhere })
}

/// The disks without those that others may write to, and do; and of the rest, those that somebody writes to all the same.
type Sorted = (Vec<ReadableDisk>, Vec<(String, PathBuf, String)>);

fn left_out_or_used(disks: Vec<ReadableDisk>, asked: Vec<Asked>, skipped: &mut Vec<Skipped>) -> Sorted {
    let (mut kept, mut used) = (vec![], vec![]);
    for (disk, Asked { used: by, image }) in disks.into_iter().zip(asked) {
        match by {
            Used::By(by) if disk.shareable => {
                skipped.push(Skipped { target: disk.target, reason: SkipReason::InUse(by) });
                continue;
            }
            Used::By(by) => used.push((disk.target.clone(), image, by)),
            Used::Nobody | Used::Unknown(_) => {}
        }
        kept.push(disk);
    }
    (kept, used)
}

/// The disks that become streams, each beside what the chain has of it.
fn disks_seen(history: &History, disks: &[ReadableDisk], with_bitmap: &[String]) -> Vec<DiskSeen> {
    let streamed = disks.iter().filter(|d| d.format == ImageFormat::Qcow2);
    let seen = streamed.map(|d| {
        let in_chain = newest_in_chain(history.set.as_ref(), &d.target);
        DiskSeen {
            target: d.target.clone(),
            size: d.info.virtual_size,
            has_bitmap: with_bitmap.contains(&d.target),
            size_in_chain: match in_chain {
                Some(PointDisk::Stream(entry)) => entry.meta.as_ref().ok().map(|m| m.virtual_size),
                Some(PointDisk::Raw(_)) | None => None,
            },
            raw_in_chain: matches!(in_chain, Some(PointDisk::Raw(_))),
            image: match with_bitmap.contains(&d.target) {
                true => history.lineage.image_of(&d.target, &d.info.bitmaps),
                false => ImageSeen::Own,
            },
        }
    });
    seen.collect()
}

/// What earlier backups left: on disk, and in libvirt.
struct History {
    set: Option<BackupSet>,
    chain: ChainSeen,
    lineage: Lineage,
    bitmap_fault: Option<String>,
}

impl History {
    fn of(
        vm: &VmTarget,
        active: bool,
        unfinished: Option<&str>,
        suffix: StreamSuffix,
    ) -> Result<Self, LookError> {
        let (set, mut chain) = chain_seen(&vm.chain_dir, vm.domain.uuid(), suffix)?;
        let mut known = vm.domain.checkpoints()?;
        if let Some(id) = unfinished {
            known.retain(|checkpoint| Owner::of(&checkpoint.xml).is_none_or(|owner| owner.run != id));
        }
        let removed = RemovedCheckpoints::of(&state_of(vm), &vm.folder).read();
        let lineage = Lineage::of(&known, vm, &chain.points, &removed);
        chain.lost_xml.clone_from(&lineage.lost_xml);
        let bitmap_fault = match &lineage.parent {
            Some(parent) if active && lineage.parent_known => {
                bitmap_fault(vm.domain.validate_checkpoint(parent))?
            }
            _ => None,
        };
        Ok(Self { set, chain, lineage, bitmap_fault })
    }
}

fn state_of(vm: &VmTarget) -> StateDir {
    StateDir::of(vm.vm_dir.parent().unwrap_or(&vm.vm_dir))
}

/// The persistent definition, unless the running domain has other disks: a restore must know those.
fn config_xml(vm: &VmTarget, live: &DomainFacts, live_xml: String) -> Result<String, LookError> {
    let inactive_xml = vm.domain.xml(true)?;
    let targets = |facts: &DomainFacts| {
        let disks = &facts.disks;
        let readable = disks.readable.iter().map(|d| d.target.clone());
        readable.chain(disks.skipped.iter().map(|s| s.target.clone())).collect::<Vec<_>>()
    };
    let inactive = disk::parse_domain(&inactive_xml)?;
    let mut wanted: Vec<_> = live.disks.readable.iter().map(|d| d.target.clone()).collect();
    wanted.retain(|target| !targets(&inactive).contains(target));
    Ok(if wanted.is_empty() { inactive_xml } else { live_xml })
}

/// Finds the image of each disk and asks `qemu-img` about it, some at once. A volume of a pool may turn out to be on no
/// file or block device of this host.
fn read_images(
    vm: &VmTarget,
    disks: Vec<Disk>,
    active: bool,
    cancel: &Cancel,
) -> Result<Vec<Result<ReadableDisk, Skipped>>, LookError> {
    let read = |disk: Disk| {
        let Disk { target, format, source, layout, shareable, secret } = disk;
        let image = match source {
            ImageSource::Path(path) => path,
            ImageSource::Volume { pool, volume } => {
                let path = PathBuf::from(vm.domain.host().volume_path(&pool, &volume)?);
                if !path.is_absolute() {
                    let reason = SkipReason::Network(format!("volume of pool {pool}"));
                    return Ok(Err(Skipped { target, reason }));
                }
                path
            }
        };
        let driver = if format == ImageFormat::Raw && secret.is_some() { "luks" } else { format.as_str() };
        let info =
            qemu_img::info(&image, driver, &layout, cancel).map_err(|e| cancel.cause::<LookError>(e))?;
        if active && info.is_qcow2_v2 && format == ImageFormat::Qcow2 {
            return Err(LookError::OldQcow2 { target, image });
        }
        Ok(Ok(ReadableDisk { target, format, image, info, layout, shareable, secret }))
    };
    some_at_once(IMAGES_AT_ONCE, disks, read).into_iter().collect()
}

/// What the folder holds. One that cannot be read is an error, not an empty one: what is in it would be overwritten.
fn chain_seen(
    dir: &Path,
    uuid: &str,
    suffix: StreamSuffix,
) -> Result<(Option<BackupSet>, ChainSeen), LookError> {
    let failed = |source| FileError { doing: "read folder", path: dir.to_owned(), source };
    let is_backup =
        |name: &String| [".data", ".zstd", ".cpt"].into_iter().any(|ending| name.ends_with(ending));
    let names = match chain_files::entries(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => vec![],
        other => other.map_err(failed)?,
    };
    let has_files = names.iter().any(is_backup);
    let nothing = ChainSeen { has_files, ..ChainSeen::default() };
    let set = match open_readable(dir)? {
        Ok(set) => set,
        Err(SetError::NotASet { .. }) => return Ok((None, nothing)),
        Err(SetError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok((None, nothing));
        }
        Err(SetError::Read { source, .. }) => return Err(failed(source).into()),
        Err(e) => return Ok((None, ChainSeen { broken: Some(Broken::List(e.to_string())), ..nothing })),
    };
    let points = lineage::checkpoints_of(&set);
    let is_copy = points.is_empty() && set.points.iter().any(|p| p.id == PointId::Copy);
    let broken = chain_fault(&set, &points);
    let began = set.points.first().and_then(day_of);
    let other_vm = set.newest().and_then(uuid_of).filter(|of_chain| of_chain != uuid);
    let has_other_suffix = set.points.iter().flat_map(|p| p.disks.values()).any(|disk| match disk {
        PointDisk::Stream(entry) => entry.path.extension().is_some_and(|end| end != suffix.as_str()),
        PointDisk::Raw(_) => false,
    });
    let lost_xml = vec![];
    let chain = ChainSeen { points, has_files, is_copy, broken, began, other_vm, has_other_suffix, lost_xml };
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

/// What the chain holds of a disk at its newest point.
fn newest_in_chain<'a>(set: Option<&'a BackupSet>, target: &str) -> Option<&'a PointDisk> {
    let points = set?.points.iter().rev();
    points.flat_map(|p| &p.disks).find(|(name, _)| name.as_str() == target).map(|(_, disk)| disk)
}

fn bitmap_fault(validated: Result<(), LibvirtError>) -> Result<Option<String>, LookError> {
    match validated {
        Ok(()) => Ok(None),
        Err(e) if e.kind == ErrorKind::CheckpointInconsistent => Ok(Some(e.message)),
        // A daemon that cannot validate says so at backup-begin.
        Err(e) if e.kind == ErrorKind::Unsupported => Ok(None),
        Err(e) => Err(e.into()),
    }
}
