//! What a backup consists of, as data: which disk takes part how, into which file.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

use vmstream::chain::{CheckpointName, DiskTarget, Point, PointDisk, PointId, StreamKind, StreamSuffix};
use vmstream::sidecar::Digest;

use super::NoDisks;
use super::disk_plan::{DiskPlan, Treatment};
use crate::engine::claims::journal::{Journal, Stage};
use crate::engine::commit::point::{self, PointIdentity};
use crate::engine::commit::publish;
use crate::engine::copy::{DiskTask, SidecarPlan, SinkPlan, TripwirePlan};
use crate::engine::domain::image_format::ImageFormat;
use crate::engine::domain::xml::JobDisk;
use crate::engine::failure::Changed;
use crate::engine::image::readable_disk::ReadableDisk;
use crate::engine::look::observe::Observed;
use crate::engine::{BackupError, Engine, VmTarget};
use vmhost::nbd::Export;

/// What a disk becomes in this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A stream; of the changes since a checkpoint, or of the whole disk.
    Stream {
        /// The parent checkpoint. `None` also for a disk that was added to a chain.
        since: Option<CheckpointName>,
    },
    /// A raw image.
    RawImage,
}

impl Role {
    /// The checkpoint whose changes are wanted.
    pub(crate) fn since(self) -> Option<CheckpointName> {
        match self {
            Self::Stream { since } => since,
            Self::RawImage => None,
        }
    }
}

/// The disks of one point, and those that are left out.
pub(crate) struct JobPlan<'a> {
    pub(crate) disks: Vec<(&'a ReadableDisk, Role)>,
    pub(crate) skipped: Vec<String>,
}

/// Where a disk is read from.
pub(crate) struct DiskSource {
    pub(crate) export: Export,
    /// The meta context of the changes, for a disk of which only those are wanted.
    pub(crate) bitmap: Option<String>,
}

impl<'a> JobPlan<'a> {
    /// Gives every disk its role.
    ///
    /// # Errors
    /// When there is none; for a point of a chain, when none becomes a stream: a checkpoint could belong to nothing.
    pub(crate) fn new(observed: &'a Observed, planned: &[DiskPlan], domain: &str) -> Result<Self, NoDisks> {
        let role = |disk: &&ReadableDisk| {
            let plan = planned.iter().find(|plan| plan.target == disk.target)?;
            match plan.treatment {
                Treatment::Changes(since) => Some(Role::Stream { since: Some(since) }),
                Treatment::Whole | Treatment::Added => Some(Role::Stream { since: None }),
                Treatment::Copy if disk.format == ImageFormat::Qcow2 => Some(Role::Stream { since: None }),
                Treatment::RawImage | Treatment::Copy => Some(Role::RawImage),
                Treatment::Skipped(_) => None,
            }
        };
        let disks: Vec<_> = observed.disks.iter().filter_map(|disk| Some((disk, role(&disk)?))).collect();
        let is_copy = planned.iter().any(|plan| plan.treatment == Treatment::Copy);
        if !disks.iter().any(|(_, role)| is_copy || matches!(role, Role::Stream { .. })) {
            return Err(no_disks(domain, planned));
        }
        let skipped = planned.iter().filter(|plan| plan.skipped().is_some() && !plan.target.is_empty());
        Ok(Self { disks, skipped: skipped.map(|plan| plan.target.clone()).collect() })
    }

    /// How each disk of the domain takes part in the job, also those that do not.
    /// `secret` opens the scratch files of encrypted disks.
    pub(crate) fn job_disks(&self, journal: &Journal, secret: Option<&str>) -> Vec<JobDisk> {
        let exported =
            self.disks.iter().zip(&journal.scratch).map(|((disk, role), scratch)| JobDisk::Backup {
                target: disk.target.clone(),
                scratch: scratch.clone(),
                secret: disk.secret.as_ref().and(secret).map(str::to_owned),
                since: role.since().map(|name| name.to_string()),
                checkpoint: *role != Role::RawImage,
            });
        exported.chain(self.skipped.iter().map(|target| JobDisk::Skip { target: target.clone() })).collect()
    }

