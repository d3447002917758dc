//! What a backup consists of, as data: which disk takes part how, into which file.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::NoDisks;
use super::disk_plan::{DiskPlan, Treatment};
use super::names::{partial_name, sidecar_file, stream_file};
use super::point_files::partial_names;
use super::point_identity::PointIdentity;
use super::role::Role;
use super::run_files::{job_socket, nbd_socket, scratch_file, scratch_try, servers_socket};
use crate::engine::VmTarget;
use crate::engine::claims::journal::{Journal, Stage};
use crate::engine::domain::image_format::ImageFormat;
use crate::engine::domain::skip_reason::SkipReason;
use crate::engine::domain::xml::JobDisk;
use crate::engine::image::readable_disk::ReadableDisk;
use crate::engine::look::observe::Observed;

/// The disks of one point, and those that are left out.
pub(crate) struct JobPlan<'a> {
    pub(crate) disks: Vec<(&'a ReadableDisk, Role)>,
    pub(crate) skipped: Vec<String>,
    /// They are read from a job of the domain's QEMU.
    pub(crate) is_job: bool,
}

/// What tells a run from others, and where its scratch files go.
pub(crate) struct NewRun<'a> {
    pub(crate) id: String,
    pub(crate) machine_id: &'a str,
    pub(crate) scratch_dir: &'a Path,
}

impl<'a> JobPlan<'a> {
    /// Gives every disk its role.
    ///
    /// # Errors
    /// When there is none, and one could be had.
    pub(crate) fn new(observed: &'a Observed, planned: &[DiskPlan], domain: &str) -> Result<Self, NoDisks> {
        let role = |disk: &&ReadableDisk| {
            let plan = planned.iter().find(|plan| plan.target == disk.target)?;
            let stream = |since, marked| Some(Role::Stream { since, marked });
            match plan.treatment {
                Treatment::Changes(since) => stream(Some(since), true),
                Treatment::Whole | Treatment::Added | Treatment::Replaced => stream(None, true),
                Treatment::Unmarked => stream(None, false),
                Treatment::Copy { .. } if disk.format == ImageFormat::Qcow2 => stream(None, false),
                Treatment::RawImage | Treatment::Copy { .. } => Some(Role::RawImage),
                Treatment::Skipped(_) => None,
            }
        };
        let disks: Vec<_> = observed.disks.iter().filter_map(|disk| Some((disk, role(&disk)?))).collect();
        let could_be_had = |plan: &DiskPlan| plan.skipped().is_some_and(SkipReason::could_be_had);
        if disks.is_empty() && planned.iter().any(could_be_had) {
            return Err(no_disks(domain, planned));
        }
        let is_skipped = |plan: &&DiskPlan| match plan.skipped() {
            // The domain that runs does not have it.
            None | Some(SkipReason::Missing(_)) => false,
            Some(_) => !plan.target.is_empty(),
        };
        let skipped = planned.iter().filter(is_skipped).map(|plan| plan.target.clone()).collect();
        let is_job = observed.seen.active && !disks.is_empty();
        Ok(Self { disks, skipped, is_job })
    }

    /// How each disk of the domain takes part in the job, also those that do not.
    /// `secret` opens the scratch files of encrypted disks.
    pub(crate) fn job_disks(&self, journal: &Journal, secret: Option<&str>) -> Vec<JobDisk> {
        let exported =
            self.disks.iter().zip(&journal.scratch).map(|((disk, role), scratch)| JobDisk::Backup {
                target: disk.target.clone(),
                scratch: scratch.clone(),
                secret: disk.secret.as_ref().and(secret).map(str::to_owned),
                since: role.since().map(|name| name.to_string()),
                checkpoint: role.is_marked(),
            });
        exported.chain(self.skipped.iter().map(|target| JobDisk::Skip { target: target.clone() })).collect()
    }

    /// The journal of a run that does this. The scratch files of a job come first in `scratch`, one for each disk, in order.
    pub(crate) fn journal(
        &self,
        run: NewRun<'_>,
        vm: &VmTarget,
        observed: &Observed,
        point: &PointIdentity,
    ) -> Journal {
        let NewRun { id, machine_id, scratch_dir } = run;
        let files = self.disks.iter().flat_map(|(disk, role)| {
            let kind = point.stream_kind(*role);
            let file = stream_file(&disk.target, kind, point.suffix_of(*role));
            [format!("{file}.chksum"), file, sidecar_file(&disk.target, kind)]
        });
        let partial = files.map(|name| partial_name(&name));
        let partial = partial.chain(partial_names(vm, observed, point)).collect();
        let sockets = |socket: &Path| -> Vec<PathBuf> {
            self.disks.iter().map(|(disk, _)| nbd_socket(socket, &disk.target)).collect()
        };
        if !self.is_job {
            let socket = servers_socket(&id);
            return Journal {
                scratch: sockets(&socket),
                stage: Stage::Copying { partial },
                ..Journal::new(vm, machine_id, id, socket)
            };
        }
        let socket = job_socket(&id);
        let scratch = self.disks.iter().map(|(disk, _)| scratch_file(scratch_dir, &id, &disk.target));
        let tried = scratch_try(scratch_dir, &id);
        let marked = self.disks.iter().filter(|(_, role)| role.is_marked());
        Journal {
            scratch: scratch.chain(sockets(&socket)).chain([tried]).collect(),
            checkpoint: point.checkpoint().map(|checkpoint| checkpoint.to_string()),
            images: marked.map(|(disk, _)| disk.image.clone()).collect(),
            stage: Stage::Copying { partial },
            ..Journal::new(vm, machine_id, id, socket)
        }
    }
}

/// Names that old restore programs confuse: their pattern for the streams of `vda` also matches those of `vdaa`.
pub(crate) fn confusable(plan: &JobPlan<'_>) -> Option<String> {
    let targets: Vec<&str> = plan.disks.iter().map(|(disk, _)| disk.target.as_str()).collect();
    let longer =
        |short: &&str| targets.iter().any(|long| long.len() > short.len() && long.starts_with(*short));
    let confused: Vec<&str> = targets.iter().copied().filter(|short| longer(short)).collect();
    if confused.is_empty() {
        return None;
    }
    Some(format!(
        "disk {} cannot be restored with virtnbdrestore: it would also apply the streams of disks whose names begin the same; use vmstream extract",
        confused.join(", ")
    ))
}

/// Disks that virtnbdrestore writes to one file: it calls what it restores as the definition calls the image.
pub(crate) fn same_named(disks: &[ReadableDisk]) -> Vec<String> {
    let mut by_name: BTreeMap<&OsStr, Vec<&str>> = BTreeMap::new();
    for disk in disks {
        by_name.entry(disk.image.file_name().unwrap_or_default()).or_default().push(&disk.target);
    }
    let same = by_name.into_iter().filter(|(_, targets)| targets.len() > 1);
    same.map(|(name, targets)| {
        format!(
            "disks {} have images of one name ({}): virtnbdrestore, which names what it restores so, stops after the first",
            targets.join(", "),
            name.to_string_lossy()
        )
    })
    .collect()
}

/// The error of a domain without a disk to back up.
fn no_disks(domain: &str, planned: &[DiskPlan]) -> NoDisks {
    let reasons = planned.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    NoDisks { domain: domain.to_owned(), reasons }
}
