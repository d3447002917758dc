//! What a domain's XML says: its disks and how they are opened, what no backup holds; the XML of jobs and checkpoints,
//! and the names of the bitmaps that mark a chain.
//!
//! Must not live here: asking libvirt for XML, opening what it names (`image`), decisions (`plan`, `vmplan`).

pub(crate) mod boot_file;
pub mod disk;
mod element;
pub mod facts;
pub mod image_format;
pub mod layout;
pub(crate) mod marker_name;
pub mod not_backed_up;
pub mod skip_reason;
pub mod xml;
