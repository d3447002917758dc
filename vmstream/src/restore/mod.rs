//! From a chain of streams to a disk: which stream supplies which byte, and the image itself.
//!
//! Must not live here: file names and points (`chain`), VMs and libvirt.

pub mod extract;
pub mod map;
pub mod sparse;
pub mod units;

pub use extract::{ExtractError, ExtractOptions, Extracted, Watch, extract};
pub use map::{BlockMap, Layer, MapError, Segment, Source};
pub use units::{Unit, Units};
