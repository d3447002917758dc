//! Proof that a backup set can be restored, without a guest and without writing.
//!
//! Lives here: reading every byte of a set (`set`, each stream by `stream`, what lies beside by `sidecar` and `tpm`, the disks
//! put together by `deep`), each `finding`, and what each restore point is worth by them (`judge`), as a `report`.
//! Must not live here: repair, printing.

mod batch;
mod checksum_file;
mod deep;
mod digest;
mod finding;
mod judge;
mod options;
pub mod report;
pub mod set;
pub(crate) mod sidecar;
pub mod stream;
mod stream_report;
pub(crate) mod tpm;

pub(crate) use checksum_file::recorded;
pub use finding::{Finding, Level};
pub use options::{Depth, VerifyOptions, Watch};
pub use report::{DiskDigest, DiskVerdict, FileReport, PointVerdict, SetReport, Verdict, Worth};
pub use set::{total_bytes, verify_file, verify_set};
pub use stream::{glance_at_stream, verify_stream};
pub use stream_report::{Checksum, Proof, StreamReport};
