//! The record of what was done: `_state/vmbackup.db`, an SQLite database that people query.
//!
//! Lives here: its tables, how it is opened, mended and made anew from the backups on disk, what is written and what
//! can be asked. No SQL stands outside this folder.
//! Must not live here: decisions. What a backup needs to be restored is in its own folder: a run works without this.
//!
//! [`Catalog::open`] never fails. Where no database can be had, what is written is dropped with one warning, and what
//! is asked is answered with [`CatalogError::Unavailable`]: whoever wants to delete takes that for a no.

mod chain;
mod error;
mod event;
mod handle;
mod journal;
mod late;
mod open;
mod points;
mod query;
mod rebuild;
mod salvage;
mod schema;
mod session;
mod stamp;
mod tables;
mod tree;
mod vm_backup;
mod words;

pub use chain::{ChainHealth, ChainStatus, Remover};
pub use error::CatalogError;
pub use event::{
    ArchiveReason, ArchiveTrigger, ChainEvent, ChainEventKind, ConfigEvent, ConfigEventKind, EventRow,
    FileOperation, FileType, Operation, PeriodEvent, PeriodEventKind, PreserveReason, RetentionAction,
    RetentionEvent, RetentionTarget,
};
pub use handle::Catalog;
pub use query::{Failures, History, LastSuccess, PastError, PastRun, VmPeriod};
pub use session::{NewSession, SessionRow};
pub use stamp::{SessionId, Stamp};
pub use tree::{ChainFolder, DateSource, PointOnDisk, chains_of, left_out_of, newest_chain, points_in};
pub use vm_backup::{
    BackupMethod, BackupType, DiskBackup, DiskResult, ErrorCode, Failure, VmBackup, VmEvent, VmStatus,
};
