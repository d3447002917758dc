//! One domain's backup: snapshot → extents → pipeline → commit.
//!
//! Must not live here: which level to take (`policy`), several domains, configuration, printing.

pub mod budget;
pub mod cancel;
pub mod copy;
pub mod disk;
pub mod extent;
pub mod watch;
