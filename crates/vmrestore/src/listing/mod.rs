//! What there is to restore from, as values: VMs, their sets, their points.
//!
//! Lives here: reading, quickly: names and sizes of files, nothing of what is in them.
//! Must not live here: how it is printed (`cli`), which of it somebody means (`resolve`).

mod files;
mod points;
mod vms;

pub use files::{SetFiles, SetKind};
pub use points::{PointKind, PointListing, PointsListing, SetListing, points};
pub use vms::{Listing, VmListing, vms};
