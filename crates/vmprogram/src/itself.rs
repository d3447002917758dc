//! Starts this same program as a process of its own that looks at some files, and reads what it tells of each: JSON.
//!
//! Must not live here: what is asked for (`look`, `touch`, `writers`), and who answers (`answer`).

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{Program, ProgramError, Stopped};

/// What is told of each file, in their order. `argument` says what for. Starts nothing for no files.
pub(super) fn ask<T: DeserializeOwned>(
    argument: &str,
    files: &[PathBuf],
    limit: Duration,
    stopped: Stopped<'_>,
) -> Result<Vec<T>, ProgramError> {
    if files.is_empty() {
        return Ok(vec![]);
    }
    let done = Program::itself(argument).args(files).run(limit, stopped)?;
    let told = serde_json::from_slice(&done.stdout).ok().filter(|told: &Vec<_>| told.len() == files.len());
    told.ok_or_else(|| ProgramError::Start { source: io::Error::other(done.message()) })
}
