//! Publishes a complete point of a run, the chain in its way going to the archive first.
//!
//! Must not live here: the order of renames (`commit::publish`), how a chain moves (`commit::archive`).

use std::path::PathBuf;

use crate::engine::claims::journal::ArchiveMove;
use crate::engine::claims::owned::Owned;
use crate::engine::commit::archive;
use crate::engine::commit::publish::PointFiles;
use crate::engine::fail_point::FailPoint;
use crate::engine::failure::FileError;
use crate::engine::look::chain_files;
use crate::engine::run::engine::Engine;
use crate::engine::{BackupError, VmTarget};
use vmplan::{Decision, Plan};

impl Engine {
    /// Publishes a complete point, the chain in its way going to the archive first. Returns where that went.
    pub(super) fn publish(
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
