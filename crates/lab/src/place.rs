//! Where the repository, cargo's target folder and the programs under test are.

use std::path::{Path, PathBuf};

/// The folder of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Cargo's target folder, where the scripts of the lab keep what they make.
pub(super) fn target() -> PathBuf {
    repository().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or("target".into()))
}

/// A program of this build: cargo puts tests into `PROFILE/deps`, and programs into `PROFILE`.
///
/// Cargo builds `vmbackup` before it runs a test of that package, and no program of another package.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a process knows its program");
    let profile = test.parent().and_then(Path::parent).expect("a test lies in PROFILE/deps");
    let path = profile.join(name);
    assert!(
        path.is_file(),
        "{} is missing: `cargo build --workspace --bins`, with the profile of the tests, makes it",
        path.display()
    );
    path
}
