//! A backup from a domain that runs: one job for all of its disks, and one checkpoint where some of them keep bitmaps.
//!
//! ```text
//! drop old checkpoints ─► hold guest ─► backup-begin ─► release ─► copy all disks ─► end job
//! ```
//! A domain that was started for its backup is one of them, and is shut off at the end.
//! Must not live here: the watch over the job while it is copied (`watched_copy`), why it broke (`broken_job`).

use std::sync::atomic::{AtomicU64, Ordering};

use vmstream::chain::CheckpointName;
use vmstream::text;

use crate::engine::BackupError;
use crate::engine::cancel::StopReason;
use crate::engine::claims::claimed::Claims;
use crate::engine::claims::order::Scratch;
use crate::engine::copy::CopiedDisk;
use crate::engine::domain::xml::{self, Owner};
use crate::engine::fail_point::FailPoint;
use crate::engine::image::bitmap;
use crate::engine::image::readable_disk::ReadableDisk;
use crate::engine::look::image_state::ImageStates;
use crate::engine::plan::role::Role;
use crate::engine::plan::run_files::scratch_try;
use crate::engine::recovery::backup_job::end_copied_job;
use crate::engine::recovery::domain::{StartedDomain, end_started};
use crate::engine::run::closed::Closed;
use crate::engine::run::facts::{Found, Step, step};
use crate::engine::run::prepare::refuse_beside_job;
use crate::engine::run::request::Backup;
use crate::engine::run::source::Source;
use crate::engine::run::tasks::{self, DiskSource};
use crate::engine::run::{broken_job, checkpoints, watched_copy};
use crate::engine::snapshot::chain_marker;
use crate::engine::snapshot::encryption::ScratchSecret;
use crate::engine::snapshot::identity::Identity;
use crate::engine::snapshot::quiesce::{self, Quiesced};
use crate::engine::snapshot::scratch;
use vmhost::libvirt::Said;
use vmhost::nbd::Export;
use vmplan::Decision;
use vmreport::Method;

/// A domain that runs.
pub(super) struct Running<'a> {
    pub(super) backup: &'a Backup<'a>,
    /// The checkpoint of the point. `None` for a copy.
    pub(super) checkpoint: Option<CheckpointName>,
}

impl<'a> Source<'a> for Running<'a> {
    /// Marks the images, and begins the job while the guest is held still.
    fn begin(&mut self, identity: &mut Identity, claims: &mut Claims<'_>) -> Step {
        step(|found| {
            let Backup { engine, vm, content, cancel, .. } = self.backup;
            cancel.check()?;
            // libvirt would wait 30 s for the other job, with the guest held still.
            refuse_beside_job(vm, content)?;
            let checkpoint = self.checkpoint.map(|name| self.mark_images(name, claims, found)).transpose()?;
            let held = self.begin_job(checkpoint, identity, claims, &mut found.warnings)?;
            found.held = Some(held);
            engine.fail_points.at(FailPoint::Released);
            Ok(())
        })
    }

    fn copy(&mut self, claims: &Claims<'_>) -> Step<Vec<CopiedDisk>> {
        let peak_bytes = AtomicU64::new(0);
        let copied = self.copy_and_end_job(claims, &peak_bytes);
        (Found { scratch_peak_bytes: Some(peak_bytes.into_inner()), ..Found::default() }, copied)
    }

    /// The images, once the domain is shut off: then they hold still, and QEMU has written its bitmaps into them.
    fn heir(
        &self,
        failed: BackupError,
        claims: &Claims<'_>,
    ) -> Result<Box<dyn Source<'a> + 'a>, BackupError> {
        if broken_job::was_shut_down(self.backup, &failed, claims) {
            return Ok(Box::new(Closed::new(self.backup, self.checkpoint)));
        }
        Err(broken_job::why_not_copied(self.backup, failed, claims))
    }

    /// Tells that the job is over. Shuts the domain off if it was started for this.
    fn end(&mut self, claims: &mut Claims<'_>) -> Step<Option<ImageStates>> {
        step(|found| {
            claims.job_is_over()?;
            self.backup.engine.fail_points.at(FailPoint::JobEnded);
            self.end_started(claims, &mut found.warnings)
        })
    }
}

