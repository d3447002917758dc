//! Native backup engine for KVM/libvirt.
//!
//! Layers, arrows point down: `cli` → `session` → `policy`, `engine` → `config`, `state`, `nbd`, `libvirt`, `program`, and the
//! crate `vmstream` with `stream`, `chain` and `restore`.
#![deny(unsafe_code)]

pub mod catalog;
pub mod cli;
pub mod clock;
pub mod engine;
pub mod guest;
pub mod host_config;
pub mod identity;
pub mod libvirt;
pub mod log;
pub mod nbd;
pub mod retention;
pub mod session;
pub mod state;

pub use vmconfig as config;
pub use vmplan as policy;
pub use vmprogram as program;
pub use vmstore::presence;
