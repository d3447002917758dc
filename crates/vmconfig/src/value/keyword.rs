//! Values that are one of a few words.

use strum::{EnumString, IntoStaticStr};
use vmplan::{AutoRecovery, OfflineMode, RotationPolicy};

use super::Value;

/// How much is logged. Each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumString)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// And what deserves a look.
    #[strum(serialize = "warn", serialize = "warning")]
    Warn,
    /// And a few lines for each run.
    Info,
    /// And the details.
    Debug,
}

impl Value for LogLevel {
    fn parse(text: &str) -> Option<Self> {
        text.trim().parse().ok()
    }

    fn allowed() -> String {
        "ERROR, WARN, INFO or DEBUG".to_owned()
    }
}

/// How saved data is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum CompressionMethod {
    /// LZ4, harder only while processors would otherwise wait.
    Auto,
    Lz4,
    /// zstd, which old restore programs do not know.
    Zstd,
    /// Not at all.
    None,
}

impl Value for CompressionMethod {
    fn parse(text: &str) -> Option<Self> {
        text.trim().parse().ok()
    }

    fn allowed() -> String {
        "auto, lz4, zstd or none".to_owned()
    }
}

/// What becomes of a period that was never replicated, where others were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString)]
#[strum(serialize_all = "lowercase")]
pub enum ReplicaRule {
    /// It goes, with a warning.
    Warn,
    /// It stays.
    Block,
}

impl Value for ReplicaRule {
    fn parse(text: &str) -> Option<Self> {
        text.trim().parse().ok()
    }

    fn allowed() -> String {
        "warn or block".to_owned()
    }
}

/// Which of local and cloud replication comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum ReplicationOrder {
    /// Both at once.
    #[default]
    Simultaneous,
    /// Local, then cloud.
    LocalFirst,
    /// Cloud, then local.
    CloudFirst,
}

impl Value for ReplicationOrder {
    /// Takes any word: no backup is refused because of the order of what comes after it.
    fn parse(text: &str) -> Option<Self> {
        Some(text.trim().parse().unwrap_or_default())
    }

    fn allowed() -> String {
        "simultaneous, local_first or cloud_first".to_owned()
    }

    fn remark(text: &str) -> Option<&'static str> {
        let is_known = text.trim().parse::<Self>().is_ok();
        (!is_known).then_some("read as simultaneous; the others are local_first and cloud_first")
    }
}

/// How the state of a TPM is saved: there is one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TpmMethod;

impl Value for TpmMethod {
    /// Takes any word: older files have others.
    fn parse(_text: &str) -> Option<Self> {
        Some(Self)
    }

    fn allowed() -> String {
        "full".to_owned()
    }

    fn remark(text: &str) -> Option<&'static str> {
        (text.trim() != "full").then_some("read as full: the state of a TPM is always saved whole")
    }
}

/// How lines look on standard error where it is not a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum LogFormat {
    /// For people: as in the log file, or as journald takes them.
    Text,
    /// A JSON object each.
    Json,
}

impl Value for LogFormat {
    fn parse(text: &str) -> Option<Self> {
        text.trim().parse().ok()
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
        text.parse().ok()
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
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
        self.into()
    }
}

impl Value for Consistency {
    fn parse(text: &str) -> Option<Self> {
        text.trim().parse().ok()
    }

    fn allowed() -> String {
        "auto, freeze, pause or none".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_in_any_case_but_where_bash_asks_for_small_letters() {
        for (text, level) in [
            ("ERROR", LogLevel::Error),
            (" warn ", LogLevel::Warn),
            ("Warning", LogLevel::Warn),
            ("info", LogLevel::Info),
            ("DEBUG", LogLevel::Debug),
        ] {
            assert_eq!(<LogLevel as Value>::parse(text), Some(level), "{text}");
        }
        assert_eq!(<CompressionMethod as Value>::parse("Lz4"), Some(CompressionMethod::Lz4));
        assert_eq!(<LogFormat as Value>::parse("JSON"), Some(LogFormat::Json));
        assert_eq!(<Consistency as Value>::parse("None"), Some(Consistency::None));
        assert_eq!(<ReplicaRule as Value>::parse(" block "), Some(ReplicaRule::Block));
        assert_eq!(<ReplicaRule as Value>::parse("Block"), None);
        assert_eq!(<RotationPolicy as Value>::parse("accumulate"), Some(RotationPolicy::Accumulate));
        assert_eq!(<RotationPolicy as Value>::parse("Daily"), None);
        assert_eq!(<LogLevel as Value>::parse(""), None);
    }
}
