//! Makes a point of disks that are copied, and publishes it, the chain in its way going to the archive first.
//!
//! Must not live here: what is in its files (`commit::point`), the order of renames (`commit::publish`), how a chain moves
//! (`commit::archive`).

use std::path::PathBuf;

use crate::engine::BackupError;
use crate::engine::claims::claimed::Claims;
use crate::engine::claims::journal::ArchiveMove;
use crate::engine::commit::archive;
use crate::engine::commit::point;
use crate::engine::commit::publish::PointFiles;
use crate::engine::copy::CopiedDisk;
use crate::engine::fail_point::FailPoint;
use crate::engine::failure::FileError;
use crate::engine::look::chain_files;
use crate::engine::look::image_state::StillImages;
use crate::engine::plan::disk_plan::{self, DiskPlan};
use crate::engine::plan::meta;
use crate::engine::run::facts::{Step, step};
use crate::engine::run::request::Backup;
use crate::engine::snapshot::identity::{self, Identity, PointDisks};
use vmplan::Decision;

/// Writes what the point has beside the copied disks, publishes it, and does what is to be done once it is there.
/// `still` is how the images stand that the disks were read from, if they hold still; `every_disk` names also those that are left
/// out.
pub(super) fn commit(
    backup: &Backup<'_>,
    copied: Vec<CopiedDisk>,
    still: Option<StillImages>,
    identity: Identity,
    every_disk: &[DiskPlan],
    claims: &mut Claims<'_>,
) -> Step {
    step(|found| {
        let Backup { engine, vm, observed, point, .. } = backup;
        let settings = &engine.settings;
        let (ident, parent) = (point.id.ident(), point.parent.map(|parent| parent.to_string()));
        let parent = parent.as_deref();
        let mut files = PointFiles::new(&vm.chain_dir, point.time);
        point::write_files(vm, observed, point, identity.nvram(), &mut files)?;
        let (sidecars, disks) = point::add_disks(&mut files, copied)?;
        found.disks = disks;
        point::add_placeholders(observed, point, settings.method.stated(), &mut files)?;
        if let Some(still) = still {
            point::write_state(observed, point, settings.raw_disks, still, &mut files)?;
        }
        let disks = PointDisks {
            taken: meta::local_date(point.time),
            copied: found.disks.iter().map(|disk| disk.target.clone()).collect(),
            left_out: disk_plan::left_out(every_disk),
            files: files.identities().to_vec(),
        };
        let added = identity.into_files(settings, vm, (&ident, parent), &disks, engine.clock.now());
        point::add_identity(&mut files, &added)?;
        found.warnings = added.warnings;
        found.identity = Some(added.kept);
        point::add_sidecars(&mut files, sidecars, &ident, &disks.left_out)?;
        found.archived_to = publish(backup, &files, claims)?;
        found.points = Some(point.count());
        let (definition, warnings) =
            identity::settle(vm, &observed.config_xml, added.folder, parent, &engine.clock.local());
        found.definition = definition;
        found.warnings.extend(warnings);
        Ok(())
    })
}

/// Publishes a complete point, the chain in its way going to the archive first. Returns where that went.
fn publish(
    backup: &Backup<'_>,
    files: &PointFiles,
    claims: &mut Claims<'_>,
) -> Result<Option<PathBuf>, BackupError> {
    let Backup { engine, vm, plan, .. } = backup;
    let fail_points = &engine.fail_points;
    fail_points.at(FailPoint::FilesWritten);
    let dir = &vm.chain_dir;
    let failed = |doing, source| FileError { doing, path: dir.clone(), source };
    let archive = match plan.decision {
        Decision::Full { archive: true } | Decision::Copy { archive: true } => {
            let names = chain_files::entries(dir).map_err(|e| failed("list", e))?;
            files.make_way(&names)?;
            let today = engine.clock.local().date();
            let to = archive::claim(dir, today).map_err(|e| failed("make an archive folder in", e))?;
            Some(ArchiveMove { to, names })
        }
        _ => {
            files.make_way(&[])?;
            None
        }
    };
    claims.set_stage(files.stage(archive.clone()))?;
    fail_points.at(FailPoint::Publishing);
    files.publish(archive.as_ref(), &|name| fail_points.at(name))?;
    fail_points.at(FailPoint::Published);
    Ok(archive.map(|archive| archive.to))
}
