//! A backup from images that no QEMU has open: those of a domain that is shut off, through `qemu-nbd`.
//!
//! It is a copy of every disk; or it finishes the point of a domain that shut down in the middle. Then the job is gone with
//! the process, but QEMU wrote its bitmaps into the images when it closed them. So the parent's bitmap names what changed
//! up to the shutdown (where a snapshot was made since, the bitmaps of that name together), the new checkpoint's bitmap goes
//! on recording from before it (the next increment holds a little too much, never too little), and the disks hold still.

use std::time::Duration;

use vmstream::chain::CheckpointName;

use crate::engine::BackupError;
use crate::engine::claims::owned::Owned;
use crate::engine::copy::{self, CopiedDisk};
use crate::engine::domain::xml;
use crate::engine::fail_point::FailPoint;
use crate::engine::image::damage;
use crate::engine::image::layers;
use crate::engine::image::qemu_img::Layer;
use crate::engine::image::qemu_nbd::{Changes, QemuNbd};
use crate::engine::image::readable_disk::ReadableDisk;
use crate::engine::image::union::Union;
use crate::engine::look::image_state::ImageStates;
use crate::engine::look::still::Still;
use crate::engine::plan::role::Role;
use crate::engine::plan::run_files::nbd_socket;
use crate::engine::run::facts::{Step, step};
use crate::engine::run::request::Backup;
use crate::engine::run::source::Source;
use crate::engine::run::tasks::{self, DiskSource};
use crate::engine::snapshot::hold::Held;
use crate::engine::snapshot::identity::Identity;
use vmhost::libvirt::DomainState;
use vmhost::nbd::Export;
use vmreport::Method;

/// Images that no QEMU has open.
pub(super) struct Closed<'a> {
    backup: &'a Backup<'a>,
    /// The checkpoint that was made while the domain ran. `None` for a copy.
    begun: Option<CheckpointName>,
    /// What was noted when it began, and where what changed in each disk is kept.
    noted: Option<(Still<'a>, Vec<Kept>)>,
}

impl<'a> Closed<'a> {
    /// Of a domain that is shut off.
    pub(super) fn for_copy(backup: &'a Backup<'a>) -> Self {
        Self { backup, begun: None, noted: None }
    }

    /// Of a domain that was shut down since the checkpoint was made.
    pub(super) fn since(backup: &'a Backup<'a>, checkpoint: CheckpointName) -> Self {
        Self { backup, begun: Some(checkpoint), noted: None }
    }

    fn disks(&self) -> impl Iterator<Item = &'a ReadableDisk> {
        self.backup.content.disks.iter().map(|(disk, _)| *disk)
    }

    /// A run that finishes a point passed these places before.
    fn at(&self, place: FailPoint) {
        if self.begun.is_none() {
            self.backup.engine.fail_points.at(place);
        }
    }

    /// Finds the bitmaps of a disk's parent, from its image down to the first without one, as libvirt does when a job begins.
    /// All of them, and the new checkpoint's in the image itself, must have been closed in order.
    fn kept(&self, disk: &ReadableDisk, role: Role) -> Result<Kept, BackupError> {
        let Backup { engine, vm, cancel, .. } = self.backup;
        let Some(name) = self.begun.filter(|_| role != Role::RawImage).map(|name| name.to_string()) else {
            return Ok(Kept::Nowhere);
        };
        let lost = |bitmap: &str| {
            let target = &disk.target;
            self.backup.changed(&format!("it was shut off, and disk {target} did not keep bitmap {bitmap}"))
        };
        let layers = layers::of(disk, cancel).map_err(|e| cancel.cause::<BackupError>(e))?;
        let is_sound = |layer: &Layer, bitmap: &str| layer.sound_bitmaps.iter().any(|sound| sound == bitmap);
        if !layers.first().is_some_and(|top| is_sound(top, &name)) {
            return Err(lost(&name));
        }
        let Some(parent) = role.since().map(|parent| parent.to_string()) else { return Ok(Kept::Nowhere) };
        let has = layers.iter().take_while(|layer| layer.bitmaps.contains(&parent)).count();
        let having = &layers[..has];
        match having {
            _ if !having.iter().all(|layer| is_sound(layer, &parent)) => Err(lost(&parent)),
            [] => Err(lost(&parent)),
            [_] => Ok(Kept::Bitmap(parent)),
            _ => {
                let (host, dir) = (vm.domain.host(), &engine.settings.scratch_dir);
                Ok(Kept::Union(Union::of(host, disk, having, &parent, dir, cancel)?))
            }
        }
    }

    fn copy_disks(&self, owned: &Owned<'_>) -> Result<Vec<CopiedDisk>, BackupError> {
        let Backup { engine, vm, observed, point, content, watch, cancel, .. } = self.backup;
        let kept = self.noted.iter().flat_map(|(_, kept)| kept);
        let socket = |disk: &ReadableDisk| nbd_socket(&owned.journal().socket, &disk.target);
        let host = vm.domain.host();
        let server = |(disk, kept): (&ReadableDisk, &Kept)| {
            QemuNbd::start(host, disk, socket(disk), kept.as_changes(), cancel)
        };
        let _servers = self.disks().zip(kept).map(server).collect::<Result<Vec<_>, _>>()?;
        let source = |disk: &ReadableDisk, role: Role| DiskSource {
            export: Export { socket: socket(disk), name: disk.target.clone() },
            bitmap: role.since().map(|parent| xml::bitmap_context(&parent.to_string())),
        };
        let tasks = tasks::of(content, engine, vm, observed, point, &source)?;
        Ok(copy::copy_all(&tasks, &engine.shared, *watch, &cancel.child())?)
    }
}

impl<'a> Source<'a> for Closed<'a> {
    /// Notes how the images stand, which are the point's content if they hold still.
    fn begin(&mut self, _: &mut Identity, _: &mut Owned<'_>) -> Step {
        step(|found| {
            let Backup { vm, observed, cancel, .. } = self.backup;
            if self.begun.is_some() && vm.domain.state()? == DomainState::Crashed {
                return Err(self.backup.changed("its QEMU process was killed or crashed"));
            }
            let still = Still::begin(vm, &observed.disks, self.disks().collect(), cancel)?;
            if self.begun.is_none() {
                found.damaged = Some(self.disks().flat_map(|disk| damage::of(disk, cancel)).collect());
            }
            let kept = self.backup.content.disks.iter().map(|(disk, role)| self.kept(disk, *role));
            self.noted = Some((still, kept.collect::<Result<_, _>>()?));
            Ok(())
        })
    }

    fn copy(&mut self, owned: &Owned<'_>) -> Step<Vec<CopiedDisk>> {
        step(|_| {
            self.at(FailPoint::Copying);
            let copied = self.copy_disks(owned)?;
            self.at(FailPoint::Copied);
            Ok(copied)
        })
    }

    /// Sees that the images held still.
    fn end(&mut self, _: &mut Owned<'_>) -> Step<Option<ImageStates>> {
        step(|found| {
            let Some((still, _)) = self.noted.take() else { return Ok(None) };
            let (images, untold) = still.end()?;
            found.warnings = untold;
            if self.begun.is_some() {
                found.warnings.push(
                    "the VM was shut down during its backup; the restore point holds its disks as they were then"
                        .to_owned(),
                );
            } else {
                found.held = Some(Held { method: Method::Offline, stopped: Duration::ZERO });
            }
            Ok(Some(images))
        })
    }
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
