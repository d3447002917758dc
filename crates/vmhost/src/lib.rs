//! A libvirt host: its domains, their disks while they are read, their guests, and what they are besides their disks.
//!
//! Lives here: every call into libvirt ([`libvirt`]) and libnbd ([`nbd`]), the guest agent ([`guest`]), TPM state and
//! definitions ([`identity`]), the host's own configuration ([`host_config`]).
//! Must not live here: what is backed up and when a guest is frozen (the engine says that), settings, the database.
//! Layer: above `vmstore`, where it writes, and `libnbd-sys`. The only crate beside that one with `unsafe`, in `libvirt`,
//! `nbd` and `own_files` alone.
#![deny(unsafe_code)]

pub mod guest;
pub mod host_config;
pub mod identity;
pub mod libvirt;
pub mod nbd;
mod own_files;

pub use own_files::own_files;
