//! Looks at one domain without touching it: everything that a decision rests on.
//!
//! Must not live here: what follows from it (`plan`, `vmplan`).

mod chain;
pub(crate) mod chain_files;
pub mod checkpoint_origin;
mod disk_images;
mod error;
pub(crate) mod image_state;
pub(crate) mod observe;
pub(crate) mod start_obstacle;
pub(crate) mod still;
mod unnoted_copy;
pub(crate) mod unseen;

pub use self::error::LookError;
