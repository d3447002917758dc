//! What is to be copied for a point, each disk from where its source says.
//!
//! Must not live here: which disks take part, and how (`plan::job`); copying (`copy`).

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;

use vmstream::chain::{CheckpointName, Point, PointDisk, PointId};
use vmstream::sidecar::Digest;

use crate::engine::BackupError;
use crate::engine::copy::{CopyError, DiskTask, SidecarPlan, SinkPlan, TripwirePlan};
use crate::engine::image::readable_disk::ReadableDisk;
use crate::engine::look::observe::Observed;
use crate::engine::plan::meta;
use crate::engine::plan::names::{partial_name, sidecar_file, stream_file};
use crate::engine::plan::point_identity::PointIdentity;
use crate::engine::plan::role::Role;
use crate::engine::run::request::Backup;
use vmhost::nbd::{Connection, Export};

/// Where a disk is read from.
pub(crate) struct DiskSource {
    pub(crate) export: Export,
    /// The meta context of the changes, for a disk of which only those are wanted.
    pub(crate) bitmap: Option<String>,
}

/// What to copy, each disk from where `source` says.
pub(super) fn of(
    backup: &Backup<'_>,
    source: &dyn Fn(&ReadableDisk, Role) -> DiskSource,
) -> Result<Vec<DiskTask>, BackupError> {
    let Backup { engine, vm, observed, point, content, .. } = backup;
    let task = |&(disk, role): &(&ReadableDisk, Role)| -> Result<DiskTask, BackupError> {
        let DiskSource { export, bitmap } = source(disk, role);
        let kind = point.stream_kind(role);
        let file = stream_file(&disk.target, kind, point.suffix_of(role));
        let path = vm.chain_dir.join(partial_name(&file));
        // The plan of a chain rests on the size that was seen; a disk of another size needs another plan.
        let size = export_size(&export, &disk.target)?;
        if size != disk.info.virtual_size && role != Role::RawImage && point.id != PointId::Copy {
            return Err(backup.changed(&format!("disk {} was resized", disk.target)));
        }
        let sink = match role {
            Role::RawImage => SinkPlan::RawImage { path, size },
            Role::Stream { since, .. } => {
                let origin = meta::Origin {
                    // The old tool puts the first one's name into copies, though no such checkpoint exists.
                    checkpoint: point.checkpoint().unwrap_or(CheckpointName::FIRST).to_string(),
                    parent: since.map(|p| p.to_string()).unwrap_or_default(),
                    incremental: since.is_some(),
                    time: point.time,
                };
                let compression = engine.settings.method.stated();
                let meta = meta::meta(&disk.target, disk.format, size, compression, &origin);
                SinkPlan::Stream { path, meta }
            }
        };
        let sidecar_name = sidecar_file(&disk.target, kind);
        let sidecar = SidecarPlan {
            path: vm.chain_dir.join(partial_name(&sidecar_name)),
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
    content.disks.iter().map(task).collect()
}

/// The size of an export: the disk's size at the snapshot.
fn export_size(export: &Export, target: &str) -> Result<u64, CopyError> {
    let opened = Connection::open(export, &[]);
    opened
        .map(|connection| connection.size())
        .map_err(|source| CopyError::Read { target: target.to_owned(), source: Box::new(source) })
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
