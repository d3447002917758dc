//! Finishes a point from the disks of a guest that was shut down during its backup.
//!
//! The job is gone with the process, but QEMU wrote its bitmaps into the images when it closed them. So the parent's
//! bitmap names what changed up to the shutdown, the new checkpoint's bitmap goes on recording from before it (the next
//! increment holds a little too much, never too little), and the disks hold still.

use super::copy::{self, CopiedDisk};
use super::image_state::ImageStates;
use super::job::{DiskSource, JobPlan, Role, nbd_socket};
use super::live::Live;
use super::observe::ReadableDisk;
use super::owned::Owned;
use super::point::PointIdentity;
use super::qemu_nbd::QemuNbd;
use super::{BackupError, qemu_img, xml};
use crate::libvirt::DomainState;

/// Copies the disks of the domain, which has just been shut off, for the point that was begun live.
pub(super) fn finish(
    live: &Live<'_>,
    point: &PointIdentity,
    plan: &JobPlan<'_>,
    owned: &Owned<'_>,
) -> Result<Vec<CopiedDisk>, BackupError> {
    if live.vm.domain.state()? == DomainState::Crashed {
        return Err(live.changed("its QEMU process was killed or crashed"));
    }
    let name = point.name.to_string();
    for (disk, role) in plan.disks.iter().filter(|(_, role)| *role != Role::RawImage) {
        let sound = qemu_img::info(&disk.image, disk.format.as_str(), live.cancel)?.sound_bitmaps;
        let since = role.since().map(|parent| parent.to_string());
        if let Some(lost) = since.iter().chain([&name]).find(|bitmap| !sound.contains(bitmap)) {
            let what = format!("it was shut off, and disk {} did not keep bitmap {lost}", disk.target);
            return Err(live.changed(&what));
        }
    }
    let before = ImageStates::of(&live.observed.disks, live.cancel);
    let server = |(disk, role): &(&ReadableDisk, Role)| {
        let socket = nbd_socket(&owned.journal().socket, &disk.target);
        let bitmap = role.since().map(|parent| parent.to_string());
        QemuNbd::start(live.vm.domain.host(), disk, socket, bitmap.as_deref(), live.cancel)
    };
    let servers = plan.disks.iter().map(server).collect::<Result<Vec<_>, _>>()?;
    let source = |disk: &ReadableDisk, role: Role| {
        let socket = nbd_socket(&owned.journal().socket, &disk.target);
        DiskSource {
            export: crate::nbd::Export { socket, name: disk.target.clone() },
            bitmap: role.since().map(|parent| xml::bitmap_context(&parent.to_string())),
        }
    };
    let tasks = plan.tasks(live.engine, live.vm, live.observed, point, &source)?;
    let copied = copy::copy_all(&tasks, &live.engine.shared, live.watch, &live.cancel.child())?;
    drop(servers);
    let started = live.vm.domain.state()?.is_active();
    if started || before.is_none() || ImageStates::of(&live.observed.disks, live.cancel) != before {
        return Err(live.changed("it was shut down, and started again before its disks were copied"));
    }
    Ok(copied)
}
