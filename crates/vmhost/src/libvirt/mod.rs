//! Safe wrapper over libvirt: connection, domains, backup jobs, checkpoints, agent commands.
//!
//! Lives here: every call into libvirt, typed errors, reconnecting when the daemon was restarted.
//! Must not live here: what to back up, when to freeze, what an error means for a chain (`engine`, `policy`).
//!
//! `virt` has no wrapper for backup jobs and checkpoints, so those go through `virt-sys` directly.

// One of the three layers that may call C; each block says why it is sound.
#![allow(unsafe_code)]

mod checkpoint;
mod definition;
mod domain;
mod error;
mod event_loop;
mod host;
mod job;
mod said;
mod secret;
mod snapshot;

pub use checkpoint::{CheckpointDelete, CheckpointInfo, changed_bytes};
pub use definition::{Definition, DefinitionKind};
pub use domain::{Domain, DomainState, Standing};
pub use error::{ErrorKind, LibvirtError};
pub use host::Host;
pub use job::JobSeen;
pub use said::Said;
pub use secret::SecretName;
pub use snapshot::SnapshotInfo;
