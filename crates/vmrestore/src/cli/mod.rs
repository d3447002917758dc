//! What a person types and sees.
//!
//! Lives here: the command line (`command`, `read`, `asked`), one answer for each call (`call`, `failed`), the modes.
//! Must not live here: what of a tree is meant (`resolve`).

mod asked;
mod call;
mod command;
mod du;
mod failed;
mod list;
mod program;
mod read;
mod say;

pub use command::command;
pub use program::main;
