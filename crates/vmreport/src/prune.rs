//! What a session that only deletes did.

use serde::{Deserialize, Serialize};

/// What was asked for, what goes, and what is held back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneReport {
    /// What was asked for, for people.
    pub description: String,
    /// What was to go, in bytes.
    pub selected_bytes: u64,
    /// What is held back.
    pub kept: Vec<KeptBack>,
    /// What was removed, or could not be, in this order.
    pub removals: Vec<Removal>,
}

/// Something that was asked for and stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptBack {
    /// What it is, for people: `period 202611 for web`.
    pub what: String,
    /// What holds it.
    pub why: String,
}

/// Something that was to be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// What it is, for people: `chain chain-2026-11-22 in web/202611`.
    pub what: String,
    pub freed_bytes: u64,
    /// Why it, or a part of it, is still there. `None` when it is gone.
    pub error: Option<String>,
}
