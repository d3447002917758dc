//! A point whose files are all written, under the names under which they wait.

use std::io;
use std::path::Path;

use super::error::PointError;
use super::private::Access;
use crate::durable;
use crate::presence;
use crate::sidecar::Digest;

/// A point whose files are all written.
#[derive(Debug)]
pub struct SealedPoint {
    pub(super) small: Vec<(String, Access)>,
    pub(super) sidecars: Vec<String>,
    pub(super) streams: Vec<String>,
    pub(super) list: Option<(String, Vec<u8>)>,
}

/// A sidecar that was ended with its point.
#[derive(Debug)]
pub struct SealedSidecar {
    /// The final name.
    pub name: String,
    /// What the next point's sidecar names as its parent.
    pub digest: Digest,
    /// It does not list the point's other files: they are too many, or a name of them leads out of the folder.
    pub without_files: bool,
}

impl SealedPoint {
    /// The final names of all files but the list, in the order in which they get them.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let small = self.small.iter().map(|(name, _)| name);
        small.chain(&self.sidecars).chain(&self.streams).map(String::as_str)
    }

    /// The file that gets its name last, and its content.
    pub fn list(&self) -> Option<(&str, &[u8])> {
        self.list.as_ref().map(|(name, content)| (name.as_str(), content.as_slice()))
    }

    /// Makes sure that no stream has its name already in `dir`, once those of `archived` are moved away: it would be one
    /// that nobody knows of. A sidecar without its stream proves nothing, and is put aside.
    pub fn make_way(&self, dir: &Path, archived: &[String]) -> Result<(), PointError> {
        let stays = |name: &&String| !archived.contains(name);
        for name in self.streams.iter().filter(stays) {
            let path = dir.join(name);
            let taken = presence::there(&path)
                .and_then(|there| if there { Err(durable::taken(&path)) } else { Ok(()) });
            taken.map_err(PointError::when("publish", &path))?;
        }
        // The private folder of a point of another chain, which was archived without it.
        let is_private = |(_, access): &&(String, Access)| matches!(access, Access::Private(_));
        let folder = |(name, _): &(String, Access)| Some(name.split_once('/')?.0.to_owned());
        let mut folders: Vec<String> = self.small.iter().filter(is_private).filter_map(folder).collect();
        folders.dedup();
        for name in self.sidecars.iter().chain(&folders).filter(stays) {
            let path = dir.join(name);
            put_aside(&path).map_err(PointError::when("put aside", &path))?;
        }
        Ok(())
    }
}

/// Gives a file that is in the way another name.
fn put_aside(path: &Path) -> io::Result<()> {
    let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else { return Ok(()) };
    let aside = (1_u32..).map(|n| path.with_file_name(format!("{name}.old.{n}")));
    match (presence::there(path)?, presence::first_free(aside)?) {
        (true, Some(aside)) => durable::rename_new(path, &aside),
        _ => Ok(()),
    }
}
