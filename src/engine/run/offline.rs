//! A copy of every disk of a domain that is shut off.

use std::time::Duration;

use crate::engine::cancel::Cancel;
use crate::engine::claims::owned::Owned;
use crate::engine::commit::point::PointIdentity;
use crate::engine::copy::{self, CopiedDisk};
use crate::engine::fail_point::FailPoint;
use crate::engine::image::damage;
use crate::engine::image::qemu_nbd::{Changes, QemuNbd};
use crate::engine::image::readable_disk::ReadableDisk;
use crate::engine::look::observe::Observed;
use crate::engine::look::still::Still;
use crate::engine::plan::job::{DiskSource, JobPlan, Role, nbd_socket};
use crate::engine::run::contained::contained;
use crate::engine::run::facts::Facts;
use crate::engine::run::publish::Made;
use crate::engine::run::undo::undo_after;
use crate::engine::snapshot::hold::Held;
use crate::engine::snapshot::identity::Identity;
use crate::engine::watch::Watch;
use crate::engine::{BackupError, Engine, VmTarget};
use vmhost::nbd::Export;
use vmplan::Plan;
use vmreport::Method;

/// One offline backup on its way.
pub(crate) struct Offline<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) vm: &'a VmTarget,
    pub(crate) observed: &'a Observed,
    pub(crate) plan: &'a Plan,
    pub(crate) watch: &'a dyn Watch,
    pub(crate) cancel: &'a Cancel,
}

impl Offline<'_> {
    /// Takes the copy. On any failure everything is as it was before.
    pub(crate) fn run(&self, facts: &mut Facts) -> Result<(), BackupError> {
        let (now, suffix) = (self.engine.clock.file_time(), self.engine.settings.method.suffix());
        let point = PointIdentity::next(&self.plan.decision, self.observed.set.as_ref(), now, suffix);
        let disks = JobPlan::new(self.observed, facts.every_disk(), self.vm.domain.name())?;
        let (identity, warning) = Identity::ask(self.engine, self.vm, self.observed, self.cancel, None);
        facts.warnings.extend(warning);
        let mut journal = disks.journal(self.engine, self.vm, self.observed, &point);
        journal.add_partial(identity.partial_names(&point.id.ident()));
        let mut owned = self.engine.own(self.vm, journal)?;
        self.engine.fail_points.at(FailPoint::JournalWritten);
        match contained(|| self.run_owned(&point, &disks, identity, &mut owned, facts)) {
            Ok(()) => Ok(owned.finish()?),
            Err(error) => {
                facts.warnings.push(undo_after(owned, error, self.vm.domain.host())?);
                Ok(())
            }
        }
    }

    fn run_owned(
        &self,
        point: &PointIdentity,
        disks: &JobPlan<'_>,
        identity: Identity,
        owned: &mut Owned<'_>,
        facts: &mut Facts,
    ) -> Result<(), BackupError> {
        let read: Vec<_> = disks.disks.iter().map(|(disk, _)| *disk).collect();
        let still = Still::begin(self.vm, &self.observed.disks, read.clone(), self.cancel)?;
        facts.damaged = read.iter().flat_map(|disk| damage::of(disk, self.cancel)).collect();
        self.engine.fail_points.at(FailPoint::Copying);
        let copied = self.copy_disks(point, disks, owned)?;
        self.engine.fail_points.at(FailPoint::Copied);
        let (images, untold) = still.end()?;
        facts.warnings.extend(untold);
        facts.held = Some(Held { method: Method::Offline, stopped: Duration::ZERO });
        let made = Made { point, copied, identity, images: Some(images) };
        self.engine.commit(self.vm, (self.observed, self.plan), made, owned, facts)
    }

    fn copy_disks(
        &self,
        point: &PointIdentity,
        disks: &JobPlan<'_>,
        owned: &Owned<'_>,
    ) -> Result<Vec<CopiedDisk>, BackupError> {
        let socket = |disk: &ReadableDisk| nbd_socket(&owned.journal().socket, &disk.target);
        let host = self.vm.domain.host();
        let server = |(disk, _): &(&ReadableDisk, Role)| {
            QemuNbd::start(host, disk, socket(disk), Changes::Not, self.cancel)
        };
        let _servers = disks.disks.iter().map(server).collect::<Result<Vec<_>, _>>()?;
        let source = |disk: &ReadableDisk, _| DiskSource {
            export: Export { socket: socket(disk), name: disk.target.clone() },
            bitmap: None,
        };
        let tasks = disks.tasks(self.engine, self.vm, self.observed, point, &source)?;
        Ok(copy::copy_all(&tasks, &self.engine.shared, self.watch, &self.cancel.child())?)
    }
}
