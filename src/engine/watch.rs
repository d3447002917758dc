//! What a run tells while it works. The command line draws it, tests record it.

/// Hears of progress. Called from several threads at once.
pub trait Watch: Send + Sync {
    /// A disk's copy begins; `size_bytes` is the disk's size.
    fn disk_begin(&self, target: &str, size_bytes: u64);
    /// The copy of a disk has reached `position` (offset on the disk); `copied_bytes` of data came with this step.
    fn disk_advance(&self, target: &str, position: u64, copied_bytes: u64);
    /// A disk's copy ended, well or not.
    fn disk_end(&self, target: &str);
}

/// A watch that does not listen.
pub struct Unwatched;

impl Watch for Unwatched {
    fn disk_begin(&self, _: &str, _: u64) {}
    fn disk_advance(&self, _: &str, _: u64, _: u64) {}
    fn disk_end(&self, _: &str) {}
}
