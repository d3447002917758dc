//! How the TPM's state at each restore point lies in a chain directory.
//!
//! ```text
//! .tpm-state.virtnbdbackup.0/tpm2/tpm2-00.permall     the state at that point, root only
//! .tpm-state.virtnbdbackup.1 -> .tpm-state.virtnbdbackup.0     unchanged since
//! tpm-state/tpm2/tpm2-00.permall                      a copy of the newest, where restore scripts look
//! .tpm-backup-marker                                  when it was taken
//! ```
//! Links are relative and stay inside the chain directory, so nothing that moves or deletes a chain leaves one dangling.
//! `tpm-state` is no link: the Bash program writes into whatever is there, and would change the state of a point.

mod names;
mod newest;
mod of_point;
mod same;
#[cfg(test)]
mod tests;

pub use names::is_tpm_folder;
pub use newest::renew;
pub use of_point::{Owner, TpmFolder, folder_of};
