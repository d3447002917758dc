//! From a chain of streams to a disk: which stream supplies which byte, and the image itself.
//!
//! Must not live here: file names and points (`chain`), VMs and libvirt.

pub(crate) mod claim;
pub mod compare;
pub(crate) mod content;
mod device;
pub mod extract;
pub(crate) mod leaf;
pub mod map;
mod nbd;
pub(crate) mod ordered;
pub(crate) mod partial;
pub mod picture;
pub mod pipe;
mod qcow2;
pub(crate) mod replay;
pub(crate) mod sparse;
pub(crate) mod summed;
mod target;
pub mod units;

pub use claim::Claim;
pub use compare::{CompareError, Compared, compare};
pub use extract::{ExtractError, ExtractOptions, Extracted, Format, Watch, extract};
pub use map::{BlockMap, Layer, MapError, Segment, Source};
pub use partial::{Existing, NewFileError, Partial};
pub use pipe::{extract_to, pipe_to};
pub use sparse::is_zero;
pub use summed::{SumOf, check_streams};
pub use units::{Unit, Units};
