//! From a chain of streams to a disk: which stream supplies which byte, and the image itself.
//!
//! Lives here: which byte is whose (`map`, `units`, `picture`); a disk as windows in order (`window`, `content`), or all points
//! of a chain at once (`replay`, `state`, `leaf`); an image of it (`extract`, by `apply` or `raw` into a `target`) or a pipe
//! (`pipe`); what proves it meanwhile (`summed`); and the same disk held against an image (`compare`).
//! Must not live here: file names and points (`chain`), VMs and libvirt.

mod apply;
pub(crate) mod claim;
pub mod compare;
pub(crate) mod content;
mod device;
mod error;
pub mod extract;
mod extracted;
pub(crate) mod leaf;
pub mod map;
mod nbd;
mod open_target;
mod options;
pub(crate) mod ordered;
pub(crate) mod partial;
pub mod picture;
pub mod pipe;
mod qcow2;
pub(crate) mod raw;
pub(crate) mod replay;
mod sparse;
pub(crate) mod state;
pub(crate) mod summed;
mod target;
pub mod units;
pub(crate) mod window;
pub(crate) mod zeros;

pub use claim::Claim;
pub use compare::{CompareError, Compared, compare};
pub use error::{ExtractError, SumOf};
pub use extract::extract;
pub use extracted::{Extracted, Watch};
pub use map::{BlockMap, Layer, MapError, Segment, Source};
pub use options::{ExtractOptions, Format};
pub use partial::{Existing, NewFileError, Partial};
pub use pipe::{extract_to, pipe_to};
pub use summed::check_streams;
pub use units::{Unit, Units};
pub use zeros::is_zero;
