//! The virtnbdbackup-compatible backup set: its streams, its folder, and how to get disks back from it.
//!
//! Lives here: `blob` (a file by position, wherever it is kept), `stream` (the bytes of one file), `sidecar` (what proves them), `chain` (a folder of them),
//! `disk` (a disk at a point, to be read anywhere), `restore` (from streams to a disk), `in_use` (who has an image open), `verify` (what a folder is worth), `doctor` (what
//! its writer may have left out), `convert` (a folder written again in another form), `new_point` (how
//! a restore point is written), `durable` (files that appear whole),
//! `page_cache` (which lets go of what is written), `unfinished` (what goes when the process is ended), `signals` (who ends it),
//! `text`, `causes` and `terminal` (sizes, tables, errors and progress as people see them, for the programs).
//! Must not live here: libvirt, libnbd, configuration, printing.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod blob;
pub mod causes;
pub mod chain;
pub mod convert;
pub mod disk;
pub mod doctor;
pub mod durable;
pub mod fresh;
pub mod in_use;
pub mod new_point;
pub mod page_cache;
mod pooled;
pub mod presence;
mod regular;
pub mod restore;
pub mod sidecar;
pub mod signals;
pub mod stream;
pub mod terminal;
pub mod text;
pub mod unfinished;
pub mod verify;

/// So many threads a program works with unless it is told otherwise: each needs up to 64 MiB, and few disks keep more than four
/// busy.
pub fn default_workers() -> std::num::NonZeroUsize {
    let four = std::num::NonZeroUsize::MIN.saturating_add(3);
    std::thread::available_parallelism().map_or(std::num::NonZeroUsize::MIN, |cores| cores.min(four))
}
