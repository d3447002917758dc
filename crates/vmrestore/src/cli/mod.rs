//! What a person types and sees.
//!
//! Lives here: the command line (`command`, `read`, `asked`), one answer for each call and its log (`call`, `failed`, `log`), the modes.
//! Must not live here: what of a tree is meant (`resolve`).

mod asked;
mod call;
mod command;
mod du;
mod dump;
mod failed;
mod list;
mod log;
mod points;
mod program;
mod progress;
mod read;
mod say;
mod signals;
mod verify;

pub use command::command;
pub use program::main;
