//! Gathers everything a decision rests on, in one place, without touching anything.

use std::path::PathBuf;
use std::thread;
use std::time::SystemTime;

use vmstream::chain::{BackupSet, PointDisk, SetProblem, StreamSuffix};
use vmstream::text;

use super::LookError;
use super::chain::chain_seen;
use super::checkpoint_origin::CheckpointOrigin;
use super::disk_images::read_images;
use super::image_state::{self, ImageStates, Now};
use super::still::Asked;
use super::{start_obstacle, still, unnoted_copy, unseen};
use crate::engine::VmTarget;
use crate::engine::cancel::Cancel;
use crate::engine::domain::boot_file::BootRole;
use crate::engine::domain::facts::{DomainFacts, parse_domain};
use crate::engine::domain::image_format::ImageFormat;
use crate::engine::domain::not_backed_up;
use crate::engine::domain::skip_reason::{SkipReason, Skipped};
use crate::engine::domain::xml::Owner;
use crate::engine::image::bitmap;
use crate::engine::image::damage;
use crate::engine::image::readable_disk::ReadableDisk;
use crate::engine::settings::{EngineSettings, TpmSettings};
use crate::engine::threads::joined;
use vmconfig::value::OfflineMode;
use vmhost::identity;
use vmhost::libvirt::{DomainState, ErrorKind, LibvirtError};
use vmplan::{ChainFacts, DiskFacts, Facts, ImageFacts, OfflineFacts};
use vmprogram::Used;
use vmstore::{RemovedCheckpoints, StateDir};

