//! The other side of looking and touching: what this program does when it was started as a process for that, and how it tells it.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::look::{self, DIRECTORY_ARGUMENT, LOOK_ARGUMENT, Look};
use super::touch::{self, REMOVE_ARGUMENT, TRY_ARGUMENT};
use super::writers::{WRITERS_ARGUMENT, Writers};

/// Answers for the files, if the program's first argument asks for that. False when it asks for something else.
pub fn answer(argument: &OsStr, files: impl Iterator<Item = PathBuf>) -> bool {
    let said = io::Error::to_string;
    match argument.to_str() {
        Some(LOOK_ARGUMENT) => tell(files.map(|file| Look::at(&file).map_err(|e| said(&e)))),
        Some(DIRECTORY_ARGUMENT) => tell(files.map(|file| look::directory_at(&file).map_err(|e| said(&e)))),
        Some(WRITERS_ARGUMENT) => tell(files.map(|file| Writers::at(&file))),
        Some(TRY_ARGUMENT) => tell(files.map(|file| touch::tried(&file).map_err(|e| said(&e)))),
        Some(REMOVE_ARGUMENT) => tell(files.map(|file| touch::removed(&file).map_err(|e| said(&e)))),
        _ => return false,
    }
    true
}

fn tell(told: impl Iterator<Item = impl Serialize>) {
    let told: Vec<_> = told.collect();
    let _ = serde_json::to_vec(&told).map(|text| io::stdout().lock().write_all(&text));
}
