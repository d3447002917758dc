//! A new qcow2 file, written here: no other program is needed, and it costs hardly more than a raw file.
//!
//! ```text
//! cluster 0  header │ level 1 table │ data and level 2 tables, as they come │ refcount blocks │ refcount table
//! ```
//! Clusters are taken one after another and never given back, so each has a refcount of 1, and all refcounts can be written
//! last. The source of the format is QEMU's `docs/interop/qcow2.txt`, version 3.
//!
//! Lives here: the file (`image`), what its tables are (`tables`), where numbers stand (`layout`).
//! Must not live here: reading qcow2; backing files, snapshots, encryption, compression.

mod image;
mod layout;
mod tables;
#[cfg(test)]
mod tests;

pub(super) use image::Qcow2Image;
pub(super) use layout::MAX_DISK;
