//! Locks between test processes, for what the machine has only once.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// Waits for a lock of this name, which is held as long as the file lives.
pub(super) fn wait_for(name: &str, how: FlockOperation) -> File {
    let dir = Path::new("/run/vmbackup-lab");
    let file = fs::create_dir_all(dir).and_then(|()| File::create(dir.join(name)));
    let file = file.unwrap_or_else(|error| panic!("Cannot create {}/{name}: {error}", dir.display()));
    flock(&file, how).expect("a lock can be waited for");
    file
}
