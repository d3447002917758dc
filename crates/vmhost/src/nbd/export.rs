//! An NBD export: the socket and the name under which a disk is served.

use std::fmt;
use std::path::PathBuf;

/// One disk on one NBD server, reached through a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The socket's path; the kernel takes at most 108 bytes.
    pub socket: PathBuf,
    /// As the server names it; may be empty, which means its default export.
    pub name: String,
}

impl fmt::Display for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}", self.name, self.socket.display())
    }
}
