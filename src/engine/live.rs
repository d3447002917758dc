//! A backup of a domain that runs: one job and one checkpoint for all of its disks.
//!
//! ```text
//! journal ─► drop old checkpoints ─► hold guest ─► backup-begin ─► release ─► copy all disks ─► end job ─► publish
//!    └──────────────── any failure: end job, delete checkpoint, remove partial files ◄──────────────────┘
//! ```

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use vmstream::chain::{CheckpointName, DiskTarget, PointDisk, StreamKind};
use vmstream::stream::meta::StreamMeta;

use super::cancel::{Cancel, StopReason};
use super::copy::{self, CopyError, DiskTask, SinkPlan};
use super::disk::ImageFormat;
use super::hold;
use super::journal::{Journal, Stage, Stop};
use super::observe::{self, Observed, ReadableDisk};
use super::owned::Owned;
use super::point::{self, CopiedDisk, PointIdentity};
use super::publish::{self, PointFiles};
use super::recover;
use super::report::Report;
use super::watch::Watch;
use super::xml::{self, JobDisk};
use super::{BackupError, Engine, VmTarget, scratch};
use crate::libvirt::DomainState;
use crate::nbd::Export;
use crate::policy::{Decision, Plan};

/// What a disk becomes in this run.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    /// A stream; of the changes since a checkpoint, or of the whole disk.
    Stream { since: Option<CheckpointName> },
    /// A raw image.
    RawImage,
    /// Left out.
    Skip,
}

/// One live backup on its way.
pub(super) struct Live<'a> {
    pub(super) engine: &'a Engine,
    pub(super) vm: &'a VmTarget,
    pub(super) observed: &'a Observed,
    pub(super) plan: &'a Plan,
    pub(super) watch: &'a dyn Watch,
    pub(super) cancel: &'a Cancel,
}

