//! One run: discover → plan → back up each domain → collect what happened.
//!
//! Must not live here: printing, arguments (`cli`); how one domain is backed up (`engine`).

mod layout;
mod run;

pub use layout::{LayoutError, folder_name, period_of};
pub use run::{RunWatch, Session, SessionError, VmOutcome, VmResult};
