//! Why nothing can be planned.

/// A domain has nothing to back up.
#[derive(Debug, thiserror::Error)]
#[error("Domain {domain} has no disk that can be backed up: {reasons}")]
pub struct NoDisks {
    pub domain: String,
    /// Each disk and why not.
    pub reasons: String,
}
