//! The database: its tables are those of the Bash version, its rows are true, and losing it costs nothing.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod late;
mod lost;
mod shared;
mod tree;
mod versions;
mod written;
