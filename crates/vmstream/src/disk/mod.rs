//! A disk at a restore point that can be read anywhere, by any number of threads, without putting it together first.
//!
//! Lives here: where each layer has what (`index`), what is known of its content (`known`), which of it is decoded and kept (`layered`, `shelf`, `flights`), raw images
//! (`raw`), and what a reader sees of it (`open`, `extents`, `copy`).
//! Must not live here: which layer wins (`restore::map`), the codecs (`stream`), images that are written (`restore`).

mod copy;
mod error;
mod extents;
mod flights;
mod index;
mod known;
mod layered;
mod open;
mod options;
mod raw;
mod shelf;
mod source;

pub use copy::CopyError;
pub use error::DiskError;
pub use extents::{Extent, Extents};
pub use open::Disk;
pub use options::{Check, DiskOptions, Proof};
