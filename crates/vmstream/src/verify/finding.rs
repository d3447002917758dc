//! One thing found, and how it counts.

use crate::causes::with_causes;
use crate::stream::{Damage, StreamError};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// How a finding counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Content or structure is not as it was written.
    Damage,
    /// The system could not read it; says nothing about the content.
    Unreadable,
    /// Nothing is lost; somebody should look.
    Warning,
    /// Nothing proves this file's content.
    Unproven,
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it counts.
    pub level: Level,
    /// The file it is about, or the folder.
    pub path: PathBuf,
    /// Number of the frame, counted from 0 after the meta frame.
    pub frame: Option<u64>,
    /// Offset in the file.
    pub at: Option<u64>,
    /// The range of the disk whose content is lost, where that is known.
    pub disk_range: Option<Range<u64>>,
    /// What is wrong.
    pub message: String,
}

impl Level {
    /// For people and programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Damage => "damage",
            Self::Unreadable => "unreadable",
            Self::Warning => "warning",
            Self::Unproven => "unproven",
        }
    }
}

impl Finding {
    /// Where it is, files by their names in `dir`, and what is wrong.
    pub fn text(&self, dir: &Path) -> String {
        let file = self.path.strip_prefix(dir).unwrap_or(&self.path);
        let mut text = String::new();
        if !file.as_os_str().is_empty() {
            text.push_str(&file.display().to_string());
            if let Some(frame) = self.frame {
                text.push_str(&format!(", frame {frame}"));
            }
            if let Some(at) = self.at {
                text.push_str(&format!(", file offset {at}"));
            }
            if let Some(range) = &self.disk_range {
                text.push_str(&format!(", disk bytes {}..{}", range.start, range.end));
            }
            text.push_str(": ");
        }
        text + &self.message
    }

    /// A finding about a whole file or folder.
    pub(super) fn about(level: Level, path: &Path, message: String) -> Self {
        Self { level, path: path.to_owned(), frame: None, at: None, disk_range: None, message }
    }

    /// A finding about what a stream's reader said.
    pub(super) fn of_error(path: &Path, error: &StreamError) -> Self {
        match error {
            StreamError::Damaged(damage) => {
                let Damage { frame, at, disk, problem } = damage.as_ref();
                let message = with_causes(problem);
                Self {
                    level: Level::Damage,
                    path: path.to_owned(),
                    frame: *frame,
                    at: Some(*at),
                    disk_range: disk.clone(),
                    message,
                }
            }
            StreamError::Read { at, .. } => {
                Self { at: Some(*at), ..Self::about(Level::Unreadable, path, with_causes(error)) }
            }
        }
    }
}
