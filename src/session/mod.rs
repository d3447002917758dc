//! One run: discover → plan → back up each domain → collect what happened.
//!
//! `open` has the VMs and their folders; `preview` says what a run would do; `run` does it, with `vm` for each of them. What is
//! below these is what they use.
//! Must not live here: printing, arguments (`cli`); how one domain is backed up (`engine`).

mod at_once;
mod bash_notes;
mod choose;
mod cleanup;
mod destination;
mod error;
mod events;
mod folder_bytes;
mod host;
mod late_rows;
mod layout;
mod leftovers;
mod open;
mod order;
mod outcome;
mod parts;
mod plan;
mod preview;
pub mod priority;
mod record;
mod row;
mod run;
mod settings;
mod status;
mod tell;
mod tries;
mod unfinished;
mod vm;
mod watch;

pub use choose::names_in;
pub use error::{SessionError, check_backup_path};
pub use host::HostOutcome;
pub use late_rows::take_over;
pub use layout::LayoutError;
pub use open::Session;
pub use parts::keep_parts;
pub use plan::{PlannedVm, VmPlan};
pub use record::Records;
pub use status::{SeenDomain, status};
pub use watch::RunWatch;
