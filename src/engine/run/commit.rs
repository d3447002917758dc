//! Makes a point of disks that are copied, and publishes it, the chain in its way going to the archive first.
//!
//! Must not live here: what is in its files (`commit::point`), the order of renames (`vmstream::new_point`), how a chain moves
//! (`commit::archive`).

use std::path::PathBuf;

use crate::engine::BackupError;
use crate::engine::claims::claimed::Claims;
use crate::engine::claims::journal::{ArchiveMove, Stage};
use crate::engine::commit::archive;
use crate::engine::commit::{CommitError, point};
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
use vmstream::new_point::{Named, PointFolder, SealedPoint};

/// Writes what the point has beside the copied disks, publishes it, and does what is to be done once it is there.
/// `still` is how the images stand that the disks were read from, if they hold still; `every_disk` names also those that are left
/// out.
pub(super) fn commit(
    backup: &Backup<'_>,
    folder: &PointFolder,
    (copied, still): (Vec<CopiedDisk>, Option<StillImages>),
    identity: Identity,
    every_disk: &[DiskPlan],
    claims: &mut Claims<'_>,
) -> Step {
    step(|found| {
        let Backup { engine, vm, observed, point, .. } = backup;
        let settings = &engine.settings;
        let (ident, parent) = (point.id.ident(), point.parent.map(|parent| parent.to_string()));
        let parent = parent.as_deref();
        let mut files = folder.begin(point.time);
        point::write_files(vm, observed, point, identity.nvram(), &mut files)?;
        found.disks = point::add_disks(&mut files, copied, &ident)?;
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
        let sealed = point::seal(files, &disks.left_out)?;
        found.archived_to = publish(backup, folder, sealed, claims)?;
        found.points = Some(point.count());
        let (definition, warnings) =
            identity::settle(vm, &observed.config_xml, added.folder, parent, &engine.clock.local());
        found.definition = definition;
        found.warnings.extend(warnings);
        Ok(())
    })
}

/// Publishes a complete point, the chain in its way going to the archive first. Returns where that went.
///
/// ```text
/// files on disk ─► journal ─► the old chain to the archive ─► names, the list last
/// ```
/// Whoever finds the journal of a run that died before the list has its new content undoes the names.
fn publish(
    backup: &Backup<'_>,
    folder: &PointFolder,
    point: SealedPoint,
    claims: &mut Claims<'_>,
) -> Result<Option<PathBuf>, BackupError> {
    let Backup { engine, vm, plan, .. } = backup;
    let fail_points = &engine.fail_points;
    let dir = &vm.chain_dir;
    let failed = |doing| move |source| FileError { doing, path: dir.clone(), source };
    folder.sync().map_err(CommitError::from)?;
    fail_points.at(FailPoint::FilesWritten);
    let archives =
        matches!(plan.decision, Decision::Full { archive: true } | Decision::Copy { archive: true });
    let names = if archives { chain_files::entries(dir).map_err(failed("list"))? } else { vec![] };
    point.make_way(dir, &names).map_err(CommitError::from)?;
    let claim = || archive::claim(dir, engine.clock.local().date());
    let to = archives.then(claim).transpose().map_err(failed("make an archive folder in"))?;
    let archive = to.map(|to| ArchiveMove { to, names });
    claims.set_stage(stage(&point, archive.clone()))?;
    fail_points.at(FailPoint::Publishing);
    if let Some(ArchiveMove { to, names }) = &archive {
        let moved = archive::move_all(dir, to, names, &|name| fail_points.at(name));
        moved.map_err(failed("archive the chain in"))?;
    }
    fail_points.at(FailPoint::Archived);
    let committed = folder.commit(&[point], &|named| {
        fail_points.at(match named {
            Named::SmallFiles => FailPoint::SmallFilesRenamed,
            Named::FirstStream => FailPoint::FirstStreamRenamed,
            Named::Streams => FailPoint::StreamsRenamed,
        });
    });
    committed.map_err(CommitError::from)?;
    fail_points.at(FailPoint::Published);
    Ok(archive.map(|archive| archive.to))
}

/// What the journal must say before a point gets its names.
fn stage(point: &SealedPoint, archive: Option<ArchiveMove>) -> Stage {
    let (marker, text) = point.list().unwrap_or_default();
    Stage::Publishing {
        archive,
        files: point.files().map(str::to_owned).collect(),
        marker: marker.to_owned(),
        marker_text: String::from_utf8_lossy(text).into_owned(),
    }
}
