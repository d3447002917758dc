//! What a process of this program is asked, and how that goes over a pipe.
//!
//! Both ends are the same file of program: nothing here has to be understood by another version.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// What is asked of each of some files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// What it looks like from outside.
    Look,
    /// Where that directory really is.
    Directory,
    /// Who else writes to it.
    Writers,
    /// How much room there is.
    Room,
    /// Whether it can be made.
    Try,
    /// That it is removed.
    Remove,
}

impl Question {
    const ALL: [Self; 6] = [Self::Look, Self::Directory, Self::Writers, Self::Room, Self::Try, Self::Remove];
}

/// A question, and of which files.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) question: Question,
    pub(super) files: Vec<PathBuf>,
}

impl Request {
    /// Four bytes for the question's place in [`Question::ALL`], four for the number of files, then each path behind four
    /// bytes for its length.
    pub(super) fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = (self.question as u32).to_ne_bytes().to_vec();
        bytes.extend(length(self.files.len())?);
        for file in &self.files {
            let path = file.as_os_str().as_bytes();
            bytes.extend(length(path.len())?);
            bytes.extend(path);
        }
        Ok(bytes)
    }

    /// The next one, and `None` when no more will come.
    pub(super) fn read(from: &mut impl Read) -> Option<Self> {
        let question = *Question::ALL.get(number(from)?)?;
        let count = number(from)?;
        let files = (0..count).map(|_| path(from)).collect::<Option<_>>()?;
        Some(Self { question, files })
    }
}

fn length(length: usize) -> io::Result<[u8; 4]> {
    u32::try_from(length).map(u32::to_ne_bytes).map_err(io::Error::other)
}

fn number(from: &mut impl Read) -> Option<usize> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes).ok()?;
    usize::try_from(u32::from_ne_bytes(bytes)).ok()
}

fn path(from: &mut impl Read) -> Option<PathBuf> {
    let mut bytes = vec![0; number(from)?];
    from.read_exact(&mut bytes).ok()?;
    Some(OsString::from_vec(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_what_is_read() {
        let files = [&b"/plain"[..], b"", b"of two\nlines", b"no \xff text"];
        let files: Vec<PathBuf> = files.map(|bytes| OsString::from_vec(bytes.to_vec()).into()).to_vec();
        let requests = Question::ALL.map(|question| Request { question, files: files.clone() });
        let bytes: Vec<u8> = requests.iter().flat_map(|request| request.to_bytes().unwrap()).collect();
        let mut from = bytes.as_slice();
        for request in requests {
            assert_eq!(Request::read(&mut from), Some(request));
        }
        assert_eq!(Request::read(&mut from), None);
        assert_eq!(Request::read(&mut &bytes[..bytes.len() / 6 - 1]), None, "cut off");
    }
}
