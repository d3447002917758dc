//! A journal as a file: a line of JSON for each state of its run, the newest last. A state costs one sync, or none where it tells of
//! what ends with the host.
//!
//! Versions before 0.6 wrote one state over several lines. Must not live here: what a state says (`journal`).

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::de::DeserializeOwned;
use vmstore::durable;

/// Group may read, others nothing: what the tree has everywhere.
const FILE_MODE: u32 = 0o640;

/// The file of a run that is under way.
pub(super) struct Lines {
    file: File,
    /// Where the next line goes.
    len: u64,
    /// How much of it is on disk.
    kept: u64,
}

impl Lines {
    /// Makes the file, with its first state, in the place of another. It is durable then.
    pub(super) fn create(path: &Path, state: &[u8]) -> io::Result<Self> {
        let line = line(state);
        let file = durable::replace_with(path, FILE_MODE, |file| {
            file.write_all(&line)?;
            file.try_clone()
        })?;
        let len = line.len() as u64;
        Ok(Self { file, len, kept: len })
    }

    /// Adds a state, on disk when this returns.
    ///
    /// # Errors
    /// The states before count then, as far as the disk can be asked.
    pub(super) fn add(&mut self, state: &[u8]) -> io::Result<()> {
        let before = self.len;
        let added = self.add_of_this_boot(state).and_then(|()| self.file.sync_data());
        match added {
            Ok(()) => self.kept = self.len,
            Err(_) => self.cut(before),
        }
        added
    }

    /// Adds a state that tells of what ends with the host, and waits for no disk.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub(super) fn add_of_this_boot(&mut self, state: &[u8]) -> io::Result<()> {
        let line = line(state);
        let added = self.file.write_all_at(&line, self.len);
        match added {
            Ok(()) => self.len += line.len() as u64,
            Err(_) => self.cut(self.len),
        }
        added
    }

    /// Takes back the states that tell of what ends with the host.
    pub(super) fn take_back(&mut self) -> io::Result<()> {
        self.file.set_len(self.kept)?;
        self.len = self.kept;
        Ok(())
    }

    /// Nobody may take a line for written that is not.
    fn cut(&mut self, len: u64) {
        let _ = self.file.set_len(len);
        self.len = len;
    }
}

/// Writes a file of one state, in the place of another.
pub(super) fn write(path: &Path, state: &[u8]) -> io::Result<()> {
    Lines::create(path, state).map(drop)
}

fn line(state: &[u8]) -> Vec<u8> {
    [state, b"\n"].concat()
}

/// The newest state in a file. A last line that was not written to its end does not count.
pub(in crate::engine) fn newest<T: DeserializeOwned>(file: &[u8]) -> serde_json::Result<T> {
    let mut states = serde_json::Deserializer::from_slice(file).into_iter();
    let mut newest = None;
    loop {
        let rest = file.get(states.byte_offset()..).unwrap_or_default().trim_ascii_start();
        match states.next() {
            Some(Ok(state)) => newest = Some(state),
            Some(Err(error)) => match newest.filter(|_| !rest.contains(&b'\n')) {
                Some(newest) => return Ok(newest),
                None => return Err(error),
            },
            None => return newest.map_or_else(|| serde_json::from_slice(file), Ok),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> serde_json::Result<u32> {
        newest(&std::fs::read(path).unwrap())
    }

    #[test]
    fn the_newest_state_counts_and_half_a_line_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.json");
        let mut lines = Lines::create(&path, b"1").unwrap();
        assert_eq!(read(&path).unwrap(), 1);
        lines.add_of_this_boot(b"22").unwrap();
        assert_eq!(read(&path).unwrap(), 22);
        lines.take_back().unwrap();
        assert_eq!(read(&path).unwrap(), 1);
        lines.add_of_this_boot(b"22").unwrap();
        lines.add(b"333").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"1\n22\n333\n");
        assert_eq!(read(&path).unwrap(), 333);
        // Killed in the middle of a line, or a host that failed before it was written.
        for torn in [&b"[4"[..], b"\0\0\0\0", b"tru"] {
            std::fs::write(&path, [b"1\n22\n", torn].concat()).unwrap();
            assert_eq!(read(&path).unwrap(), 22, "{torn:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for (file, is_read) in [
            (&b"{\n  \"a\": 1\n}"[..], true), // of an older version
            (b"{\n  \"a\": 1\n", false),
            (b"{\"a\": 1}\ndamaged\n{\"a\": 2}\n", false),
            (b"{\"a\": 1}\ndamaged\n", false),
            (b"", false),
            (b"\n", false),
            (b"{", false),
        ] {
            let state = newest::<serde_json::Value>(file);
            assert_eq!(state.is_ok(), is_read, "{}", String::from_utf8_lossy(file));
        }
    }

    #[test]
    fn a_line_that_has_no_room_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.json");
        let lines = Lines::create(&path, b"1").unwrap();
        // As of a file system that takes nothing any more.
        let mut full = Lines { file: File::open(&path).unwrap(), ..lines };
        assert!(full.add(b"22").is_err());
        assert_eq!(read(&path).unwrap(), 1);
    }
}
