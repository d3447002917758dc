//! Rows of the five event tables, a file for each, with the words it uses.

mod chain;
mod config;
mod file;
mod period;
mod retention;
mod row;

pub use chain::{ArchiveReason, ArchiveTrigger, ChainEvent, ChainEventKind};
pub use config::{ConfigEvent, ConfigEventKind};
pub use file::{FileOperation, FileType, Operation};
pub use period::{PeriodEvent, PeriodEventKind};
pub use retention::{PreserveReason, RetentionAction, RetentionEvent, RetentionTarget};
pub use row::EventRow;
