//! Values that are one of a few words.

use vmplan::{AutoRecovery, OfflineMode, RotationPolicy};

use super::Value;

/// How much is logged. Each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// And what deserves a look.
    Warn,
    /// And a few lines for each run.
    Info,
    /// And the details.
    Debug,
}

impl Value for LogLevel {
    fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_uppercase().as_str() {
            "ERROR" => Some(Self::Error),
            "WARN" | "WARNING" => Some(Self::Warn),
            "INFO" => Some(Self::Info),
            "DEBUG" => Some(Self::Debug),
            _ => None,
        }
    }

    fn allowed() -> String {
        "ERROR, WARN, INFO or DEBUG".to_owned()
    }
}

/// How saved data is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionMethod {
    /// LZ4, harder only while processors would otherwise wait.
    Auto,
    /// LZ4.
    Lz4,
    /// zstd, which old restore programs do not know.
    Zstd,
    /// Not at all.
    None,
}

impl Value for CompressionMethod {
    fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "auto" => Some(Self::Auto),
            "lz4" => Some(Self::Lz4),
            "zstd" => Some(Self::Zstd),
            "none" => Some(Self::None),
            _ => None,
        }
    }

    fn allowed() -> String {
        "auto, lz4, zstd or none".to_owned()
    }
}

/// What becomes of a period that was never replicated, where others were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaRule {
    /// It goes, with a warning.
    Warn,
    /// It stays.
    Block,
}

impl Value for ReplicaRule {
    fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "warn" => Some(Self::Warn),
            "block" => Some(Self::Block),
            _ => None,
        }
    }

    fn allowed() -> String {
        "warn or block".to_owned()
    }
}

/// How lines look on standard error where it is not a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: as in the log file, or as journald takes them.
    Text,
    /// A JSON object each.
    Json,
}

impl Value for LogFormat {
    fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    fn allowed() -> String {
        "text or json".to_owned()
    }
}

/// Scheduling class of disk access, as `ionice -c` numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoClass {
    /// Left as it is.
    Inherited,
    /// 1: before everybody else.
    RealTime,
    /// 2: shared by level.
    BestEffort,
    /// 3: only when nobody else wants the disk. Has no levels.
    Idle,
}

impl Value for IoClass {
    const EMPTY_IS_VALUE: bool = true;

    fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "" => Some(Self::Inherited),
            "1" => Some(Self::RealTime),
            "2" => Some(Self::BestEffort),
            "3" => Some(Self::Idle),
            _ => None,
        }
    }

    fn allowed() -> String {
        "1 (real-time), 2 (best-effort), 3 (idle), or empty to leave it as it is".to_owned()
    }
}

impl Value for RotationPolicy {
    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == text)
    }

    fn allowed() -> String {
        "daily, weekly, monthly, accumulate or never".to_owned()
    }
}

impl Value for AutoRecovery {
    fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "yes" | "true" => Some(Self::Yes),
            "warn" => Some(Self::Warn),
            "no" | "false" => Some(Self::No),
            _ => None,
        }
    }

    fn allowed() -> String {
        "yes, warn or no".to_owned()
    }
}

impl Value for OfflineMode {
    fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "copy" => Some(Self::Copy),
            "incremental" => Some(Self::Incremental),
            _ => None,
        }
    }

    fn allowed() -> String {
        "copy or incremental".to_owned()
    }
}

/// How a guest that runs is held still for the moment of the snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Frozen by its agent where one answers, paused otherwise.
    #[default]
    Auto,
    /// Frozen by its agent. Without one the backup is taken all the same, of the running guest, with a warning.
    Freeze,
    /// Paused; the agent is not asked.
    Pause,
    /// Not at all: the disks are saved as after a power cut.
    None,
}

impl Consistency {
    /// As settings name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Freeze => "freeze",
            Self::Pause => "pause",
            Self::None => "none",
        }
    }
}

impl Value for Consistency {
    fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "auto" => Some(Self::Auto),
            "freeze" => Some(Self::Freeze),
            "pause" => Some(Self::Pause),
            "none" => Some(Self::None),
            _ => None,
        }
    }

    fn allowed() -> String {
        "auto, freeze, pause or none".to_owned()
    }
}
