//! The images of a domain's disks, and what `qemu-img` says of each.
//!
//! Must not live here: who else writes to them (`still`), whether they changed (`image_state`).

use std::path::PathBuf;

use super::LookError;
use crate::engine::VmTarget;
use crate::engine::cancel::Cancel;
use crate::engine::domain::disk::{Disk, ImageSource};
use crate::engine::domain::image_format::ImageFormat;
use crate::engine::domain::skip_reason::{SkipReason, Skipped};
use crate::engine::image::qemu_img::{self, QemuImgError};
use crate::engine::image::readable_disk::ReadableDisk;
use crate::engine::threads::some_at_once;
use vmhost::libvirt::ErrorKind;
use vmstore::presence;

/// How many images are asked about at once.
const IMAGES_AT_ONCE: usize = 8;

/// Finds the image of each disk and asks `qemu-img` about it, some at once. A volume of a pool may turn out to be on no
/// file or block device of this host.
pub(super) fn read_images(
    vm: &VmTarget,
    disks: Vec<Disk>,
    cancel: &Cancel,
) -> Result<Vec<Result<ReadableDisk, Skipped>>, LookError> {
    let read = |disk: Disk| {
        let Disk { target, format, source, layout, shareable, secret, optional } = disk;
        let image = match source {
            ImageSource::Path(path) => path,
            ImageSource::Volume { ref pool, ref volume } => {
                let host = vm.domain.host();
                let path = match host.volume_path(pool, volume) {
                    Err(error) if optional && error.kind == ErrorKind::NoVolume => {
                        let reason = SkipReason::Missing(source.to_string());
                        return Ok(Err(Skipped { target, reason }));
                    }
                    Err(source) => {
                        let (pool, is_active) = (pool.clone(), host.is_pool_active(pool).ok());
                        return Err(LookError::Volume { target, pool, is_active, source });
                    }
                    Ok(path) => PathBuf::from(path),
                };
                if !path.is_absolute() {
                    let reason = SkipReason::Network(format!("volume of pool {pool}"));
                    return Ok(Err(Skipped { target, reason }));
                }
                path
            }
        };
        let driver = if format == ImageFormat::Raw && secret.is_some() { "luks" } else { format.as_str() };
        let info = match qemu_img::info(&image, driver, &layout, cancel) {
            // Asked here and now: the storage answers, or that would have hung.
            Err(QemuImgError::Failed { .. })
                if optional && presence::there(&image).is_ok_and(|there| !there) =>
            {
                let reason = SkipReason::Missing(image.display().to_string());
                return Ok(Err(Skipped { target, reason }));
            }
            Err(QemuImgError::Failed { message, .. }) if qemu_img::says_missing(&message) => {
                let domain = vm.domain.name().to_owned();
                return Err(LookError::NoImage { domain, target, message });
            }
            info => info.map_err(|e| cancel.cause::<LookError>(e))?,
        };
        Ok(Ok(ReadableDisk { target, format, image, info, layout, shareable, secret }))
    };
    some_at_once(IMAGES_AT_ONCE, disks, read).into_iter().collect()
}
