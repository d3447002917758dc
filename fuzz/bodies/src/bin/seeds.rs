//! Writes the seeds and the findings of each target into a folder of its name: a corpus for libFuzzer to begin with.
//!
//! `fuzz-seeds FOLDER`
#![forbid(unsafe_code)]

use std::path::Path;

use fuzz_bodies::TARGETS;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(folder) = std::env::args_os().nth(1) else { return Err("usage: fuzz-seeds FOLDER".into()) };
    for target in TARGETS {
        let dir = Path::new(&folder).join(target.name);
        std::fs::create_dir_all(&dir)?;
        for (number, seed) in (target.seeds)().into_iter().chain(target.findings()?).enumerate() {
            std::fs::write(dir.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
