//! The tests of this crate, as one program: there is one to link, and no processor waits for the last test of a file.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod belongs;
mod bounded;
mod cat;
mod chains;
mod cli;
mod convert;
mod damage;
mod damage_grid;
mod denied;
mod disk;
mod disk_bounds;
mod golden;
mod interop;
mod long_chain;
mod made;
mod model;
mod ours;
mod peer;
mod program;
mod proof;
mod reader;
mod restore;
mod roundtrip;
mod schemas;
mod show;
mod sidecar;
mod targets;
mod vectors;
mod verify;
mod writing;
