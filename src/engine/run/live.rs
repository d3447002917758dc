//! A backup of a domain that runs: one job and one checkpoint for all of its disks.
//!
//! ```text
//! journal ─► drop old checkpoints ─► hold guest ─► backup-begin ─► release ─► copy all disks ─► end job ─► publish
//!    └──────────────── any failure: end job, delete checkpoint, remove partial files ◄──────────────────┘
//! ```
//! A guest that shuts down in the middle takes the job with it. Its disks then hold still, and the point is finished
//! from them (`shut_down`).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vmstream::chain::CheckpointName;

use super::shut_down;
use crate::engine::cancel::{Cancel, StopReason};
use crate::engine::claims::beats::Beats;
use crate::engine::claims::journal::Journal;
use crate::engine::claims::order::Scratch;
use crate::engine::claims::owned::Owned;
use crate::engine::commit::point::PointIdentity;
use crate::engine::copy::{self, CopiedDisk, CopyError};
use crate::engine::domain::xml;
use crate::engine::domain::xml::Owner;
use crate::engine::fail_point::FailPoint;
use crate::engine::failure::Changed;
use crate::engine::image::bitmap;
use crate::engine::image::readable_disk::ReadableDisk;
use crate::engine::look::image_state::ImageStates;
use crate::engine::look::observe::Observed;
use crate::engine::plan::job::{self, DiskSource, JobPlan, Role};
use crate::engine::recovery::recover;
use crate::engine::recovery::recover::Ended;
use crate::engine::run::contained::contained;
use crate::engine::run::facts::Facts;
use crate::engine::run::publish::Made;
use crate::engine::run::undo::undo_after;
use crate::engine::snapshot::encryption::ScratchSecret;
use crate::engine::snapshot::hold::{self, Held};
use crate::engine::snapshot::identity::Identity;
use crate::engine::snapshot::scratch;
use crate::engine::snapshot::witness;
use crate::engine::watch::Watch;
use crate::engine::{BackupError, Engine, VmTarget};
use vmhost::guest::Guest;
use vmhost::libvirt::{Domain, DomainState, Said};
use vmhost::nbd::Export;
use vmplan::{Decision, Plan};
use vmreport::Method;
use vmstream::text;

/// How long a domain may take to be shut off after its job broke.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);
const SETTLE_PAUSE: Duration = Duration::from_millis(50);

/// How long the stages of a copy that failed may take to stop, before the job is ended under them.
const FAILURE_GRACE: Duration = Duration::from_secs(2);

/// How long a job may take to appear whose beginning was not confirmed.
const APPEAR_LIMIT: Duration = Duration::from_secs(5);

/// One live backup on its way.
pub(crate) struct Live<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) vm: &'a VmTarget,
    pub(crate) observed: &'a Observed,
    pub(crate) plan: &'a Plan,
    pub(crate) watch: &'a dyn Watch,
    pub(crate) cancel: &'a Cancel,
    /// The guest, if its agent answers.
    pub(crate) guest: Option<&'a Guest<'a>>,
}

/// A backup that is decided in all its parts, and owns nothing yet.
struct Ready<'a> {
    point: PointIdentity,
    plan: JobPlan<'a>,
    identity: Identity,
}