impl Running<'_> {
    /// Makes way for the checkpoint, and marks the images for its chain. Returns it with its owner.
    fn mark_images(
        &self,
        name: CheckpointName,
        claims: &mut Claims<'_>,
        found: &mut Found,
    ) -> Result<(CheckpointName, Owner), BackupError> {
        let Backup { engine, vm, observed, plan, content, .. } = self.backup;
        let images = chain_marker::Images {
            domain: &vm.domain,
            observed,
            is_full: matches!(plan.decision, Decision::Full { .. }),
            fail_points: &engine.fail_points,
        };
        let earlier = images.earlier()?;
        found.recovered = checkpoints::make_way(self.backup, name)?;
        engine.fail_points.at(FailPoint::CheckpointsDropped);
        let chain = images.settle(content, &earlier, claims, &mut found.warnings)?;
        Ok((name, Owner { run: claims.journal().id.clone(), chain }))
    }

    /// Begins the job while the guest is held still. Returns how it was held.
    fn begin_job(
        &self,
        checkpoint: Option<(CheckpointName, Owner)>,
        identity: &mut Identity,
        claims: &mut Claims<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Quiesced, BackupError> {
        let Backup { engine, vm, point, content, cancel, .. } = self.backup;
        let domain = &vm.domain;
        let (id, scratch) = (&claims.journal().id, &claims.journal().scratch);
        let scratch_dir = &engine.settings.scratch_dir;
        let try_scratch = || scratch::try_making(scratch_dir, &scratch_try(scratch_dir, id), cancel);
        try_scratch()?;
        let secret = ScratchSecret::prepare(domain.host(), id, &content.disks, scratch)?;
        if secret.is_some() {
            // That took its time.
            try_scratch()?;
        }
        let uuid = secret.as_ref().map(|secret| secret.uuid.as_str());
        let disks = content.job_disks(claims.journal(), uuid);
        let parent = point.parent.map(|p| p.to_string());
        let job_xml = xml::backup(&claims.journal().socket, parent.as_deref(), &disks);
        let checkpoint = checkpoint.map(|(name, owner)| (name.to_string(), owner));
        let checkpoint_xml = checkpoint.as_ref().map(|(name, owner)| xml::checkpoint(name, owner, &disks));
        let journal = claims.journal().clone();
        let begin = || {
            engine.fail_points.at_while_held(FailPoint::Held);
            let begin = || domain.backup_begin(&job_xml, checkpoint_xml.as_deref(), uuid.is_some());
            let mut begun = begin();
            if begun.as_ref().is_err_and(|e| e.said() == Said::BitmapExists) {
                // Only in the memory of QEMU, where no tool showed it; libvirt has no checkpoint of that name.
                if let Some((name, _)) = &checkpoint {
                    bitmap::remove_live(domain, name);
                }
                begun = begin();
            }
            match begun {
                // The daemon went away in the middle of the call: it may have begun the job before.
                Err(e) if e.is_connection_lost() && broken_job::appears(domain, &journal) => {}
                other => other?,
            }
            identity.read_held();
            engine.fail_points.at_while_held(FailPoint::Begun);
            Ok(())
        };
        let (answers, settings) = (self.backup.guest.is_some(), &engine.settings);
        claims.expect_job(Scratch { dir: scratch_dir.clone(), reserve: settings.scratch_reserve })?;
        let ((), held) = quiesce::still_during(domain, answers, settings, claims, warnings, begin)?;
        let was_started = claims.journal().started.is_some();
        Ok(Quiesced { method: if was_started { Method::StartedPaused } else { held.method }, ..held })
    }

    /// Copies all disks while the scratch directory is watched, and ends the job. `peak_bytes` becomes what the scratch
    /// files held at most.
    fn copy_and_end_job(
        &self,
        claims: &Claims<'_>,
        peak_bytes: &AtomicU64,
    ) -> Result<Vec<CopiedDisk>, BackupError> {
        let Backup { engine, vm, cancel, .. } = self.backup;
        engine.fail_points.at(FailPoint::Copying);
        let socket = &claims.journal().socket;
        let source = |disk: &ReadableDisk, role: Role| DiskSource {
            export: Export { socket: socket.clone(), name: disk.target.clone() },
            bitmap: role.since().map(|_| xml::job_bitmap_context(&disk.target)),
        };
        let tasks = tasks::of(self.backup, &source)?;
        let of_copy = cancel.child();
        let copied = watched_copy::copy(self.backup, &tasks, claims, peak_bytes, &of_copy);
        tracing::debug!("scratch files held {} at most", text::size(peak_bytes.load(Ordering::Relaxed)));
        engine.fail_points.at(FailPoint::Copied);
        // A scratch directory about to fill is the cause; broken reads are what follows.
        if let Some(reason @ (StopReason::ScratchFull { .. } | StopReason::ScratchHangs { .. })) =
            of_copy.stopped()
        {
            return Err(reason.into());
        }
        let copied = copied?;
        let stopped = || cancel.stopped().is_some();
        match end_copied_job(&vm.domain, claims.journal(), &stopped) {
            Ok(true) => Ok(copied),
            // Perhaps ended right above, because a stop was asked for when the last byte was copied.
            Ok(false) => Err(cancel.cause(self.backup.changed("its backup job was gone at the end"))),
            // Given up, because a stop was asked for.
            Err(error) => Err(cancel.cause(error)),
        }
    }

    /// Shuts the domain off if it was started for this, and looks at its images, which hold still from then on.
    fn end_started(
        &self,
        claims: &mut Claims<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<ImageStates>, BackupError> {
        let Some(started) = &claims.journal().started else { return Ok(None) };
        let Backup { engine, vm, observed, cancel, .. } = self.backup;
        if end_started(&vm.domain, started)? == StartedDomain::Resumed {
            warnings.push(engine.guard.keep(claims.journal()));
        }
        claims.set_started(None)?;
        // In this order: who waited for the VM may start it in between.
        let images = ImageStates::of(&observed.disks, cancel);
        if vm.domain.state()?.is_active() {
            return Ok(None);
        }
        let untold = |error| {
            warnings.push(format!(
                "its images cannot be looked at, so the next run takes it for changed: {error}"
            ));
        };
        Ok(images.map_err(untold).ok())
    }
}
