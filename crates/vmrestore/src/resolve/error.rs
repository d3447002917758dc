//! Why there is no restore point such as somebody asked for.

use std::io;
use std::path::PathBuf;

use vmreport::Exit;
use vmstore::Unlisted;
use vmstream::chain::{PointId, SetError};
use vmstream::text::few;

/// So many names are said where there may be many.
const SHOWN: usize = 8;

/// Nothing is chosen.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("Cannot read the backup path {}: {source}. Is it mounted? Name another one with --backup-path", path.display())]
    Root { path: PathBuf, source: io::Error },
    #[error("{} holds no backups of VM {vm}{}", root.display(), among(known))]
    NoVm {
        vm: String,
        root: PathBuf,
        /// The VMs there are.
        known: Vec<String>,
    },
    #[error("VM {vm} has no period {period}{}", among(known))]
    NoPeriod {
        vm: String,
        period: String,
        /// The periods there are.
        known: Vec<String>,
    },
    #[error("{} holds no restore point: nothing was finished there, or it was removed", dir.display())]
    NoData { dir: PathBuf },
    #[error("No restore point of VM {vm} was taken until {}{}", until.replace('T', " "), since(oldest))]
    NothingUntil {
        vm: String,
        until: String,
        /// The oldest there is: its name, and when it was taken.
        oldest: Option<(PointId, String)>,
    },
    #[error(transparent)]
    Unlisted(#[from] Unlisted),
    #[error(transparent)]
    Set(#[from] SetError),
}

impl ResolveError {
    /// How a program ends that only had this to do.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Root { .. } | Self::Unlisted(_) | Self::Set(SetError::Read { .. }) => Exit::Storage,
            _ => Exit::Vm,
        }
    }
}

fn among(known: &[String]) -> String {
    match known {
        [] => String::new(),
        known => format!(". There is: {}", few(known, SHOWN)),
    }
}

fn since(oldest: &Option<(PointId, String)>) -> String {
    oldest.as_ref().map_or(String::new(), |(id, taken)| {
        format!(": the oldest is {id}, taken {}", taken.replace('T', " "))
    })
}
