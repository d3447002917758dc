//! Looks for who else writes to images, and what was written to devices: done by a process of its own, as each look at a
//! file that may be on dead storage.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vmstream::in_use::{self, InUse};

use super::request::Question;
use super::{ProgramError, Stopped, itself};

/// Whether somebody else writes to an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Used {
    Nobody,
    By(String),
    /// Why nobody can tell.
    Unknown(String),
}

/// What was written to a block device so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Written {
    /// Sectors, and discarded ones.
    Sectors(u64, u64),
    /// Why nobody can tell.
    Unknown(String),
}

/// What there is to say of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writers {
    pub used: Used,
    /// Of a block device.
    pub written: Option<Written>,
}

impl Writers {
    pub(super) fn at(path: &Path) -> Self {
        let used = match in_use::writer_of(path) {
            InUse::Free => Used::Nobody,
            InUse::By(by) => Used::By(by),
            InUse::Unknown(why) => Used::Unknown(why),
            InUse::Hidden(why) => Used::Unknown(format!("{why}: run as root")),
        };
        let is_device = fs::metadata(path).is_ok_and(|about| about.file_type().is_block_device());
        Self { used, written: is_device.then(|| of_device(path)) }
    }
}

/// Asks that of files in a process of its own, in their order. Devices are synced first.
pub fn writers(
    paths: &[PathBuf],
    limit: Duration,
    stopped: Stopped<'_>,
) -> Result<Vec<Writers>, ProgramError> {
    itself::ask(Question::Writers, paths, limit, stopped)
}

/// The counters of a block device, once all that was written to it has reached them: a buffered write moves nothing
/// before.
fn of_device(path: &Path) -> Written {
    let read = || -> io::Result<Written> {
        let device = File::open(path)?;
        device.sync_all()?;
        let about = device.metadata()?;
        let (major, minor) = (rustix::fs::major(about.rdev()), rustix::fs::minor(about.rdev()));
        let own = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}"))?;
        // A partition has the queue of its disk.
        let switch = |dir: &Path| fs::read_to_string(dir.join("queue/iostats"));
        let counts = switch(&own).or_else(|_| switch(own.parent().unwrap_or(&own)))?;
        if counts.trim() == "0" {
            return Ok(Written::Unknown("its counters are switched off (queue/iostats is 0)".to_owned()));
        }
        let counters = sectors(&fs::read_to_string(own.join("stat"))?);
        Ok(counters.unwrap_or_else(|| Written::Unknown("its counters are not understood".to_owned())))
    };
    read().unwrap_or_else(|error| Written::Unknown(format!("its counters cannot be read: {error}")))
}

/// Reads `stat` of a device. Each write has sectors; a flush has none, though device mapper counts it as a write (field 5).
///
/// Source: Linux `Documentation/block/stat.rst`, fields 7 and 14.
fn sectors(stat: &str) -> Option<Written> {
    let field = |number: usize| stat.split_whitespace().nth(number - 1);
    // Before 4.18 discards are counted as writes.
    let discarded = field(14).map_or(Some(0), |text| text.parse().ok())?;
    Some(Written::Sectors(field(7)?.parse().ok()?, discarded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_and_discards_are_told_apart_from_flushes() {
        let before = "  10 0 80 4 5 0 40 6 0 8 10 2 0 16 1 9 3\n";
        let cases = [
            ("a flush", "  10 0 80 4 6 0 40 6 0 8 10 2 0 16 1 10 3\n", true),
            ("a read", "  11 0 88 4 5 0 40 6 0 8 10 2 0 16 1 9 3\n", true),
            ("a write", "  10 0 80 4 6 0 48 6 0 8 10 2 0 16 1 9 3\n", false),
            ("a discard", "  10 0 80 4 5 0 40 6 0 8 10 3 0 24 1 9 3\n", false),
        ];
        assert_eq!(sectors(before), Some(Written::Sectors(40, 16)));
        for (what, after, same) in cases {
            assert_eq!(sectors(before) == sectors(after), same, "{what}");
        }
        assert_eq!(sectors("10 0 80 4 5 0 40 6 0 8 10\n"), Some(Written::Sectors(40, 0)));
        assert_eq!(sectors(""), None);
    }
}
