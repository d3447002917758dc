//! Drawings of a session: plain functions of the value, each tested from the one literal.

mod age;
mod host_config;
mod line;
#[cfg(test)]
pub(crate) mod literal;
mod session_box;
mod size;
mod status;
mod table;

pub use host_config::host_config_line;
pub use line::{backup_line, level};
pub use session_box::{final_results, replication_only, session_box, vm_end, vm_start};
pub use status::status;
pub use table::table;
