//! The formats of images that a backup reads.

/// How the image behind a disk is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// Can hold dirty bitmaps, so it can be backed up incrementally.
    Qcow2,
    /// Plain bytes; no bitmaps.
    Raw,
}

impl ImageFormat {
    /// The name that libvirt, QEMU and the stream's `diskFormat` use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}