    /// The journal of a run that does this. The scratch files of a job come first in `scratch`, one for each disk, in order.
    pub(crate) fn journal(
        &self,
        engine: &Engine,
        vm: &VmTarget,
        observed: &Observed,
        point: &PointIdentity,
    ) -> Journal {
        let id = engine.next_id();
        let files = self.disks.iter().flat_map(|(disk, role)| {
            let kind = stream_kind(*role, point);
            let file = stream_file(&disk.target, kind, point.suffix_of(*role));
            [format!("{file}.chksum"), file, sidecar_file(&disk.target, kind)]
        });
        let partial = files.map(|name| publish::partial_name(&name));
        let partial = partial.chain(point::partial_names(vm, observed, point)).collect();
        let sockets = |socket: &Path| -> Vec<PathBuf> {
            self.disks.iter().map(|(disk, _)| nbd_socket(socket, &disk.target)).collect()
        };
        let Some(checkpoint) = point.checkpoint() else {
            let socket = servers_socket(&id);
            return Journal {
                scratch: sockets(&socket),
                stage: Stage::Copying { partial },
                ..Journal::new(vm, &engine.machine_id, id, socket)
            };
        };
        let scratch_dir = &engine.settings.scratch_dir;
        // AppArmor profiles that admins have installed for the old tool allow exactly this name.
        let socket = PathBuf::from(format!("/var/tmp/virtnbdbackup.{id}"));
        let scratch = self.disks.iter();
        let scratch = scratch.map(|(disk, _)| scratch_dir.join(format!("backup.{id}.{}", disk.target)));
        let tried = scratch_try(scratch_dir, &id);
        let streams = self.disks.iter().filter(|(_, role)| *role != Role::RawImage);
        Journal {
            scratch: scratch.chain(sockets(&socket)).chain([tried]).collect(),
            checkpoint: Some(checkpoint.to_string()),
            images: streams.map(|(disk, _)| disk.image.clone()).collect(),
            stage: Stage::Copying { partial },
            ..Journal::new(vm, &engine.machine_id, id, socket)
        }
    }

    /// What to copy, each disk from where `source` says.
    pub(crate) fn tasks(
        &self,
        engine: &Engine,
        vm: &VmTarget,
        observed: &Observed,
        point: &PointIdentity,
        source: &dyn Fn(&ReadableDisk, Role) -> DiskSource,
    ) -> Result<Vec<DiskTask>, BackupError> {
        let task = |&(disk, role): &(&ReadableDisk, Role)| -> Result<DiskTask, BackupError> {
            let DiskSource { export, bitmap } = source(disk, role);
            let kind = stream_kind(role, point);
            let file = stream_file(&disk.target, kind, point.suffix_of(role));
            let path = vm.chain_dir.join(publish::partial_name(&file));
            // The plan of a chain rests on the size that was seen; a disk of another size needs another plan.
            let size = point::export_size(&export, &disk.target)?;
            if size != disk.info.virtual_size && role != Role::RawImage && point.id != PointId::Copy {
                let what = format!("disk {} was resized", disk.target);
                return Err(Changed { domain: vm.domain.name().to_owned(), what }.into());
            }
            let sink = match role {
                Role::RawImage => SinkPlan::RawImage { path, size },
                Role::Stream { since } => {
                    let origin = point::Origin {
                        // The old tool puts the first one's name into copies, though no such checkpoint exists.
                        checkpoint: point.checkpoint().unwrap_or(CheckpointName::FIRST).to_string(),
                        parent: since.map(|p| p.to_string()).unwrap_or_default(),
                        incremental: since.is_some(),
                        time: point.time,
                    };
                    let compression = engine.settings.method.stated();
                    let meta = point::meta(&disk.target, disk.format, size, compression, &origin);
                    SinkPlan::Stream { path, meta }
                }
            };
            let sidecar_name = sidecar_file(&disk.target, kind);
            let sidecar = SidecarPlan {
                path: vm.chain_dir.join(publish::partial_name(&sidecar_name)),
                file: sidecar_name,
                parent: role.since().map(|name| name.to_string()),
                parent_digest: role.since().and_then(|name| parent_sidecar(observed, name, &disk.target)),
            };
            let earlier_streams = earlier_streams(observed, point, &disk.target);
            let is_watched = role.since().is_some() && engine.settings.has_tripwire(vm.domain.name());
            let tripwire = is_watched.then(|| tripwire(observed, &disk.target));
            let target = disk.target.clone();
            Ok(DiskTask { target, file, export, bitmap, sink, sidecar, earlier_streams, tripwire })
        };
        self.disks.iter().map(task).collect()
    }
}

/// Names that old restore programs confuse: their pattern for the streams of `vda` also matches those of `vdaa`.
pub(crate) fn confusable(plan: &JobPlan<'_>) -> Option<String> {
    let targets: Vec<&str> = plan.disks.iter().map(|(disk, _)| disk.target.as_str()).collect();
    let longer =
        |short: &&str| targets.iter().any(|long| long.len() > short.len() && long.starts_with(*short));
    let confused: Vec<&str> = targets.iter().copied().filter(|short| longer(short)).collect();
    if confused.is_empty() {
        return None;
    }
    Some(format!(
        "disk {} cannot be restored with virtnbdrestore: it would also apply the streams of disks whose names begin the same; use vmstream extract",
        confused.join(", ")
    ))
}

