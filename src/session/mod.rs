//! One run: discover → plan → back up each domain → collect what happened.
//!
//! Must not live here: printing, arguments (`cli`); how one domain is backed up (`engine`).

mod host;
mod layout;
mod order;
mod plan;
pub mod priority;
mod record;
mod run;
mod settings;
mod status;
mod tidy;
mod tries;

pub use host::HostOutcome;
pub use layout::LayoutError;
pub use plan::{Outlook, VmPlan};
pub use record::Records;
pub use run::{Place, RunWatch, Session, SessionError, VmOutcome, VmResult, check_backup_path};
pub use status::{ChainReport, Health, VmReport, status};
