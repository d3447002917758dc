//! A copy of every disk of a domain that is shut off.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use vmstream::chain::{CheckpointName, PointId, SetFile, StreamKind, StreamSuffix};

use super::cancel::Cancel;
use super::copy::{self, CopiedDisk, CopyError, DiskTask, SidecarPlan, SinkPlan};
use super::disk::ImageFormat;
use super::identity::{self, Identity};
use super::job::{self, nbd_socket, sidecar_file, stream_file};
use super::journal::{self, Journal, Stage, Stop};
use super::observe::{self, Observed, ReadableDisk};
use super::owned::Owned;
use super::point::{self, Origin};
use super::publish::{self, PointFiles};
use super::qemu_nbd::QemuNbd;
use super::report::{Method, Report};
use super::watch::Watch;
use super::{BackupError, Engine, VmTarget, contained};
use crate::nbd::Export;
use crate::policy::Plan;

/// The file that tells whether the images are as they were when the copy was taken.
const STATE_FILE: &str = ".copy-state.json";

/// What the files of a copy have for a name of their point.
const COPY: &str = "copy";

/// The marker of a copy, published last.
fn marker() -> String {
    SetFile::VmConfig(PointId::Copy).to_string()
}

/// What tells one state of an image from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ImageState {
    size: u64,
    inode: u64,
    modified_seconds: i64,
    modified_nanos: i64,
}

/// The state of every image of a domain, and of the files that back them, by path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ImageStates(BTreeMap<String, ImageState>);

impl ImageStates {
    /// `None` when an image cannot be looked at.
    pub(super) fn of(disks: &[ReadableDisk]) -> Option<Self> {
        let mut images = BTreeMap::new();
        for disk in disks {
            for path in std::iter::once(disk.image.clone()).chain(backing_file(&disk.info.json)) {
                let meta = fs::metadata(&path).ok()?;
                let state = ImageState {
                    size: meta.size(),
                    inode: meta.ino(),
                    modified_seconds: meta.mtime(),
                    modified_nanos: meta.mtime_nsec(),
                };
                images.insert(path.to_string_lossy().into_owned(), state);
            }
        }
        Some(Self(images))
    }
}

/// What a copy was taken of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct CopyState {
    /// Disk targets that the copy holds.
    disks: Vec<String>,
    images: ImageStates,
    config_xml: String,
}

/// The backing file that `qemu-img info` names, if any. What lies below it does not change while it is in use.
fn backing_file(info_json: &str) -> Option<PathBuf> {
    let info: serde_json::Value = serde_json::from_str(info_json).ok()?;
    info["full-backing-filename"].as_str().map(PathBuf::from)
}

/// True when the folder holds a complete copy of exactly these images and this definition.
///
/// A write to a block device leaves no trace in its node, so a domain with one always counts as changed.
pub(super) fn unchanged(chain_dir: &Path, disks: &[ReadableDisk], raw_disks: bool, config_xml: &str) -> bool {
    if disks.iter().any(|disk| is_block_device(&disk.image)) {
        return false;
    }
    let read =
        || -> Option<CopyState> { serde_json::from_slice(&fs::read(chain_dir.join(STATE_FILE)).ok()?).ok() };
    let complete = chain_dir.join(marker()).exists();
    complete
        && read().is_some_and(|then| {
            then.config_xml == config_xml
                && then.disks == targets(&wanted(disks, raw_disks))
                && ImageStates::of(disks).is_some_and(|now| now == then.images)
        })
}

fn is_block_device(image: &Path) -> bool {
    fs::metadata(image).is_ok_and(|meta| meta.file_type().is_block_device())
}

/// The disks that a copy holds.
fn wanted(disks: &[ReadableDisk], raw_disks: bool) -> Vec<&ReadableDisk> {
    disks.iter().filter(|disk| raw_disks || disk.format == ImageFormat::Qcow2).collect()
}

fn targets(disks: &[&ReadableDisk]) -> Vec<String> {
    disks.iter().map(|disk| disk.target.clone()).collect()
}

/// One offline backup on its way.
pub(super) struct Offline<'a> {
    pub(super) engine: &'a Engine,
    pub(super) vm: &'a VmTarget,
    pub(super) observed: &'a Observed,
    pub(super) plan: &'a Plan,
    pub(super) watch: &'a dyn Watch,
    pub(super) cancel: &'a Cancel,
}