impl Live<'_> {
    /// Takes the backup. On any failure everything is as it was before.
    pub(crate) fn run(&self, facts: &mut Facts) -> Result<(), BackupError> {
        let (ready, journal) = self.prepare(facts)?;
        let mut owned = self.engine.own(self.vm, journal)?;
        self.engine.fail_points.at(FailPoint::JournalWritten);
        match contained(|| self.run_owned(ready, &mut owned, facts)) {
            Ok(()) => Ok(owned.finish()?),
            Err(error) => {
                facts.warnings.push(undo_after(owned, error, self.vm.domain.host())?);
                Ok(())
            }
        }
    }

    /// Takes the backup of a domain that was started for it, and shuts it off before the point is published. Whoever
    /// started it ends or undoes what is owned.
    pub(crate) fn run_started(&self, owned: &mut Owned<'_>, facts: &mut Facts) -> Result<(), BackupError> {
        let (ready, journal) = self.prepare(facts)?;
        owned.go_on_with(journal)?;
        self.engine.fail_points.at(FailPoint::JournalWritten);
        self.run_owned(ready, owned, facts)
    }

    fn prepare(&self, facts: &mut Facts) -> Result<(Ready<'_>, Journal), BackupError> {
        let (now, suffix) = (self.engine.clock.file_time(), self.engine.settings.method.suffix());
        let point = PointIdentity::next(&self.plan.decision, self.observed.set.as_ref(), now, suffix);
        let plan = JobPlan::new(self.observed, facts.every_disk(), self.vm.domain.name())?;
        facts.warnings.extend(job::confusable(&plan));
        let settings = &self.engine.settings;
        scratch::check_space(&settings.scratch_dir, settings.scratch_reserve, self.cancel)?;
        let (identity, warning) = Identity::ask(self.engine, self.vm, self.observed, self.cancel, self.guest);
        facts.warnings.extend(warning);
        let mut journal = plan.journal(self.engine, self.vm, self.observed, &point);
        journal.add_partial(identity.partial_names(&point.id.ident()));
        Ok((Ready { point, plan, identity }, journal))
    }

    fn run_owned(
        &self,
        Ready { point, plan, mut identity }: Ready<'_>,
        owned: &mut Owned<'_>,
        facts: &mut Facts,
    ) -> Result<(), BackupError> {
        let (point, plan) = (&point, &plan);
        let fail_points = &self.engine.fail_points;
        self.cancel.check()?;
        // libvirt would wait 30 s for the other job, with the guest held still.
        if self.vm.domain.has_job()? {
            return Err(BackupError::JobRunning { domain: self.vm.domain.name().to_owned() });
        }
        let images = self.images();
        let earlier = images.earlier()?;
        facts.recovered.extend(self.drop_checkpoints(point)?);
        fail_points.at(FailPoint::CheckpointsDropped);
        let chain = images.settle(plan, &earlier, owned, &mut facts.warnings)?;
        let owner = Owner { run: owned.journal().id.clone(), chain };
        let held = self.begin_job(point, plan, &owner, &mut identity, owned, &mut facts.warnings)?;
        facts.held = Some(held);
        fail_points.at(FailPoint::Released);
        let (scratch_peak_bytes, copied) = self.copy_disks(point, plan, owned);
        facts.scratch_peak_bytes = Some(scratch_peak_bytes);
        let copied = match copied {
            Ok(copied) => copied,
            Err(error) if self.was_shut_down(&error, owned) => {
                let (copied, warnings) = shut_down::finish(self, point, plan, owned)?;
                facts.warnings.extend(warnings);
                copied
            }
            Err(error) => return Err(self.why_not_copied(error, owned)),
        };
        owned.job_is_over()?;
        fail_points.at(FailPoint::JobEnded);
        let images = self.end_started(owned, &mut facts.warnings)?;
        let made = Made { point, copied, identity, images };
        self.engine.commit(self.vm, (self.observed, self.plan), made, owned, facts)
    }

    fn images(&self) -> witness::Images<'_> {
        witness::Images {
            domain: &self.vm.domain,
            observed: self.observed,
            is_full: matches!(self.plan.decision, Decision::Full { .. }),
            fail_points: &self.engine.fail_points,
        }
    }

    /// Shuts the domain off if it was started for this, and looks at its images, which hold still from then on.
    fn end_started(
        &self,
        owned: &mut Owned<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<ImageStates>, BackupError> {
        let Some(started) = &owned.journal().started else { return Ok(None) };
        let domain = &self.vm.domain;
        if recover::end_started(domain, started)? == Ended::Resumed {
            warnings.push(self.engine.guard.keep(owned.journal()));
        }
        owned.set_started(None)?;
        // In this order: who waited for the VM may start it in between.
        let images = ImageStates::of(&self.observed.disks, self.cancel);
        if domain.state()?.is_active() {
            return Ok(None);
        }
        let untold = |error| {
            warnings.push(format!(
                "its images cannot be looked at, so the next run takes it for changed: {error}"
            ));
        };
        Ok(images.map_err(untold).ok())
    }

    /// Deletes the checkpoints that no chain needs any more, and bitmaps that no checkpoint accounts for, so that their
    /// names are free. Returns what was repaired.
    fn drop_checkpoints(&self, point: &PointIdentity) -> Result<Vec<String>, BackupError> {
        let images: Vec<_> = self.observed.disks.iter().map(|d| d.image.clone()).collect();
        for name in &self.plan.drop_checkpoints {
            recover::delete_checkpoint(&self.vm.domain, name, &images)?;
        }
        let count = self.plan.drop_checkpoints.len();
        if count > 0 {
            // Part of every new chain, and no repair.
            let vm = self.vm.domain.name();
            tracing::info!(vm, "deleted {count} checkpoint(s) that no chain goes on from");
        }
        let remove = |name: String| {
            let removed = bitmap::remove_live(&self.vm.domain, &name);
            format!("removed {removed} bitmap(s) {name} that no checkpoint knows")
        };
        Ok(self.stray_bitmaps(point).into_iter().map(remove).collect())
    }

    /// Bitmaps called like checkpoints of ours that libvirt does not know: left in images of a VM that was defined anew,
    /// migrated, or had a disk put back. A new chain, or a new point of that name, cannot be made beside them.
    fn stray_bitmaps(&self, point: &PointIdentity) -> BTreeSet<String> {
        let known = |name: &String| self.observed.seen.checkpoints.iter().any(|c| c.name == *name);
        let in_the_way = |name: &String| match name.parse::<CheckpointName>() {
            Ok(parsed) => point.parent.is_none() || Some(parsed) == point.checkpoint(),
            Err(_) => false,
        };
        let bitmaps = self.observed.disks.iter().flat_map(|d| &d.info.bitmaps);
        bitmaps.filter(|name| !known(name) && in_the_way(name)).cloned().collect()
    }

    /// Begins the job while the guest is held still. Returns how it was held.
    fn begin_job(
        &self,
        point: &PointIdentity,
        plan: &JobPlan<'_>,
        owner: &Owner,
        identity: &mut Identity,
        owned: &mut Owned<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Held, BackupError> {
        let domain = &self.vm.domain;
        let (id, scratch) = (&owned.journal().id, &owned.journal().scratch);
        let scratch_dir = &self.engine.settings.scratch_dir;
        let try_scratch =
            || scratch::try_making(scratch_dir, &job::scratch_try(scratch_dir, id), self.cancel);
        try_scratch()?;
        let secret = ScratchSecret::prepare(domain.host(), id, &plan.disks, scratch)?;
        if secret.is_some() {
            // That took its time.
            try_scratch()?;
        }
        let uuid = secret.as_ref().map(|secret| secret.uuid.as_str());
        let disks = plan.job_disks(owned.journal(), uuid);
        let parent = point.parent.map(|p| p.to_string());
        let job_xml = xml::backup(&owned.journal().socket, parent.as_deref(), &disks);
        let checkpoint_xml = xml::checkpoint(&point.id.ident(), owner, &disks);
        let journal = owned.journal().clone();
        let begin = || {
            self.engine.fail_points.at_while_held(FailPoint::Held);
            let begin = || domain.backup_begin(&job_xml, &checkpoint_xml, uuid.is_some());
            let mut begun = begin();
            if begun.as_ref().is_err_and(|e| e.said() == Said::BitmapExists) {
                // Only in the memory of QEMU, where no tool showed it; libvirt has no checkpoint of that name.
                bitmap::remove_live(domain, &point.id.ident());
                begun = begin();
            }
            match begun {
                // The daemon went away in the middle of the call: it may have begun the job before.
                Err(e) if e.is_connection_lost() && job_appears(domain, &journal) => {}
                other => other?,
            }
            identity.read_held();
            self.engine.fail_points.at_while_held(FailPoint::Begun);
            Ok(())
        };
        let (answers, settings) = (self.guest.is_some(), &self.engine.settings);
        owned.expect_job(Scratch { dir: scratch_dir.clone(), reserve: settings.scratch_reserve })?;
        let ((), held) = hold::still_during(domain, answers, settings, owned, warnings, begin)?;
        let was_started = owned.journal().started.is_some();
        Ok(Held { method: if was_started { Method::StartedPaused } else { held.method }, ..held })
    }

    /// Copies all disks while the scratch directory is watched, and ends the job. Tells also what the scratch files held at
    /// most.
    fn copy_disks(
        &self,
        point: &PointIdentity,
        plan: &JobPlan<'_>,
        owned: &Owned<'_>,
    ) -> (u64, Result<Vec<CopiedDisk>, BackupError>) {
        let peak_bytes = AtomicU64::new(0);
        let copied = self.copy_watched(point, plan, owned, &peak_bytes);
        (peak_bytes.into_inner(), copied)
    }

    fn copy_watched(
        &self,
        point: &PointIdentity,
        plan: &JobPlan<'_>,
        owned: &Owned<'_>,
        peak_bytes: &AtomicU64,
    ) -> Result<Vec<CopiedDisk>, BackupError> {
        self.engine.fail_points.at(FailPoint::Copying);
        let cancel = self.cancel.child();
        let socket = owned.journal().socket.clone();
        let source = |disk: &ReadableDisk, role: Role| DiskSource {
            export: Export { socket: socket.clone(), name: disk.target.clone() },
            bitmap: role.since().map(|_| xml::job_bitmap_context(&disk.target)),
        };
        let tasks = plan.tasks(self.engine, self.vm, self.observed, point, &source)?;
        let finished = AtomicBool::new(false);
        let copied = thread::scope(|scope| {
            let (settings, cancel, peak, over) = (&self.engine.settings, &cancel, peak_bytes, &finished);
            let done = |pause: Duration| {
                thread::park_timeout(pause);
                finished.load(Ordering::Acquire)
            };
            let beats = owned.beats();
            scope.spawn(move || {
                let is_over = || over.load(Ordering::Acquire);
                // Also from here, at each look: what holds up the watch holds up the beats.
                let is_over_yet = || {
                    beats.iter().for_each(Beats::beat);
                    is_over()
                };
                scratch::watch(&settings.scratch_dir, settings.scratch_reserve, peak, cancel, &is_over_yet);
                // Who failed by itself is through in a moment, and finds the job as it was then; not who is stuck in a write.
                let failed_since = Instant::now();
                while cancel.stopped() == Some(StopReason::OtherFailure)
                    && !is_over()
                    && failed_since.elapsed() < FAILURE_GRACE
                {
                    thread::sleep(SETTLE_PAUSE);
                }
                if cancel.stopped().is_some() && !is_over() {
                    // At once: until the readers have noticed and stopped, the guest could fill what is left.
                    let _ = recover::end_job(&self.vm.domain, owned.journal());
                }
            });
            let stats = scope.spawn(move || scratch::watch_job(&self.vm.domain, peak, &done));
            let finish = Finish(&finished);
            let copied = copy::copy_all(&tasks, &self.engine.shared, self.watch, cancel);
            drop(finish);
            stats.thread().unpark();
            copied
        });
        tracing::debug!("scratch files held {} at most", text::size(peak_bytes.load(Ordering::Relaxed)));
        self.engine.fail_points.at(FailPoint::Copied);
        // A scratch directory about to fill is the cause; broken reads are what follows.
        if let Some(reason @ (StopReason::ScratchFull { .. } | StopReason::ScratchHangs { .. })) =
            cancel.stopped()
        {
            return Err(reason.into());
        }
        let copied = copied?;
        let stopped = || self.cancel.stopped().is_some();
        match recover::end_copied_job(&self.vm.domain, owned.journal(), &stopped) {
            Ok(true) => Ok(copied),
            // Perhaps ended right above, because a stop was asked for when the last byte was copied.
            Ok(false) => Err(self.cancel.cause(self.changed("its backup job was gone at the end"))),
            // Given up, because a stop was asked for.
            Err(error) => Err(self.cancel.cause(error)),
        }
    }

    /// Whether a failed copy is explained by the domain being shut down (or killed) meanwhile. Waits until that is clear.
    fn was_shut_down(&self, error: &BackupError, owned: &Owned<'_>) -> bool {
        let broke =
            is_broken_read(error) || matches!(error, BackupError::Changed(_) | BackupError::Libvirt(_));
        let until = Instant::now() + SETTLE_LIMIT;
        while broke && self.cancel.stopped().is_none() && Instant::now() < until {
            let Ok(state) = self.vm.domain.state() else { return false };
            if !state.is_active() {
                return true;
            }
            if state == DomainState::Running
                && recover::has_job(&self.vm.domain, owned.journal()).unwrap_or(false)
            {
                return false;
            }
            thread::sleep(SETTLE_PAUSE);
        }
        false
    }

    /// The error of a copy that failed, which the domain's end does not explain: that of the job, where it ended first.
    fn why_not_copied(&self, error: BackupError, owned: &Owned<'_>) -> BackupError {
        let is_told = matches!(error, BackupError::Stopped(_)) || self.cancel.stopped().is_some();
        let why = (!is_told).then(|| owned.why_guard_ended_job()).flatten();
        if let Some(why) = why {
            return StopReason::StoodStill { why }.into();
        }
        if !self.was_ended(&error, owned) {
            return error;
        }
        self.changed(&format!(
            "its backup job ended before all disks were copied: somebody ended it (virsh domjobabort), or QEMU could \
             not go on and says why in its log. First seen: {error}"
        ))
    }

    /// Whether a failed copy is explained by the job being gone, which nobody here ended. Asked once it is clear that the
    /// domain was not shut down.
    fn was_ended(&self, error: &BackupError, owned: &Owned<'_>) -> bool {
        is_lost_connection(error)
            && self.cancel.stopped().is_none()
            && job_goes(&self.vm.domain, owned.journal())
    }

    pub(crate) fn changed(&self, what: &str) -> BackupError {
        Changed { domain: self.vm.domain.name().to_owned(), what: what.to_owned() }.into()
    }
}

fn is_broken_read(error: &BackupError) -> bool {
    matches!(error, BackupError::Copy(CopyError::Read { .. }))
}

/// Whether the job's end may have caused it: not when QEMU itself answered that a disk cannot be read.
fn is_lost_connection(error: &BackupError) -> bool {
    matches!(error, BackupError::Copy(CopyError::Read { source, .. }) if !source.is_answer())
}

/// Says that the copying is over, also when it panics: the watchers beside it must not be waited for for ever.
struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Whether our job is gone, or goes within moments: QEMU takes its NBD server away first.
fn job_goes(domain: &Domain, journal: &Journal) -> bool {
    settled(|| match recover::has_job(domain, journal) {
        Ok(true) => None,
        gone => Some(gone.is_ok()),
    })
}

/// Whether our job is there after a call to begin it broke off: the daemon may have begun it, or do so a little later.
fn job_appears(domain: &Domain, journal: &Journal) -> bool {
    settled(|| recover::has_job(domain, journal).unwrap_or(false).then_some(true))
}

/// What a look at the job comes to once it comes to something; false when it does not within [`APPEAR_LIMIT`].
fn settled(look: impl Fn() -> Option<bool>) -> bool {
    let until = Instant::now() + APPEAR_LIMIT;
    loop {
        match look() {
            Some(answer) => return answer,
            None if Instant::now() >= until => return false,
            None => thread::sleep(SETTLE_PAUSE),
        }
    }
}
