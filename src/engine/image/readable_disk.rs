//! A disk whose image a backup can read, as it was found.

use std::path::PathBuf;

use super::qemu_img::ImageInfo;
use crate::engine::domain::image_format::ImageFormat;
use crate::engine::domain::layout::Layout;
use vmhost::libvirt::SecretName;

/// A disk that can be read, with its image's facts.
#[derive(Clone, Debug)]
pub(crate) struct ReadableDisk {
    pub(crate) target: String,
    pub(crate) format: ImageFormat,
    pub(crate) image: PathBuf,
    pub(crate) info: ImageInfo,
    /// How that is opened, as far as the definition says.
    pub(crate) layout: Layout,
    pub(crate) shareable: bool,
    /// What opens the image, when it is encrypted.
    pub(crate) secret: Option<SecretName>,
}

impl ReadableDisk {
    /// Whether its image can keep dirty bitmaps.
    pub(crate) fn keeps_bitmaps(&self) -> bool {
        self.format == ImageFormat::Qcow2 && !self.info.is_qcow2_v2
    }
}
