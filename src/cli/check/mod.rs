//! `--check`: whether backups can work here, and what to do where they cannot. Touches nothing.
//!
//! Lives here: what a finding is (`finding`), what is looked at (`host`, `storage`, `vms`), how it is shown (`report`), and all of
//! it in its order (`look`).

mod finding;
mod host;
mod look;
mod report;
mod storage;
mod vms;

pub(super) use look::check;
