//! Runs of `vmstream verify --json`.

use crate::program::vmstream;
use serde_json::Value;
use std::path::Path;

/// The exit code, and what is said of the only set or file, or of all of them.
pub(super) fn verify(dir: &Path, args: &[&str]) -> (i32, Value) {
    let done = vmstream(dir, &[&["verify", "--json"], args].concat());
    let json: Value = serde_json::from_slice(&done.stdout).unwrap();
    let parts = ["sets", "files"].map(|key| json[key].as_array().unwrap());
    let only = match parts {
        [one, none] | [none, one] if one.len() == 1 && none.is_empty() => one[0].clone(),
        _ => json,
    };
    (done.status.code().unwrap(), only)
}

pub(super) fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x40;
    let modified = std::fs::metadata(path).unwrap().modified().unwrap();
    std::fs::write(path, bytes).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}
