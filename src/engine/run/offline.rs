//! A copy of every disk of a domain that is shut off.

use std::time::{Duration, SystemTime};

use vmstream::chain::{CheckpointName, PointId, SetFile, StreamKind, StreamSuffix};

use crate::engine::cancel::Cancel;
use crate::engine::claims::journal::{Journal, Stage};
use crate::engine::claims::owned::Owned;
use crate::engine::commit::point::{self, Origin};
use crate::engine::commit::publish::{self, PointFiles};
use crate::engine::copy::{self, CopiedDisk, CopyError, DiskTask, SidecarPlan, SinkPlan};
use crate::engine::domain::image_format::ImageFormat;
use crate::engine::fail_point::FailPoint;
use crate::engine::image::damage;
use crate::engine::image::qemu_nbd::{Changes, QemuNbd};
use crate::engine::image::readable_disk::ReadableDisk;
use crate::engine::look::image_state::{self, STATE_FILE, TakenOf};
use crate::engine::look::observe::Observed;
use crate::engine::look::still::Still;
use crate::engine::plan::job::{self, nbd_socket, sidecar_file, stream_file};
use crate::engine::run::contained::contained;
use crate::engine::run::facts::Facts;
use crate::engine::run::undo::undo_after;
use crate::engine::snapshot::hold::Held;
use crate::engine::snapshot::identity::{self, Identity};
use crate::engine::watch::Watch;
use crate::engine::{BackupError, Engine, VmTarget};
use vmhost::nbd::Export;
use vmplan::Plan;
use vmreport::Method;

/// What the files of a copy have for a name of their point.
const COPY: &str = "copy";

