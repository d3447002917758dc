//! Asks a process of this same program about some files, and reads what it tells of each: JSON.
//!
//! The process stays for the next question: a start costs as much as all that a small VM asks for. One that does not
//! answer in time is killed and left behind, and the next question starts another.
//!
//! Must not live here: what is asked for (`look`, `touch`, `room`, `writers`), and who answers (`answer`).

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::request::{Question, Request};
use super::running::Running;
use super::{Program, ProgramError, Stopped};

/// The first argument that makes this program answer questions.
pub(super) const ANSWER_ARGUMENT: &str = "--internal-answers";

/// Those that nobody asks anything now: as many as were ever asked at once.
static IDLE: Mutex<Vec<Running>> = Mutex::new(Vec::new());

fn idle<T>(with: impl FnOnce(&mut Vec<Running>) -> T) -> T {
    with(&mut IDLE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// What is told of each file, in their order. Starts nothing for no files.
pub(super) fn ask<T: DeserializeOwned>(
    question: Question,
    files: &[PathBuf],
    limit: Duration,
    stopped: Stopped<'_>,
) -> Result<Vec<T>, ProgramError> {
    if files.is_empty() {
        return Ok(vec![]);
    }
    let request = Request { question, files: files.to_owned() }.to_bytes();
    let request = request.map_err(|source| ProgramError::Start { source })?;
    let (process, line) = answered(&request, limit, stopped)?;
    let told = serde_json::from_slice(&line).ok().filter(|told: &Vec<_>| told.len() == files.len());
    let Some(told) = told else { return Err(not_answered(process)) };
    idle(|idle| idle.push(process));
    Ok(told)
}

/// A line, and who said it.
fn answered(
    request: &[u8],
    limit: Duration,
    stopped: Stopped<'_>,
) -> Result<(Running, Vec<u8>), ProgramError> {
    while let Some(mut process) = idle(Vec::pop) {
        if let Some(line) = process.ask(request, limit, stopped)? {
            return Ok((process, line));
        }
        // Somebody has ended it since it answered last.
    }
    let mut process = Program::itself(ANSWER_ARGUMENT).start_listening()?;
    match process.ask(request, limit, stopped)? {
        Some(line) => Ok((process, line)),
        None => Err(not_answered(process)),
    }
}

fn not_answered(process: Running) -> ProgramError {
    ProgramError::Start { source: io::Error::other(process.end()) }
}
