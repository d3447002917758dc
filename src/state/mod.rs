//! The folder `_state` and the owner of the backups, as far as other programs are asked about them; all else is in `vmstore`.

mod group;
pub mod snapshot;

pub use group::{known_owner, owner_on_host};
pub use vmstore::*;
