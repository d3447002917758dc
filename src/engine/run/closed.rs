//! A backup from images that no QEMU has open: those of a domain that is shut off, through `qemu-nbd`.
//!
//! It is a copy of every disk, also of a domain that shut down in the middle of one; or it finishes the point of such a
//! domain. Then the job is gone with the process, but QEMU wrote its bitmaps into the images when it closed them. So the parent's bitmap names what changed
//! up to the shutdown (where a snapshot was made since, the bitmaps of that name together), the new checkpoint's bitmap goes
//! on recording from before it (the next increment holds a little too much, never too little), and the disks hold still.

use std::time::Duration;

use vmstream::chain::CheckpointName;

use crate::engine::BackupError;
use crate::engine::claims::claimed::Claims;
use crate::engine::copy::{self, CopiedDisk, CopyError};
use crate::engine::domain::xml;
use crate::engine::fail_point::FailPoint;
use crate::engine::image::ImageError;
use crate::engine::image::changes::{Changes, LostBitmap};
use crate::engine::image::damage;
use crate::engine::image::qemu_nbd::QemuNbd;
use crate::engine::image::readable_disk::ReadableDisk;
use crate::engine::look::image_state::ImageStates;
use crate::engine::look::still::Still;
use crate::engine::plan::role::Role;
use crate::engine::plan::run_files::nbd_socket;
use crate::engine::run::facts::{Step, step};
use crate::engine::run::request::Backup;
use crate::engine::run::source::Source;
use crate::engine::run::tasks::{self, DiskSource};
use crate::engine::snapshot::identity::Identity;
use crate::engine::snapshot::quiesce::Quiesced;
use vmhost::libvirt::DomainState;
use vmhost::nbd::Export;
use vmreport::Method;

/// Images that no QEMU has open.
pub(super) struct Closed<'a> {
    backup: &'a Backup<'a>,
    /// The checkpoint that was made while the domain ran. `None` for a copy.
    begun: Option<CheckpointName>,
    /// What was noted when it began, and what changed in each disk.
    noted: Option<(Still<'a>, Vec<Changes>)>,
}

impl<'a> Closed<'a> {
    pub(super) fn new(backup: &'a Backup<'a>, begun: Option<CheckpointName>) -> Self {
        Self { backup, begun, noted: None }
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

    /// What changed in a disk since the parent, where the point holds only that.
    fn changes(&self, disk: &ReadableDisk, role: Role) -> Result<Changes, BackupError> {
        let Backup { engine, vm, cancel, .. } = self.backup;
        let Some(begun) = self.begun.filter(|_| role.is_marked()) else { return Ok(Changes::Not) };
        let (newest, since) = (begun.to_string(), role.since().map(|parent| parent.to_string()));
        let (host, dir) = (vm.domain.host(), &engine.settings.scratch_dir);
        let kept = Changes::kept(host, disk, &newest, since.as_deref(), dir, cancel)?;
        kept.map_err(|LostBitmap(bitmap)| {
            let target = &disk.target;
            self.backup.changed(&format!("it was shut off, and disk {target} did not keep bitmap {bitmap}"))
        })
    }

    fn copy_disks(&self, claims: &Claims<'_>) -> Result<Vec<CopiedDisk>, BackupError> {
        let Backup { engine, vm, watch, cancel, .. } = self.backup;
        let changes = self.noted.iter().flat_map(|(_, changes)| changes);
        let socket = |disk: &ReadableDisk| nbd_socket(&claims.journal().socket, &disk.target);
        let host = vm.domain.host();
        let server = |(disk, changes): (&ReadableDisk, &Changes)| {
            QemuNbd::start(host, disk, socket(disk), changes, cancel)
        };
        let mut servers = self.disks().zip(changes).map(server).collect::<Result<Vec<_>, _>>()?;
        let source = |disk: &ReadableDisk, role: Role| DiskSource {
            export: Export { socket: socket(disk), name: disk.target.clone() },
            bitmap: role.since().map(|parent| xml::bitmap_context(&parent.to_string())),
        };
        let tasks = tasks::of(self.backup, &source)?;
        let copied = copy::copy_all(&tasks, &engine.shared, *watch, &cancel.child());
        copied.map_err(|error| match self.why_server_ended(&error, &mut servers) {
            Some(message) => ImageError::QemuNbd { message }.into(),
            None => error.into(),
        })
    }

    /// What the server of a disk said when it ended, where that is why the disk could not be read.
    fn why_server_ended(&self, error: &CopyError, servers: &mut [QemuNbd]) -> Option<String> {
        let CopyError::Read { target, source } = error else { return None };
        if source.is_answer() {
            return None;
        }
        let place = self.disks().position(|disk| disk.target == *target)?;
        let said = servers.get_mut(place)?.last_words()?;
        let said = if said.is_empty() { "it was killed" } else { &said };
        Some(format!("qemu-nbd ended while disk {target} was copied: {said}"))
    }
}

impl<'a> Source<'a> for Closed<'a> {
    /// Notes how the images stand, which are the point's content if they hold still.
    fn begin(&mut self, _: &mut Identity, _: &mut Claims<'_>) -> Step {
        step(|found| {
            let Backup { vm, observed, cancel, .. } = self.backup;
            if self.begun.is_some() && vm.domain.state()? == DomainState::Crashed {
                return Err(self.backup.changed("its QEMU process was killed or crashed"));
            }
            let still = Still::begin(vm, &observed.disks, self.disks().collect(), cancel)?;
            if self.begun.is_none() {
                found.damaged = Some(self.disks().flat_map(|disk| damage::of(disk, cancel)).collect());
            }
            let changes = self.backup.content.disks.iter().map(|(disk, role)| self.changes(disk, *role));
            self.noted = Some((still, changes.collect::<Result<_, _>>()?));
            Ok(())
        })
    }

    fn copy(&mut self, claims: &Claims<'_>) -> Step<Vec<CopiedDisk>> {
        step(|_| {
            self.at(FailPoint::Copying);
            let copied = self.copy_disks(claims)?;
            self.at(FailPoint::Copied);
            Ok(copied)
        })
    }

    /// Sees that the images held still.
    fn end(&mut self, _: &mut Claims<'_>) -> Step<Option<ImageStates>> {
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
                found.held = Some(Quiesced { method: Method::Offline, stopped: Duration::ZERO });
            }
            Ok(Some(images))
        })
    }
}
