//! Named places of a run where tests kill or hold the program, to prove that nothing is lost there.
//!
//! Only in builds with the feature `test-doors`: without it a place is passed whatever [`FailPoints`] say.
//! Must not live here: the variable that names a place (`cli::doors`).

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use strum::{Display, EnumString, IntoStaticStr, VariantArray};

/// A place, in the order a run passes them. Its text is the variant's name in small letters, with hyphens.
#[derive(
    Clone, Copy, Debug, Display, EnumString, Eq, IntoStaticStr, Ord, PartialEq, PartialOrd, VariantArray,
)]
#[strum(serialize_all = "kebab-case")]
pub enum FailPoint {
    /// The VM, which was off, has been started paused.
    Started,
    /// What the run will own is in the journal and told to the guard.
    JournalWritten,
    /// Checkpoints that are of no more use are gone.
    CheckpointsDropped,
    /// The images are marked as the chain's.
    MarkerCreated,
    /// The guest is held still.
    Held,
    /// The guest is held still, and the backup job has begun.
    Begun,
    /// The guest goes on, the job runs.
    Released,
    /// The first byte will be read next.
    Copying,
    /// The last byte has been written.
    Copied,
    /// The backup job is over.
    JobEnded,
    /// All files of the point are written and synced, under names that end in `.partial`.
    FilesWritten,
    /// The journal says that the point is being published.
    Publishing,
    /// Half of the old chain's files have a second name in the archive.
    Archiving,
    /// All of them have one.
    ArchiveComplete,
    /// Half of them have lost the first one.
    Leaving,
    /// No file of an old chain is in the way.
    Archived,
    /// Small files and sidecars have their names.
    SmallFilesRenamed,
    /// One disk's stream has its name.
    FirstStreamRenamed,
    /// All streams have their names.
    StreamsRenamed,
    /// The list of points names the new one.
    Published,
}

/// Which runs come to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassedBy {
    /// All that back up.
    Every,
    /// Those of which libvirt runs a backup job.
    Job,
    /// Those with a job whose chain is new.
    NewChain,
    /// Those that move an older chain to the archive.
    Archive,
    /// Those that start a VM for its backup.
    Start,
}

impl FailPoint {
    /// Which runs come here.
    pub fn passed_by(self) -> PassedBy {
        match self {
            Self::Started => PassedBy::Start,
            Self::MarkerCreated => PassedBy::NewChain,
            Self::CheckpointsDropped | Self::Held | Self::Begun | Self::Released | Self::JobEnded => {
                PassedBy::Job
            }
            Self::Archiving | Self::ArchiveComplete | Self::Leaving => PassedBy::Archive,
            Self::JournalWritten
            | Self::Copying
            | Self::Copied
            | Self::FilesWritten
            | Self::Publishing
            | Self::Archived
            | Self::SmallFilesRenamed
            | Self::FirstStreamRenamed
            | Self::StreamsRenamed
            | Self::Published => PassedBy::Every,
        }
    }

    /// The places that runs of some kinds come to, and every run.
    pub fn passed_by_any(kinds: &[PassedBy]) -> impl Iterator<Item = Self> + use<'_> {
        let is_passed = |by: PassedBy| by == PassedBy::Every || kinds.contains(&by);
        Self::VARIANTS.iter().copied().filter(move |place| is_passed(place.passed_by()))
    }
}

/// Nobody holds a program longer than this.
const HOLD_LIMIT: Duration = Duration::from_secs(300);

/// What to do where.
#[derive(Clone, Debug, Default)]
pub struct FailPoints {
    kill_at: Option<FailPoint>,
    hold_at: Option<(FailPoint, PathBuf)>,
}

impl FailPoints {
    /// Reads `NAME` (die there, as by `kill -9`) or `NAME=FILE` (create FILE and wait until it is removed).
    /// `None` for a name that does not exist.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, file) = text.split_once('=').map_or((text, None), |(n, f)| (n, Some(f)));
        let place = name.parse().ok()?;
        Some(match file {
            Some(file) => Self { hold_at: Some((place, file.into())), kill_at: None },
            None => Self { kill_at: Some(place), hold_at: None },
        })
    }

    /// Says that the run has come to a place.
    pub fn at(&self, place: FailPoint) {
        tracing::debug!("stage {place}");
        self.at_while_held(place);
    }

    /// The same at a place where the guest is held still: nothing is written down.
    pub fn at_while_held(&self, place: FailPoint) {
        if !cfg!(feature = "test-doors") {
            return;
        }
        if self.kill_at == Some(place) {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
        let Some((_, file)) = self.hold_at.as_ref().filter(|(at, _)| *at == place) else { return };
        if fs::write(file, place.to_string()).is_ok() {
            let until = Instant::now() + HOLD_LIMIT;
            while file.exists() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_named_by_its_text_and_nothing_else_is_one() {
        for place in FailPoint::VARIANTS {
            let read = FailPoints::parse(&place.to_string()).unwrap();
            assert_eq!((read.kill_at, read.hold_at), (Some(*place), None));
            let read = FailPoints::parse(&format!("{place}=/tmp/a=b")).unwrap();
            assert_eq!((read.kill_at, read.hold_at), (None, Some((*place, "/tmp/a=b".into()))));
        }
        assert_eq!(FailPoint::FirstStreamRenamed.to_string(), "first-stream-renamed");
        assert!(["", "=", "FilesWritten", "held "].iter().all(|text| FailPoints::parse(text).is_none()));
    }
}
