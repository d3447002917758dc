//! vmrestore: VMs from a tree of backups, as they were at a restore point.
//!
//! Lives here: what of a tree is meant (`resolve`), what there is in it (`listing`), what people and programs ask for and see (`cli`).
//! Must not live here: what is in a backup set and how a disk comes out of it (`vmstream`), names in the tree (`vmstore`).
//! Layer: above all crates but vmbackup's own; needs neither its database nor a configuration.
#![forbid(unsafe_code)]

pub mod cli;
pub mod listing;
pub mod resolve;
