//! The backup set on disk as a model: names, the checkpoint list, restore points, coverage.
//!
//! Lives here: reading a folder and saying what is in it, and what binds its files to each other.
//! The rules are in `format-spec/` (chapters 2 and 3); change both in one commit.
//! Must not live here: what to do about it (policy), frame layout (`stream`), block maps (`restore`).

mod bonds;
mod check;
mod config;
pub mod coverage;
pub mod cpt;
mod definition;
mod diffs;
mod exchanged;
pub mod folders;
pub mod ident;
mod identity;
mod listed;
pub mod names;
mod open;
pub mod point;
pub mod problem;
mod scan;
pub mod set;
mod set_error;
pub mod times;
pub mod tree;
pub mod when;

pub use coverage::Coverage;
pub use definition::Definition;
pub use ident::{CheckpointName, DiskTarget, NameError, PointId};
pub use names::{SetFile, StreamKind, StreamSuffix};
pub use point::{
    BoundSidecar, DiskContent, Point, PointDisk, RawImage, SidecarProblem, StreamEntry, UnusedSidecar,
};
pub use problem::{SetProblem, Severity};
pub use scan::open_file;
pub use set::BackupSet;
pub use set_error::SetError;
pub use tree::Tree;
