//! The program under test, and what it says; programs that other tests start meanwhile.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use vmstream::in_use::{InUse, user_of};

pub(crate) const VMSTREAM: &str = env!("CARGO_BIN_EXE_vmstream");

pub(crate) fn vmstream(dir: &Path, args: &[&str]) -> Output {
    Command::new(VMSTREAM).args(args).current_dir(dir).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Waits until nobody has an image open: a program that another test starts has all that is open here, until it is
/// executed. What replaces the image then would take that for a user.
#[track_caller]
pub(crate) fn wait_until_free(image: &Path) {
    let began = Instant::now();
    while let InUse::By(user) = user_of(image) {
        assert!(began.elapsed() < Duration::from_secs(60), "{} is in use by {user}", image.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}
