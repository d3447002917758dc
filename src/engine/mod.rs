//! One domain's backup: snapshot → extents → pipeline → commit.
//!
//! Must not live here: which level to take (`policy`), several domains, configuration, printing.

mod archive;
mod bitmap;
pub mod budget;
pub mod cancel;
pub mod copy;
pub mod disk;
pub mod extent;
pub mod guard;
pub mod journal;
pub mod lock;
pub mod qemu_img;
pub mod recover;
pub mod watch;
mod xml;