/// The error of a domain without a disk to back up.
fn no_disks(domain: &str, planned: &[DiskPlan]) -> NoDisks {
    let mut reasons = planned.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if reasons.is_empty() {
        reasons = "it has none".to_owned();
    }
    NoDisks { domain: domain.to_owned(), reasons }
}

/// The file that is made and removed to see whether scratch files can be. No disk is called so.
pub(crate) fn scratch_try(dir: &Path, id: &str) -> PathBuf {
    dir.join(format!("backup.{id}.try-writing"))
}

/// Where the sockets of the servers for the disks of a domain that is shut off begin. Not in the scratch directory: it may
/// hang, and such a backup needs nothing else there.
pub(crate) fn servers_socket(id: &str) -> PathBuf {
    PathBuf::from(format!("/var/tmp/vmbackup-{id}.nbd"))
}

/// The socket of the server for one disk of a domain that is shut off.
pub(crate) fn nbd_socket(socket: &Path, target: &str) -> PathBuf {
    PathBuf::from(format!("{}.{target}", socket.display()))
}

/// The streams of the chain that hold data of a disk. None for a new chain.
fn earlier_streams(observed: &Observed, point: &PointIdentity, target: &str) -> Vec<PathBuf> {
    let Some(set) = observed.set.as_ref().filter(|_| point.parent.is_some()) else { return vec![] };
    let entries = set.points.iter().flat_map(|p| &p.disks).filter(|(name, _)| name.as_str() == target);
    let streams = entries.filter_map(|(_, disk)| match disk {
        PointDisk::Stream(entry) => Some(entry.path.clone()),
        PointDisk::Raw(_) => None,
    });
    streams.collect()
}

/// What the chain knows of a disk at its newest point, which is the parent.
fn tripwire(observed: &Observed, target: &str) -> TripwirePlan {
    let points = observed.set.iter().flat_map(|set| &set.points);
    let chain = points.filter(|point| matches!(point.id, PointId::Checkpoint(_)));
    let sidecar = |point: &Point| match point.disks.iter().find(|(disk, _)| disk.as_str() == target)?.1 {
        PointDisk::Stream(entry) => entry.bound_sidecar(),
        PointDisk::Raw(_) => None,
    };
    TripwirePlan { sidecars: chain.map(sidecar).collect(), seed: RandomState::new().hash_one(target) }
}

/// The digest of a disk's sidecar at the parent. None when there is none, or none that can be used: no reason to fail.
fn parent_sidecar(observed: &Observed, parent: CheckpointName, target: &str) -> Option<Digest> {
    let set = observed.set.as_ref()?;
    let point = set.point(PointId::Checkpoint(parent)).ok()?;
    let (_, content) = point.disks.iter().find(|(disk, _)| disk.as_str() == target)?;
    match content.open_sidecar()? {
        Ok(sidecar) => Some(*sidecar.digest()),
        Err(problem) => {
            tracing::warn!("the content of disk {target} is known in part from here on: {problem}");
            None
        }
    }
}

impl PointIdentity {
    /// How the name of a disk's file ends.
    fn suffix_of(&self, role: Role) -> StreamSuffix {
        match role {
            Role::RawImage => StreamSuffix::Data,
            Role::Stream { .. } => self.suffix,
        }
    }
}

/// What a disk's file is called. In a chain every point but the first is called an increment, also when it holds the
/// whole disk because the disk was added.
fn stream_kind(role: Role, point: &PointIdentity) -> StreamKind {
    match (role, point.checkpoint()) {
        (Role::RawImage, _) | (_, None) => StreamKind::Copy,
        (Role::Stream { .. }, Some(_)) if point.parent.is_none() => StreamKind::Full,
        (Role::Stream { .. }, Some(name)) => StreamKind::Inc(name),
    }
}

/// A stream's file name for a target that came from libvirt.
pub(crate) fn stream_file(target: &str, kind: StreamKind, suffix: StreamSuffix) -> String {
    match target.parse::<DiskTarget>() {
        Ok(target) => kind.file_name(&target, suffix),
        // libvirt allows only letters and digits in a target; whatever it is stays inside the folder.
        Err(_) => format!("{}.{}", target.replace(['/', '.'], "_"), suffix.as_str()),
    }
}

/// The file name of a stream's sidecar.
fn sidecar_file(target: &str, kind: StreamKind) -> String {
    match target.parse::<DiskTarget>() {
        Ok(target) => kind.sidecar_name(&target),
        Err(_) => stream_file(target, kind, StreamSuffix::Data).replace(".data", ".idx"),
    }
}