impl Live<'_> {
    /// Takes the backup. On any failure everything is as it was before.
    pub(super) fn run(&self, report: &mut Report) -> Result<(), BackupError> {
        let point = self.identity();
        let roles = self.roles(&point, report)?;
        self.check_scratch()?;
        let mut owned = self.own(&point, &roles)?;
        self.engine.fail_points.at("journal-written");
        let result = self.run_owned(&point, &roles, &mut owned, report);
        match result {
            Ok(()) => owned.finish(),
            Err(error) => {
                let undone = owned.undo(self.vm.domain.host());
                if undone.committed {
                    // Only the tidying up behind the commit failed: the point is there.
                    report.warnings.push(format!("the backup is complete, but: {error}"));
                    return Ok(());
                }
                report.warnings.extend(undone.failed.iter().map(|f| format!("left for the next run: {f}")));
                Err(error)
            }
        }
    }

    fn identity(&self) -> PointIdentity {
        let newest = self.observed.set.as_ref().and_then(point::newest_time);
        let (number, parent, time_after) = match self.plan.decision {
            Decision::Incremental { parent, name } => (name, Some(parent), newest),
            _ => (CheckpointName::FIRST, None, None),
        };
        let now = std::time::SystemTime::now();
        PointIdentity { name: number, parent, time: publish::point_time(now, time_after) }
    }

    /// What each disk becomes; fills the report's list of skipped ones.
    fn roles(
        &self,
        point: &PointIdentity,
        report: &mut Report,
    ) -> Result<Vec<(&ReadableDisk, Role)>, BackupError> {
        let incremental = point.parent.is_some();
        let raw_wanted = self.engine.settings.raw_disks && !incremental;
        report.skipped.clone_from(&self.observed.skipped);
        if !raw_wanted {
            report.skipped.extend(observe::skip_raw(&self.observed.disks, incremental));
        }
        let has_bitmap =
            |target: &str| self.observed.seen.disks.iter().any(|d| d.target == target && d.has_bitmap);
        let role = |disk: &ReadableDisk| match disk.format {
            ImageFormat::Raw if raw_wanted => Role::RawImage,
            ImageFormat::Raw => Role::Skip,
            ImageFormat::Qcow2 => {
                Role::Stream { since: point.parent.filter(|_| has_bitmap(&disk.target)) }
            }
        };
        let roles: Vec<_> = self.observed.disks.iter().map(|disk| (disk, role(disk))).collect();
        if roles.iter().all(|(_, role)| !matches!(role, Role::Stream { .. })) {
            let reason = |s: &super::disk::Skipped| format!("{}: {}", s.target, s.reason);
            let reasons = report.skipped.iter().map(reason).collect::<Vec<_>>().join("; ");
            return Err(BackupError::NoDisks { domain: self.vm.domain.name().to_owned(), reasons });
        }
        Ok(roles)
    }

    fn check_scratch(&self) -> Result<(), BackupError> {
        let settings = &self.engine.settings;
        let dir = &settings.scratch_dir;
        let space = super::space::of(dir).map_err(|source| BackupError::File {
            doing: "use scratch directory",
            path: dir.clone(),
            source,
        })?;
        let reserve = settings.scratch_reserve.least(space.total_bytes);
        if space.free_bytes > reserve {
            return Ok(());
        }
        Err(BackupError::ScratchSpace {
            dir: dir.clone(),
            reserve: super::space::human(reserve),
            free: super::space::human(space.free_bytes),
        })
    }

    fn own(&self, point: &PointIdentity, roles: &[(&ReadableDisk, Role)]) -> Result<Owned<'_>, BackupError> {
        let id = self.engine.next_id();
        let scratch_dir = &self.engine.settings.scratch_dir;
        let active = |role: &Role| *role != Role::Skip;
        let scratch = roles.iter().filter(|(_, role)| active(role));
        let scratch = scratch.map(|(disk, _)| scratch_dir.join(format!("backup.{id}.{}", disk.target)));
        let images = roles.iter().filter(|(_, role)| matches!(role, Role::Stream { .. }));
        let partial = roles.iter().filter(|(_, role)| active(role));
        let partial = partial.map(|(disk, role)| publish::partial_name(&file_name(disk, role, point)));
        let journal = Journal {
            pid: std::process::id(),
            uri: self.vm.domain.host().uri().to_owned(),
            domain: self.vm.domain.name().to_owned(),
            uuid: self.vm.domain.uuid().to_owned(),
            chain_dir: self.vm.chain_dir.clone(),
            // AppArmor profiles that admins have installed for the old tool allow exactly this name.
            socket: PathBuf::from(format!("/var/tmp/virtnbdbackup.{id}")),
            scratch: scratch.collect(),
            checkpoint: Some(point.name.to_string()),
            images: images.map(|(disk, _)| disk.image.clone()).collect(),
            stop: Stop::None,
            stage: Stage::Copying {
                partial: partial.chain(point::partial_names(self.vm, self.observed, point)).collect(),
            },
            id,
        };
        self.engine.own(self.vm, journal)
    }

    fn run_owned(
        &self,
        point: &PointIdentity,
        roles: &[(&ReadableDisk, Role)],
        owned: &mut Owned<'_>,
        report: &mut Report,
    ) -> Result<(), BackupError> {
        let fail_points = &self.engine.fail_points;
        self.cancel.check()?;
        self.drop_checkpoints(report)?;
        fail_points.at("checkpoints-dropped");
        let thaw_again = self.begin_job(point, roles, owned, report)?;
        fail_points.at("released");
        let copied = self.copy_disks(point, roles, owned)?;
        fail_points.at("copied");
        self.end_job(owned)?;
        if thaw_again {
            recover::thaw(&self.vm.domain, std::time::Duration::from_secs(10));
            owned.set_stop(Stop::None)?;
        }
        fail_points.at("job-ended");
        self.publish(point, copied, owned, report)
    }

    /// Deletes the checkpoints that no chain needs any more, so that their names are free.
    fn drop_checkpoints(&self, report: &mut Report) -> Result<(), BackupError> {
        let images: Vec<PathBuf> = self.observed.disks.iter().map(|d| d.image.clone()).collect();
        for name in &self.plan.drop_checkpoints {
            recover::delete_checkpoint(&self.vm.domain, name, &images)?;
        }
        if self.plan.drop_checkpoints.is_empty() || matches!(self.plan.decision, Decision::Incremental { .. }) {
            return Ok(());
        }
        report.recovered.push(format!(
            "deleted {} checkpoint(s) of the previous chain",
            self.plan.drop_checkpoints.len()
        ));
        Ok(())
    }

    /// Begins the job while the guest is held still. True when the guest must be thawed once more at the end.
    fn begin_job(
        &self,
        point: &PointIdentity,
        roles: &[(&ReadableDisk, Role)],
        owned: &mut Owned<'_>,
        report: &mut Report,
    ) -> Result<bool, BackupError> {
        let domain = &self.vm.domain;
        if domain.backup_xml()?.is_some() {
            return Err(BackupError::JobRunning { domain: domain.name().to_owned() });
        }
        let disks = self.job_disks(roles, owned.journal());
        let parent = point.parent.map(|p| p.to_string());
        let job_xml = xml::backup(&owned.journal().socket, parent.as_deref(), &disks);
        let checkpoint_xml = xml::checkpoint(&point.name.to_string(), &owned.journal().id, &disks);
        let journal = owned.journal().clone();
        let channel = self.observed.facts.agent_channel;
        let begin = || {
            self.engine.fail_points.at("held");
            match domain.backup_begin(&job_xml, &checkpoint_xml) {
                // The daemon went away in the middle of the call: it may have begun the job before.
                Err(e) if e.is_connection_lost() && recover::has_job(domain, &journal)? => {}
                other => other?,
            }
            self.engine.fail_points.at("begun");
            Ok(())
        };
        let settings = &self.engine.settings;
        let ((), held) =
            hold::still_during(domain, channel, settings, owned, &mut report.warnings, begin)?;
        report.method = Some(held.method);
        report.stopped = held.stopped;
        Ok(held.thaw_again)
    }

    /// How each disk of the domain takes part in the job, also those that do not.
    fn job_disks(&self, roles: &[(&ReadableDisk, Role)], journal: &Journal) -> Vec<JobDisk> {
        let mut scratch = journal.scratch.iter();
        let mut disks: Vec<JobDisk> = roles
            .iter()
            .map(|(disk, role)| match (role, &disk.target) {
                (Role::Skip, target) => JobDisk::Skip { target: target.clone() },
                (role, target) => JobDisk::Backup {
                    target: target.clone(),
                    scratch: scratch.next().cloned().unwrap_or_default(),
                    since: since(role).map(|name| name.to_string()),
                    checkpoint: *role != Role::RawImage,
                    bitmap_export: since(role).is_some(),
                },
            })
            .collect();
        let skipped = self.observed.skipped.iter().filter(|s| !s.target.is_empty());
        disks.extend(skipped.map(|s| JobDisk::Skip { target: s.target.clone() }));
        disks
    }

    /// Copies all disks at once while the scratch directory and the job are watched.
    fn copy_disks(
        &self,
        point: &PointIdentity,
        roles: &[(&ReadableDisk, Role)],
        owned: &Owned<'_>,
    ) -> Result<Vec<CopiedDisk>, BackupError> {
        self.engine.fail_points.at("copying");
        let cancel = self.cancel.child();
        let journal = owned.journal();
        let tasks = self.tasks(point, roles, journal)?;
        let (finished, wait) = mpsc::channel::<()>();
        let results: Vec<Result<CopiedDisk, CopyError>> = thread::scope(|scope| {
            let guard_cancel = cancel.clone();
            scope.spawn(move || {
                let settings = &self.engine.settings;
                let done = |pause| wait.recv_timeout(pause) != Err(mpsc::RecvTimeoutError::Timeout);
                scratch::watch(&settings.scratch_dir, settings.scratch_reserve, &guard_cancel, &done);
            });
            let threads: Vec<_> = tasks
                .into_iter()
                .map(|(file, task)| {
                    let cancel = cancel.clone();
                    scope.spawn(move || self.copy_one(file, &task, &cancel))
                })
                .collect();
            let results = threads.into_iter().map(|t| match t.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            let results = results.collect();
            drop(finished);
            results
        });
        // A scratch directory about to fill is the cause; broken reads are what follows.
        if let Some(reason @ StopReason::ScratchFull { .. }) = cancel.stopped() {
            return Err(reason.into());
        }
        let echo = |e: &CopyError| matches!(e, CopyError::Stopped(StopReason::OtherFailure));
        let mut copied = Vec::new();
        let mut failed: Option<CopyError> = None;
        for result in results {
            match result {
                Ok(disk) => copied.push(disk),
                Err(e) if failed.as_ref().is_none_or(echo) => failed = Some(e),
                Err(_) => {}
            }
        }
        match failed {
            None => Ok(copied),
            Some(error) => Err(self.explain(error, journal)),
        }
    }

    fn copy_one(&self, file: String, task: &DiskTask, cancel: &Cancel) -> Result<CopiedDisk, CopyError> {
        let copied = copy::copy_disk(task, &self.engine.shared, self.watch, cancel);
        self.watch.disk_end(&task.target);
        if copied.is_err() {
            // One disk lost is the point lost: do not go on reading the others.
            cancel.stop(StopReason::OtherFailure);
        }
        Ok(CopiedDisk { target: task.target.clone(), file, copied: copied? })
    }

    /// A read error is only the symptom when the domain stopped or lost its job: say that instead.
    fn explain(&self, error: CopyError, journal: &Journal) -> BackupError {
        let domain = &self.vm.domain;
        let changed = |what: &str| BackupError::Changed {
            domain: domain.name().to_owned(),
            what: format!("{what} ({error})"),
        };
        if !matches!(error, CopyError::Read { .. }) {
            return error.into();
        }
        match domain.state() {
            Ok(DomainState::Crashed) => changed("its QEMU process ended"),
            Ok(state) if !state.is_active() => changed("it was shut off"),
            Ok(_) if !recover::has_job(domain, journal).unwrap_or(true) => changed("its backup job was ended from outside"),
            _ => error.into(),
        }
    }

    fn tasks(
        &self,
        point: &PointIdentity,
        roles: &[(&ReadableDisk, Role)],
        journal: &Journal,
    ) -> Result<Vec<(String, DiskTask)>, BackupError> {
        let mut tasks = Vec::new();
        for (disk, role) in roles.iter().filter(|(_, role)| *role != Role::Skip) {
            let export = Export { socket: journal.socket.clone(), name: disk.target.clone() };
            let file = file_name(disk, role, point);
            let path = self.vm.chain_dir.join(publish::partial_name(&file));
            // The export's size is the disk's size at the snapshot; the image may have been resized since we looked.
            let size = point::export_size(&export, &disk.target)?;
            let sink = match role {
                Role::Stream { since } => SinkPlan::Stream { path, meta: self.meta(disk, size, point, *since) },
                Role::RawImage | Role::Skip => SinkPlan::RawImage { path, size },
            };
            let task = DiskTask {
                target: disk.target.clone(),
                export,
                bitmap: since(role).map(|_| xml::bitmap_context(&disk.target)),
                sink,
                earlier_streams: self.earlier_streams(point, &disk.target),
            };
            tasks.push((file, task));
        }
        Ok(tasks)
    }

    fn meta(
        &self,
        disk: &ReadableDisk,
        size: u64,
        point: &PointIdentity,
        since: Option<CheckpointName>,
    ) -> StreamMeta {
        point::meta(&disk.target, disk.format, size, self.engine.settings.compression, &point::Origin {
            checkpoint: point.name.to_string(),
            parent: since.map(|p| p.to_string()).unwrap_or_default(),
            incremental: since.is_some(),
            time: point.time,
        })
    }

    /// The streams of the chain that hold data of a disk. None for a new chain.
    fn earlier_streams(&self, point: &PointIdentity, target: &str) -> Vec<PathBuf> {
        let Some(set) = self.observed.set.as_ref().filter(|_| point.parent.is_some()) else { return vec![] };
        let entries = set.points.iter().flat_map(|p| &p.disks).filter(|(name, _)| name.as_str() == target);
        let streams = entries.filter_map(|(_, disk)| match disk {
            PointDisk::Stream(entry) => Some(entry.path.clone()),
            PointDisk::Raw(_) => None,
        });
        streams.collect()
    }

    fn end_job(&self, owned: &Owned<'_>) -> Result<(), BackupError> {
        let domain = &self.vm.domain;
        if recover::end_job(domain, owned.journal())? {
            return Ok(());
        }
        Err(BackupError::Changed { domain: domain.name().to_owned(), what: "its backup job was gone at the end".into() })
    }

    fn publish(
        &self,
        point: &PointIdentity,
        copied: Vec<CopiedDisk>,
        owned: &mut Owned<'_>,
        report: &mut Report,
    ) -> Result<(), BackupError> {
        let mut files = PointFiles::new(&self.vm.chain_dir, point.time);
        point::write_checkpoint_files(self.vm, self.observed, point, &mut files)?;
        point::add_disks(&mut files, copied, &self.observed.disks, &point.name.to_string(), report)?;
        point::add_placeholders(self.observed, point, self.engine.settings.compression, &mut files)?;
        self.engine.publish(self.vm, self.plan, &files, owned, report)?;
        report.points = point.name.number() as usize + 1;
        Ok(())
    }
}

fn since(role: &Role) -> Option<CheckpointName> {
    match role {
        Role::Stream { since } => *since,
        Role::RawImage | Role::Skip => None,
    }
}

/// The file a disk becomes. In a chain every point but the first is called an increment, also when it holds the
/// whole disk because the disk was added.
fn file_name(disk: &ReadableDisk, role: &Role, point: &PointIdentity) -> String {
    let kind = match (role, point.parent) {
        (Role::RawImage | Role::Skip, _) => StreamKind::Copy,
        (Role::Stream { .. }, None) => StreamKind::Full,
        (Role::Stream { .. }, Some(_)) => StreamKind::Inc(point.name),
    };
    stream_file(&disk.target, kind)
}

/// A stream's file name for a target that came from libvirt.
pub(super) fn stream_file(target: &str, kind: StreamKind) -> String {
    match target.parse::<DiskTarget>() {
        Ok(target) => kind.file_name(&target),
        // libvirt allows only letters and digits in a target; keep whatever it is inside one folder.
        Err(_) => format!("{}.data", Path::new(target).file_name().unwrap_or_default().to_string_lossy()),
    }
}
