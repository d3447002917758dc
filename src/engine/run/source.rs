//! What the disks of a backup are read from: a job of the QEMU that runs them, or images that no QEMU has open; or there are
//! none.
//!
//! Must not live here: the sources (`running`, `closed`, `definition`), the steps that are the same for both (`take`).

use crate::engine::BackupError;
use crate::engine::claims::claimed::Claims;
use crate::engine::copy::CopiedDisk;
use crate::engine::look::image_state::ImageStates;
use crate::engine::run::facts::Step;
use crate::engine::snapshot::identity::Identity;

/// What the disks are read from. Each step is taken once, in this order.
pub(super) trait Source<'a> {
    /// Fixes the content of the disks as it is at one moment, that of the point.
    fn begin(&mut self, identity: &mut Identity, claims: &mut Claims<'_>) -> Step;

    /// Copies all disks as they were at that moment.
    fn copy(&mut self, claims: &Claims<'_>) -> Step<Vec<CopiedDisk>>;

    /// Who has the disks as they were at that moment, when they cannot be read from here any more.
    ///
    /// # Errors
    /// When nobody has: why the copy failed.
    fn heir(&self, failed: BackupError, _: &Claims<'_>) -> Result<Box<dyn Source<'a> + 'a>, BackupError> {
        Err(failed)
    }

    /// Lets go of the disks, which are copied. Returns the state of images that hold still from then on.
    fn end(&mut self, claims: &mut Claims<'_>) -> Step<Option<ImageStates>>;
}
