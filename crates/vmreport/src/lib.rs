//! What a session of backups did: one value, [`SessionReport`], and what people and programs see of it. How VMs stand is another,
//! [`StatusReport`].
//!
//! Lives here: the values and their versions, what every answer in JSON begins with ([`Document`]), exit codes ([`Exit`]), the file
//! that keeps its parts while the session runs ([`PartsFile`]), and the drawings ([`draw`]): plain functions of the value. As JSON
//! it is the value itself; `docs/schemas` has its schema.
//! Must not live here: how the facts are gathered (`session` of vmbackup), SQL, libvirt, a clock.
//! Layer: above `vmstream` (text) and `vmplan` (decisions and their reasons); below `vmhost`, some of
//! whose answers are told as they are.
#![forbid(unsafe_code)]

mod backup;
mod counts;
mod disk;
mod document;
pub mod draw;
mod exit;
mod host_config;
mod parts;
mod prune;
mod retention;
mod session;
mod status;
mod vm;

pub use backup::{
    BackupReport, FileSystem, GuestOs, KeptFile, Method, OsInfo, PlanReport, TpmKept, Trimmed, TrimmedPath,
};
pub use counts::{Counts, Ending, Totals};
pub use disk::{DiskOutcome, DiskReport, DiskResult, Stage, Stages};
pub use document::{Call, Document, Refusal};
pub use exit::Exit;
pub use host_config::{HostConfigReport, SavedHostConfig};
pub use parts::{PartsError, PartsFile, read_parts};
pub use prune::{KeptBack, PruneReport, Removal};
pub use retention::RetentionReport;
pub use session::{
    Part, Replication, ReplicationState, Schema, SessionAnswer, SessionEnd, SessionHead, SessionKind,
    SessionReport, SessionStatus,
};
pub use status::{
    Fault, Group, Health, LastRun, LeftOutDisk, Leftover, LeftoverKind, NewestChain, NotServed, RunResult,
    RunningSession, StatusAnswer, StatusReport, StatusTotals, VmStanding,
};
pub use vm::{ChainOnDisk, Destination, Failure, FailureCode, NextStep, Trouble, VmReport, VmResult};
