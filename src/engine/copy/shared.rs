//! What all disks of a run share.

use std::sync::Arc;
use std::time::Duration;

use super::budget::Budget;
use super::compress::Compressors;
use super::rate::Rate;

/// What all disks of a run share.
#[derive(Clone)]
pub struct Shared {
    /// Threads that compress.
    pub compressors: Arc<Compressors>,
    /// Memory for frames on their way.
    pub budget: Budget,
    /// A place for each disk that is copied at the same time, all domains together.
    pub disks: Budget,
    /// How much may be written in a second.
    pub rate: Arc<Rate>,
    /// A disk that makes no progress for so long is given up: something hangs.
    pub stall_limit: Duration,
}
