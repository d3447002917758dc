//! What a machine is besides its disks: the state of its TPM, its definition over time.
//!
//! Lives here: reading these things from the host and laying them out in a chain directory.
//! Must not live here: when they are taken (`engine`), what the guest is asked (`guest`).

mod definition;
mod private_copy;
mod tpm;
mod tpm_folder;

pub use definition::{DefinitionError, keep_definition};
pub use tpm::{TpmError, TpmState, state_dir, state_files};
pub use tpm_folder::{Owner, TpmFolder, folder_of, is_tpm_folder, renew};
