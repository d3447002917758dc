//! The images of disks, through QEMU's own programs: what they are made of, their bitmaps, reading one that nobody runs.
//!
//! Must not live here: what a domain says of its disks (`domain`), what is copied from them (`copy`).

pub(crate) mod bitmap;
pub(crate) mod changes;
pub(crate) mod damage;
mod devices;
mod error;
pub(crate) mod key;
pub(crate) mod layers;
mod node;
pub(crate) mod qcow2_header;
pub mod qemu_img;
pub(crate) mod qemu_nbd;
pub(crate) mod readable_disk;
pub(crate) mod union;

pub use self::error::ImageError;