impl Offline<'_> {
    /// Takes the copy. On any failure everything is as it was before.
    pub(super) fn run(&self, report: &mut Report) -> Result<(), BackupError> {
        report.skipped.clone_from(&self.observed.skipped);
        let raw = self.engine.settings.raw_disks;
        if !raw {
            report.skipped.extend(observe::skip_raw(&self.observed.disks, false));
        }
        let disks = wanted(&self.observed.disks, raw);
        if disks.is_empty() {
            return Err(job::no_disks(self.vm.domain.name(), &report.skipped));
        }
        let identity = Identity::ask(self.engine, self.vm, self.observed, self.cancel, None, report);
        let mut journal = self.journal(&disks);
        journal.add_partial(identity.partial_names(COPY));
        let mut owned = self.engine.own(self.vm, journal)?;
        self.engine.fail_points.at("journal-written");
        match contained(|| self.run_owned(&disks, identity, &mut owned, report)) {
            Ok(()) => owned.finish(),
            Err(error) => owned.undo_after(error, self.vm.domain.host(), report),
        }
    }

    fn journal(&self, disks: &[&ReadableDisk]) -> Journal {
        let id = self.engine.next_id();
        let socket = self.engine.settings.scratch_dir.join(format!("vmbackup-{id}.nbd"));
        let mut names: Vec<String> = vec![marker(), STATE_FILE.to_owned()];
        for disk in disks {
            let file = copy_file(disk, self.engine);
            names.extend([format!("{file}.chksum"), file, format!("{}.copy.qcow.json", disk.target)]);
            names.push(sidecar_file(&disk.target, StreamKind::Copy));
        }
        names.extend(point::side_files(self.observed, COPY));
        Journal {
            pid: std::process::id(),
            host: journal::host_id(),
            uri: self.vm.domain.host().uri().to_owned(),
            domain: self.vm.domain.name().to_owned(),
            uuid: self.vm.domain.uuid().to_owned(),
            chain_dir: self.vm.chain_dir.clone(),
            scratch: disks.iter().map(|disk| nbd_socket(&socket, &disk.target)).collect(),
            checkpoint: None,
            images: vec![],
            stop: Stop::None,
            stage: Stage::Copying { partial: names.iter().map(|n| publish::partial_name(n)).collect() },
            socket,
            id,
        }
    }

    fn run_owned(
        &self,
        disks: &[&ReadableDisk],
        identity: Identity,
        owned: &mut Owned<'_>,
        report: &mut Report,
    ) -> Result<(), BackupError> {
        let time = publish::point_time(self.engine.clock.file_time(), None);
        let before = ImageStates::of(&self.observed.disks);
        self.engine.fail_points.at("copying");
        let copied = self.copy_disks(disks, time, owned)?;
        self.engine.fail_points.at("copied");
        let after = ImageStates::of(&self.observed.disks);
        let Some(images) = after.filter(|after| Some(after) == before.as_ref()) else {
            return Err(self.changed("its images were written while they were copied"));
        };
        if self.vm.domain.state()?.is_active() {
            return Err(self.changed("it was started while its disks were copied"));
        }
        report.method = Some(Method::Offline);
        let mut files = PointFiles::new(&self.vm.chain_dir, time);
        point::write_side_files(self.vm, self.observed, COPY, &mut files)?;
        let sidecars = point::add_disks(&mut files, copied, report)?;
        let state = CopyState { disks: targets(disks), images, config_xml: self.observed.config_xml.clone() };
        files.add_small(STATE_FILE, &serde_json::to_vec(&state).unwrap_or_default())?;
        files.set_marker(&marker(), &self.observed.config_xml)?;
        let tpm = identity.add_to(self.engine, self.vm, (COPY, None), &mut files, report)?;
        point::add_sidecars(&mut files, sidecars, &PointId::Copy.ident())?;
        self.engine.publish(self.vm, self.plan, &files, owned, report)?;
        identity::settle(self.engine, self.vm, self.observed, tpm, None, report);
        report.points = 1;
        Ok(())
    }

    fn changed(&self, what: &str) -> BackupError {
        BackupError::Changed { domain: self.vm.domain.name().to_owned(), what: what.to_owned() }
    }

    fn copy_disks(
        &self,
        disks: &[&ReadableDisk],
        time: SystemTime,
        owned: &Owned<'_>,
    ) -> Result<Vec<CopiedDisk>, BackupError> {
        let socket = |disk: &ReadableDisk| nbd_socket(&owned.journal().socket, &disk.target);
        let server =
            |disk: &&ReadableDisk| QemuNbd::start(&disk.image, disk.format, &disk.target, socket(disk), None);
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
        Ok(DiskTask { target, file, export, bitmap: None, sink, sidecar, earlier_streams: vec![] })
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