/// Everything that was seen of one domain.
pub(crate) struct Observed {
    pub(crate) seen: Facts,
    pub(crate) facts: DomainFacts,
    /// The XML to restore the domain from: the persistent definition, unless the running domain has other disks.
    pub(crate) config_xml: String,
    pub(crate) disks: Vec<ReadableDisk>,
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) set: Option<BackupSet>,
    /// The chain's id, if its images bear a chain marker.
    pub(crate) chain_id: Option<String>,
    /// What was wrong with the images of a domain that is shut off when the newest point was taken, if they are as they were.
    damaged_then: Vec<String>,
    /// How what a domain that is shut off writes to besides its disks stands.
    pub(crate) beside: Option<ImageStates>,
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

    /// What to say of a chain whose streams lost the order of their times.
    pub(crate) fn times_out_of_order(&self) -> Option<String> {
        let set = self.set.as_ref()?;
        let lost =
            set.problems.iter().filter(|problem| matches!(problem, SetProblem::TimeOrder { .. })).count();
        (lost > 0).then(|| {
            format!(
                "the times of {} of the chain are not in order, as after a copy that keeps no times: virtnbdrestore, which goes by \
                 them, would put wrong disks together; vmstream does not. Repair: vmstream doctor --repair-times '{}'",
                text::count(lost, "stream"),
                set.dir.display()
            )
        })
    }

    /// What is known to be wrong with its images without reading them: QEMU has marked them, or it was found before and nothing
    /// changed since.
    pub(crate) fn known_damage(&self) -> Vec<String> {
        let marked = self.disks.iter().filter(|disk| disk.info.is_marked_corrupt);
        let marked = marked.map(|disk| damage::words(&disk.target, &disk.image, damage::MARKED));
        let mut known: Vec<String> = marked.collect();
        known.extend(
            self.damaged_then.iter().filter(|then| !known.contains(then)).cloned().collect::<Vec<_>>(),
        );
        known
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
    let state = domain.state()?;
    if state == DomainState::Paused && domain.is_paused_by_migration()? {
        return Err(LookError::NotResumed { domain: domain.name().to_owned() });
    }
    let active = state.is_active();
    let live_xml = domain.xml(false)?;
    let mut facts = parse_domain(&live_xml)?;
    // Only what a person sees is missing then.
    let with_passwords = domain.xml_with_passwords();
    facts.not_backed_up.extend(with_passwords.iter().flat_map(|xml| not_backed_up::passwords(xml)));
    let of_vm = settings.excluded_disks_of(domain.name());
    facts.disks.select(&settings.include_disks, &settings.exclude_disks, of_vm);
    let inactive_xml = domain.xml(true)?;
    let mut inactive = parse_domain(&inactive_xml)?.disks;
    let config_xml = if inactive.name_all(&facts.disks.readable) { inactive_xml } else { live_xml.clone() };
    inactive.select(&settings.include_disks, &settings.exclude_disks, of_vm);
    let mut skipped = inactive.dropped_at_start(&facts.disks);
    skipped.append(&mut facts.disks.skipped);
    let readable = std::mem::take(&mut facts.disks.readable);
    // Asking qemu-img takes as long as everything else.
    let (images, history) = thread::scope(|scope| {
        let images = scope.spawn(|| read_images(vm, readable, cancel));
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
    let asked = if active { vec![] } else { still::who_writes(disks.iter(), cancel)? };
    let mut elsewhere = vec![];
    if !active {
        (disks, elsewhere) = left_out_or_used(disks, &asked, &mut skipped);
    }
    let mut with_bitmap = history.origin.disks_with_bitmap(&disks);
    let beside = beside_disks(vm, settings, &facts, &config_xml).filter(|_| !active);
    let beside = beside.and_then(|files| image_state::beside(&files, cancel));
    let now = Now {
        disks: &disks,
        raw_disks: settings.raw_disks,
        config_xml: &config_xml,
        beside: beside.as_ref(),
        // That of files, also where a test has another time of day.
        time: SystemTime::now(),
        settle: settings.rules.offline_settle,
    };
    let copies_disks = image_state::wanted(&disks, settings.raw_disks).next().is_some();
    let may_be_same = !active && elsewhere.is_empty();
    let (offline, damaged_then) = match &vm.while_off {
        Some(before) if active => (before.offline.clone(), vec![]),
        _ if may_be_same => images_seen(vm, &history, &now, (&live_xml, &asked), cancel),
        _ => (OfflineFacts::Changed, vec![]),
    };
    let starts = !active && settings.rules.offline_mode == OfflineMode::Incremental;
    let obstacle = if starts { start_obstacle::of(vm, settings, &config_xml, &disks)? } else { None };
    let recording = || if active { bitmap::live(&vm.domain) } else { Ok(bitmap::kept(&disks)) };
    let redefinable =
        if active || starts { history.origin.redefinable(&recording, &disks, &with_bitmap)? } else { vec![] };
    let mut bitmap_fault = history.bitmap_fault.clone();
    if starts && history.origin.parent_known {
        let parent = history.origin.parent.as_ref();
        bitmap_fault = parent.and_then(|parent| bitmap::fault(&disks, &with_bitmap, &parent.name));
    }
    let mut replaced = vec![];
    if bitmap_fault.is_some() {
        let found = history.origin.replaced(&recording, &disks, &with_bitmap, cancel)?;
        let is_as_before_start = vm.while_off.as_ref().is_none_or(|before| before.replaced == found);
        replaced = if is_as_before_start { found } else { vec![] };
        with_bitmap.retain(|target| !replaced.contains(target));
        bitmap_fault = bitmap_fault.filter(|_| replaced.is_empty());
    }
    let seen_disks = disks_seen(&history, &disks, &with_bitmap, &replaced);
    let History { set, chain, origin, .. } = history;
    let seen = Facts {
        placement: vm.placement.clone(),
        rules: settings.rules.clone(),
        failed: vm.failed.clone(),
        unseen_change: vm.unseen_change.clone(),
        noted_changes: unseen::noted(&state_of(vm), vm, origin.chain_id.as_deref()),
        active,
        chain,
        checkpoints: origin.seen,
        redefinable,
        bitmap_fault,
        copies_disks,
        disks: seen_disks,
        offline,
        obstacle: obstacle.map(|obstacle| obstacle.to_string()),
    };
    let chain_id = origin.chain_id;
    Ok(Observed { seen, facts, config_xml, disks, skipped, set, chain_id, damaged_then, beside, elsewhere })
}

/// The files besides disks that a domain writes to. `None` where they cannot be listed.
fn beside_disks(
    vm: &VmTarget,
    settings: &EngineSettings,
    facts: &DomainFacts,
    config_xml: &str,
) -> Option<Vec<PathBuf>> {
    let nvram = facts.boot_files.iter().filter(|file| file.role == BootRole::Nvram);
    let mut files: Vec<PathBuf> = nvram.map(|file| file.path.clone()).collect();
    let of_tpm = |tpm: &TpmSettings| identity::state_dir(config_xml, vm.domain.uuid(), &tpm.state_dir);
    if let Some(dir) = settings.tpm.as_ref().and_then(of_tpm) {
        files.extend(identity::state_files(&dir).ok()?);
    }
    Some(files)
}

/// The disks without those that others may write to, and do; and of the rest, those that somebody writes to all the same.
type Sorted = (Vec<ReadableDisk>, Vec<(String, PathBuf, String)>);

fn left_out_or_used(disks: Vec<ReadableDisk>, asked: &[Asked], skipped: &mut Vec<Skipped>) -> Sorted {
    let (mut kept, mut used) = (vec![], vec![]);
    for (disk, Asked { used: by, image }) in disks.into_iter().zip(asked) {
        match by {
            Used::By(by) if disk.shareable => {
                skipped.push(Skipped { target: disk.target, reason: SkipReason::InUse(by.clone()) });
                continue;
            }
            Used::By(by) => used.push((disk.target.clone(), image.clone(), by.clone())),
            Used::Nobody | Used::Unknown(_) => {}
        }
        kept.push(disk);
    }
    (kept, used)
}

/// The disks that become streams, each beside what the chain has of it.
fn disks_seen(
    history: &History,
    disks: &[ReadableDisk],
    with_bitmap: &[String],
    replaced: &[String],
) -> Vec<DiskFacts> {
    let streamed = disks.iter().filter(|d| d.format == ImageFormat::Qcow2);
    let seen = streamed.map(|d| {
        let in_chain = newest_in_chain(history.set.as_ref(), &d.target);
        DiskFacts {
            target: d.target.clone(),
            size: d.info.virtual_size,
            keeps_bitmaps: d.keeps_bitmaps(),
            has_bitmap: with_bitmap.contains(&d.target),
            size_in_chain: match in_chain {
                Some(PointDisk::Stream(entry)) => entry.meta.as_ref().ok().map(|m| m.virtual_size),
                Some(PointDisk::Raw(_)) | None => None,
            },
            raw_in_chain: matches!(in_chain, Some(PointDisk::Raw(_))),
            image: match with_bitmap.contains(&d.target) {
                _ if replaced.contains(&d.target) => ImageFacts::Replaced,
                true => history.origin.image_of(&d.target, &d.info.bitmaps),
                false => ImageFacts::Own,
            },
        }
    });
    seen.collect()
}

/// What the images of a domain that is shut off tell, and what was wrong with them at its newest point; with the definition as
/// libvirt shows it, and who was seen to have them.
fn images_seen(
    vm: &VmTarget,
    history: &History,
    now: &Now<'_>,
    (shown_xml, asked): (&str, &[Asked]),
    cancel: &Cancel,
) -> (OfflineFacts, Vec<String>) {
    let set = history.set.as_ref();
    if let Some(damaged_then) = image_state::unchanged(&vm.chain_dir, set, now, cancel) {
        return (OfflineFacts::Unchanged, damaged_then);
    }
    // Without a disk no date tells whether it ran meanwhile.
    let tells = image_state::wanted(now.disks, now.raw_disks).next().is_some()
        || now.beside.is_some_and(ImageStates::is_empty);
    let unnoted = tells.then(|| unnoted_copy::of(set, now, shown_xml, asked, cancel)).flatten();
    (unnoted.map_or(OfflineFacts::Changed, OfflineFacts::Unnoted), vec![])
}

/// What earlier backups left: on disk, and in libvirt.
struct History {
    set: Option<BackupSet>,
    chain: ChainFacts,
    origin: CheckpointOrigin,
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
        let origin = CheckpointOrigin::of(&known, vm, &chain.points, &removed);
        chain.lost_xml.clone_from(&origin.lost_xml);
        let bitmap_fault = match &origin.parent {
            Some(parent) if active && origin.parent_known => {
                bitmap_fault(vm.domain.validate_checkpoint(parent))?
            }
            _ => None,
        };
        Ok(Self { set, chain, origin, bitmap_fault })
    }
}

fn state_of(vm: &VmTarget) -> StateDir {
    StateDir::of(vm.backup_path())
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
