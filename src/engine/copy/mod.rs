//! Copies disks from NBD exports into streams or raw images.
//!
//! ```text
//! scout ──► readers ──► compressors ──► writer ──► file
//!   └──────────── zero ranges ────────────┘
//! ```
//! The scout asks for block status in windows and numbers what there is to do; readers keep several requests in
//! flight; compressors are shared by all disks of a run; the writer restores the order. A budget bounds the bytes
//! on their way. The first error stops the others and is the one reported.
//!
//! Must not live here: jobs, checkpoints, names in the chain directory.

mod all;
pub mod budget;
mod compress;
mod disk;
mod effort;
mod error;
pub mod extent;
mod first_error;
mod limits;
mod meter;
mod piece;
mod pulse;
pub mod rate;
mod reader;
mod scout;
mod shared;
mod sink;
mod task;
mod tripwire;
mod writer;

pub use self::all::{CopiedDisk, copy_all};
pub use self::compress::Compressors;
pub use self::error::{CopyError, Trip};
pub use self::limits::DISKS_OF_RUN;
pub use self::shared::Shared;
pub use self::sink::Copied;
pub use self::task::{DiskTask, SidecarPlan, SinkPlan};
pub use self::tripwire::TripwirePlan;
