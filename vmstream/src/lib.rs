//! The virtnbdbackup-compatible backup set: its streams, its folder, and how to get disks back from it.
//!
//! Lives here: `stream` (the bytes of one file).
//! Must not live here: libvirt, NBD, configuration, printing.
#![forbid(unsafe_code)]

pub mod stream;
