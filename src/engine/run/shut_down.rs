//! Finishes a point from the disks of a guest that was shut down during its backup.
//!
//! The job is gone with the process, but QEMU wrote its bitmaps into the images when it closed them. So the parent's
//! bitmap names what changed up to the shutdown (where a snapshot was made since, the bitmaps of that name together), the new checkpoint's bitmap goes on recording from before it (the next
//! increment holds a little too much, never too little), and the disks hold still.

use super::live::Live;
use crate::engine::BackupError;
use crate::engine::claims::owned::Owned;
use crate::engine::commit::point::PointIdentity;
use crate::engine::copy::{self, CopiedDisk};
use crate::engine::domain::xml;
use crate::engine::image::layers;
use crate::engine::image::qemu_img::Layer;
use crate::engine::image::qemu_nbd::{Changes, QemuNbd};
use crate::engine::image::readable_disk::ReadableDisk;
use crate::engine::image::union::Union;
use crate::engine::look::still::Still;
use crate::engine::plan::job::{DiskSource, JobPlan, Role, nbd_socket};
use vmhost::libvirt::DomainState;

/// Copies the disks of the domain, which has just been shut off, for the point that was begun live. Returns them, and
/// what deserves a look.
pub(crate) fn finish(
    live: &Live<'_>,
    point: &PointIdentity,
    plan: &JobPlan<'_>,
    owned: &Owned<'_>,
) -> Result<(Vec<CopiedDisk>, Vec<String>), BackupError> {
    if live.vm.domain.state()? == DomainState::Crashed {
        return Err(live.changed("its QEMU process was killed or crashed"));
    }
    let name = point.id.ident();
    let copied = plan.disks.iter().map(|(disk, _)| *disk).collect();
    let still = Still::begin(live.vm, &live.observed.disks, copied, live.cancel)?;
    let changes = |(disk, role): &(&ReadableDisk, Role)| changes(live, disk, *role, &name);
    let changes = plan.disks.iter().map(changes).collect::<Result<Vec<_>, _>>()?;
    let server = |((disk, _), changes): (&(&ReadableDisk, Role), &Kept)| {
        let socket = nbd_socket(&owned.journal().socket, &disk.target);
        QemuNbd::start(live.vm.domain.host(), disk, socket, changes.as_changes(), live.cancel)
    };
    let servers = plan.disks.iter().zip(&changes).map(server).collect::<Result<Vec<_>, _>>()?;
    let source = |disk: &ReadableDisk, role: Role| {
        let socket = nbd_socket(&owned.journal().socket, &disk.target);
        DiskSource {
            export: vmhost::nbd::Export { socket, name: disk.target.clone() },
            bitmap: role.since().map(|parent| xml::bitmap_context(&parent.to_string())),
        }
    };
    let tasks = plan.tasks(live.engine, live.vm, live.observed, point, &source)?;
    let copied = copy::copy_all(&tasks, &live.engine.shared, live.watch, &live.cancel.child())?;
    drop(servers);
    let (_, untold) = still.end()?;
    let told = "the VM was shut down during its backup; the restore point holds its disks as they were then";
    Ok((copied, untold.into_iter().chain([told.to_owned()]).collect()))
}

/// Where what changed in a disk is kept.
enum Kept {
    Nowhere,
    Bitmap(String),
    Union(Union),
}

impl Kept {
    fn as_changes(&self) -> Changes<'_> {
        match self {
            Self::Nowhere => Changes::Not,
            Self::Bitmap(name) => Changes::Bitmap(name),
            Self::Union(union) => Changes::Union(union),
        }
    }
}

/// Finds the bitmaps of a disk's parent, from its image down to the first without one, as libvirt does when a job begins.
/// All of them, and the new checkpoint's in the image itself, must have been closed in order.
fn changes(live: &Live<'_>, disk: &ReadableDisk, role: Role, name: &str) -> Result<Kept, BackupError> {
    if role == Role::RawImage {
        return Ok(Kept::Nowhere);
    }
    let lost = |bitmap: &str| {
        live.changed(&format!("it was shut off, and disk {} did not keep bitmap {bitmap}", disk.target))
    };
    let layers = layers::of(disk, live.cancel).map_err(|e| live.cancel.cause::<BackupError>(e))?;
    let is_sound = |layer: &Layer, bitmap: &str| layer.sound_bitmaps.iter().any(|sound| sound == bitmap);
    if !layers.first().is_some_and(|top| is_sound(top, name)) {
        return Err(lost(name));
    }
    let Some(parent) = role.since().map(|parent| parent.to_string()) else { return Ok(Kept::Nowhere) };
    let has = layers.iter().take_while(|layer| layer.bitmaps.contains(&parent)).count();
    let having = &layers[..has];
    match having {
        _ if !having.iter().all(|layer| is_sound(layer, &parent)) => Err(lost(&parent)),
        [] => Err(lost(&parent)),
        [_] => Ok(Kept::Bitmap(parent)),
        _ => {
            let (host, dir) = (live.vm.domain.host(), &live.engine.settings.scratch_dir);
            Ok(Kept::Union(Union::of(host, disk, having, &parent, dir, live.cancel)?))
        }
    }
}
