//! Proof that a backup set can be restored, without a guest and without writing.
//!
//! Lives here: reading every byte of a set and saying what each restore point is worth.
//! Must not live here: repair, printing.

mod batch;
mod deep;
pub mod report;
pub mod set;
pub(crate) mod sidecar;
pub mod stream;
pub(crate) mod tpm;

pub use report::{
    Depth, DiskDigest, DiskVerdict, FileReport, Finding, Level, PointVerdict, SetReport, Verdict, Worth,
};
pub use set::{VerifyOptions, Watch, total_bytes, verify_file, verify_set};
pub use stream::{Checksum, Proof, StreamReport, glance_at_stream, verify_stream};
