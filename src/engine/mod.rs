//! One domain's backup: observe → plan → journal → snapshot → extents → pipeline → commit.
//!
//! Must not live here: which level to take (`vmplan`), several domains, configuration, printing.

pub mod cancel;
pub mod claims;
pub mod commit;
pub mod copy;
pub mod domain;
pub mod fail_point;
mod failure;
pub mod image;
pub mod look;
pub mod method;
pub mod plan;
pub mod recovery;
mod run;
pub mod settings;
pub mod snapshot;
mod target;
mod threads;
pub mod watch;

pub use self::domain::not_backed_up::NotBackedUp;
pub use self::failure::{Changed, FileError};
pub use self::plan::disk_plan::{Caveat, DiskPlan, Treatment};
pub use self::run::engine::Engine;
pub use self::run::error::BackupError;
pub use self::run::facts::FailedBackup;
pub use self::run::preview::{Preview, preview};
pub use self::target::VmTarget;
