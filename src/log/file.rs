//! A log file that is appended to for as long as it can be.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// An open log file. The first line that cannot be written is the last one tried.
pub(super) struct LogFile {
    path: PathBuf,
    file: Option<File>,
}

impl LogFile {
    /// Opens a file to append to, and creates it. Never through a symbolic link: root writes to it. Nor a pipe, which
    /// would be waited for.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let file = fs::OpenOptions::new().create(true).append(true).custom_flags(flags).open(path)?;
        Ok(Self { path: path.to_owned(), file: Some(file) })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends. `Err` with what to tell people, once.
    pub(super) fn write(&mut self, text: &str) -> Result<(), String> {
        let Some(file) = &mut self.file else { return Ok(()) };
        // One call for each line, so that lines of two processes do not mix.
        file.write_all(text.as_bytes()).map_err(|error| {
            self.file = None;
            format!(
                "Log file {} cannot be written ({error}): the rest of this session is missing there",
                self.path.display()
            )
        })
    }
}
