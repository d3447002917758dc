//! Makes a point of disks that are copied, and publishes it, the chain in its way going to the archive first.
//!
//! Must not live here: what is in its files (`commit::point`), the order of renames (`commit::publish`), how a chain moves
//! (`commit::archive`).

use std::path::PathBuf;

use crate::engine::claims::journal::ArchiveMove;
use crate::engine::claims::owned::Owned;
use crate::engine::commit::archive;
use crate::engine::commit::point::{self, PointIdentity};
use crate::engine::commit::publish::PointFiles;
use crate::engine::copy::CopiedDisk;
use crate::engine::fail_point::FailPoint;
use crate::engine::failure::FileError;
use crate::engine::look::chain_files;
use crate::engine::look::image_state::ImageStates;
use crate::engine::look::observe::Observed;
use crate::engine::run::engine::Engine;
use crate::engine::run::facts::Facts;
use crate::engine::snapshot::identity::{self, Identity};
use crate::engine::{BackupError, VmTarget};
use vmplan::{Decision, Plan};

/// What a point is made of.
pub(super) struct Made<'a> {
    pub(super) point: &'a PointIdentity,
    pub(super) copied: Vec<CopiedDisk>,
    pub(super) identity: Identity,
    /// How the images stood that the disks were read from, if that can be told.
    pub(super) images: Option<ImageStates>,
}

impl Engine {
    /// Writes what a point has beside the copied disks, publishes it, and does what is to be done once it is there.
    pub(super) fn commit(
        &self,
        vm: &VmTarget,
        (observed, plan): (&Observed, &Plan),
        Made { point, copied, identity, images }: Made<'_>,
        owned: &mut Owned<'_>,
        facts: &mut Facts,
    ) -> Result<(), BackupError> {
        let (ident, parent) = (point.id.ident(), point.parent.map(|parent| parent.to_string()));
        let parent = parent.as_deref();
        let mut files = PointFiles::new(&vm.chain_dir, point.time);
        point::write_files(vm, observed, point, identity.nvram(), &mut files)?;
        let (sidecars, disks) = point::add_disks(&mut files, copied)?;
        facts.disks = disks;
        point::add_placeholders(observed, point, self.settings.method.stated(), &mut files)?;
        if let Some(images) = images {
            point::write_state(observed, point, self.settings.raw_disks, images, &mut files)?;
        }
        let added = identity.add_to(self, vm, (&ident, parent), &mut files)?;
        facts.warnings.extend(added.warnings);
        facts.identity = Some(added.kept);
        point::add_sidecars(&mut files, sidecars, &ident, facts.every_disk())?;
        facts.archived_to = self.publish(vm, plan, &files, owned)?;
        facts.points = Some(point.count());
        let (definition, warnings) = identity::settle(self, vm, observed, added.folder, parent);
        facts.definition = definition;
        facts.warnings.extend(warnings);
        Ok(())
    }

    /// Publishes a complete point, the chain in its way going to the archive first. Returns where that went.
    fn publish(
        &self,
        vm: &VmTarget,
        plan: &Plan,
        files: &PointFiles,
        owned: &mut Owned<'_>,
    ) -> Result<Option<PathBuf>, BackupError> {
        self.fail_points.at(FailPoint::FilesWritten);
        let dir = &vm.chain_dir;
        let failed = |doing, source| FileError { doing, path: dir.clone(), source };
        let archive = match plan.decision {
            Decision::Full { archive: true } | Decision::Copy { archive: true } => {
                let names = chain_files::entries(dir).map_err(|e| failed("list", e))?;
                files.make_way(&names)?;
                let today = self.clock.local().date();
                let to = archive::claim(dir, today).map_err(|e| failed("make an archive folder in", e))?;
                Some(ArchiveMove { to, names })
            }
            _ => {
                files.make_way(&[])?;
                None
            }
        };
        owned.set_stage(files.stage(archive.clone()))?;
        self.fail_points.at(FailPoint::Publishing);
        files.publish(archive.as_ref(), &|name| self.fail_points.at(name))?;
        self.fail_points.at(FailPoint::Published);
        Ok(archive.map(|archive| archive.to))
    }
}