/// The marker of a copy, published last.
fn marker() -> String {
    SetFile::VmConfig(PointId::Copy).to_string()
}

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
        let raw = self.engine.settings.raw_disks;
        let disks: Vec<_> = image_state::wanted(&self.observed.disks, raw).collect();
        if disks.is_empty() {
            return Err(job::no_disks(self.vm.domain.name(), facts.every_disk()));
        }
        let (identity, warning) = Identity::ask(self.engine, self.vm, self.observed, self.cancel, None);
        facts.warnings.extend(warning);
        let mut journal = self.journal(&disks);
        journal.add_partial(identity.partial_names(COPY));
        let mut owned = self.engine.own(self.vm, journal)?;
        self.engine.fail_points.at(FailPoint::JournalWritten);
        match contained(|| self.run_owned(&disks, identity, &mut owned, facts)) {
            Ok(()) => Ok(owned.finish()?),
            Err(error) => {
                facts.warnings.push(undo_after(owned, error, self.vm.domain.host())?);
                Ok(())
            }
        }
    }

    fn journal(&self, disks: &[&ReadableDisk]) -> Journal {
        let id = self.engine.next_id();
        let socket = job::servers_socket(&id);
        let mut names: Vec<String> = vec![marker(), STATE_FILE.to_owned()];
        for disk in disks {
            let file = copy_file(disk, self.engine);
            names.extend([format!("{file}.chksum"), file, format!("{}.copy.qcow.json", disk.target)]);
            names.push(sidecar_file(&disk.target, StreamKind::Copy));
        }
        names.extend(point::side_files(self.observed, COPY));
        Journal {
            scratch: disks.iter().map(|disk| nbd_socket(&socket, &disk.target)).collect(),
            stage: Stage::Copying { partial: names.iter().map(|n| publish::partial_name(n)).collect() },
            ..Journal::new(self.vm, &self.engine.machine_id, id, socket.clone())
        }
    }

    fn run_owned(
        &self,
        disks: &[&ReadableDisk],
        identity: Identity,
        owned: &mut Owned<'_>,
        facts: &mut Facts,
    ) -> Result<(), BackupError> {
        let time = publish::point_time(self.engine.clock.file_time(), None);
        let still = Still::begin(self.vm, &self.observed.disks, disks.to_vec(), self.cancel)?;
        facts.damaged = disks.iter().flat_map(|disk| damage::of(disk, self.cancel)).collect();
        self.engine.fail_points.at(FailPoint::Copying);
        let copied = self.copy_disks(disks, time, owned)?;
        self.engine.fail_points.at(FailPoint::Copied);
        let (images, untold) = still.end()?;
        facts.warnings.extend(untold);
        facts.held = Some(Held { method: Method::Offline, stopped: Duration::ZERO });
        let mut files = PointFiles::new(&self.vm.chain_dir, time);
        point::write_side_files(self.vm, self.observed, COPY, None, &mut files)?;
        let (sidecars, copied) = point::add_disks(&mut files, copied)?;
        facts.disks = copied;
        let (all, raw) = (&self.observed.disks, self.engine.settings.raw_disks);
        let taken_of = TakenOf::new(PointId::Copy, all, raw, images, &self.observed.config_xml);
        files.add_small(STATE_FILE, &taken_of.to_json())?;
        files.set_marker(&marker(), &self.observed.config_xml)?;
        let added = identity.add_to(self.engine, self.vm, (COPY, None), &mut files)?;
        facts.warnings.extend(added.warnings);
        facts.identity = Some(added.kept);
        point::add_sidecars(&mut files, sidecars, &PointId::Copy.ident(), facts.every_disk())?;
        facts.archived_to = self.engine.publish(self.vm, self.plan, &files, owned)?;
        facts.points = Some(1);
        let (definition, warnings) =
            identity::settle(self.engine, self.vm, self.observed, added.folder, None);
        facts.definition = definition;
        facts.warnings.extend(warnings);
        Ok(())
    }

    fn copy_disks(
        &self,
        disks: &[&ReadableDisk],
        time: SystemTime,
        owned: &Owned<'_>,
    ) -> Result<Vec<CopiedDisk>, BackupError> {
        let socket = |disk: &ReadableDisk| nbd_socket(&owned.journal().socket, &disk.target);
        let host = self.vm.domain.host();
        let server =
            |disk: &&ReadableDisk| QemuNbd::start(host, disk, socket(disk), Changes::Not, self.cancel);
        let _servers = disks.iter().map(server).collect::<Result<Vec<_>, _>>()?;
        let task = |disk: &&ReadableDisk| {
            let export = Export { socket: socket(disk), name: disk.target.clone() };
            self.task(disk, export, time)
        };
        let tasks = disks.iter().map(task).collect::<Result<Vec<_>, _>>()?;
        Ok(copy::copy_all(&tasks, &self.engine.shared, self.watch, &self.cancel.child())?)
    }

    fn task(&self, disk: &ReadableDisk, export: Export, time: SystemTime) -> Result<DiskTask, CopyError> {
        let size = point::export_size(&export, &disk.target)?;
        let file = copy_file(disk, self.engine);
        let path = self.vm.chain_dir.join(publish::partial_name(&file));
        let origin = Origin {
            // The old tool puts this name into copies, though no such checkpoint exists.
            checkpoint: CheckpointName::FIRST.to_string(),
            parent: String::new(),
            incremental: false,
            time,
        };
        let compression = self.engine.settings.method.stated();
        let sink = match disk.format {
            ImageFormat::Qcow2 => SinkPlan::Stream {
                path,
                meta: point::meta(&disk.target, disk.format, size, compression, &origin),
            },
            ImageFormat::Raw => SinkPlan::RawImage { path, size },
        };
        let sidecar_name = sidecar_file(&disk.target, StreamKind::Copy);
        let sidecar = SidecarPlan {
            path: self.vm.chain_dir.join(publish::partial_name(&sidecar_name)),
            file: sidecar_name,
            parent: None,
            parent_digest: None,
        };
        let target = disk.target.clone();
        Ok(DiskTask {
            target,
            file,
            export,
            bitmap: None,
            sink,
            sidecar,
            earlier_streams: vec![],
            tripwire: None,
        })
    }
}

/// The file a disk becomes.
fn copy_file(disk: &ReadableDisk, engine: &Engine) -> String {
    let suffix = match disk.format {
        ImageFormat::Qcow2 => engine.settings.method.suffix(),
        ImageFormat::Raw => StreamSuffix::Data,
    };
    stream_file(&disk.target, StreamKind::Copy, suffix)
}
