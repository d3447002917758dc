//! `--check`: whether backups can work here, and what to do where they cannot. Touches nothing.
//!
//! Lives here: what a finding is (`finding`), what is looked at (`host`, `storage`, `private_folder`, `vms`), how it is shown (`report`), and all of
//! it in its order (`look`).

mod finding;
mod host;
mod look;
mod private_folder;
mod report;
mod storage;
mod vms;

pub(super) use look::check;
