//! vmbackup: native backups of KVM/libvirt machines.
//!
//! Lives here: one run of the program (`session`), the backup of one VM (`engine`), what is kept (`retention`), what was done
//! (`catalog`), what people see (`cli`, `log`).
//! Layer: above all crates of the workspace. Inside, arrows point down: `cli` → `session` → `retention` → `engine`,
//! `catalog` → `log`.
#![forbid(unsafe_code)]

pub mod catalog;
pub mod cli;
pub mod clock;
pub mod engine;
pub mod log;
pub mod retention;
pub mod session;
