//! Why a configuration cannot be used. Every text names the place and what helps; all of them are exit code 2.

use std::path::PathBuf;

use super::bash::Construct;
use super::place::{Place, Source};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The instance name is no plain directory name.
    #[error(
        "Instance name {name:?} cannot be used: it must be the name of one directory, without '/' and '..'"
    )]
    InstanceName {
        /// The name as given.
        name: String,
    },
    /// No directory of that name.
    #[error(
        "There is no configuration instance {instance:?} in {}; {}",
        config_dir.display(),
        list_instances(exist)
    )]
    InstanceMissing {
        /// The name as given.
        instance: String,
        /// Where it was looked for.
        config_dir: PathBuf,
        /// The instances that are there.
        exist: Vec<String>,
    },
    /// An instance directory without a main file.
    #[error(
        "There is neither vmbackup.conf nor vmbackup.toml in {}; copy one of them from the template instance",
        dir.display()
    )]
    NoMainFile { dir: PathBuf },
    /// A file that is there but cannot be read.
    #[error("Cannot read configuration file {}", file.display())]
    ReadFile { file: PathBuf, source: std::io::Error },
    /// A file much larger than any configuration.
    #[error("Configuration file {} is larger than {limit_bytes} bytes", file.display())]
    FileTooLarge {
        file: PathBuf,
        /// Largest size that is read.
        limit_bytes: u64,
    },
    /// Something in a Bash file that cannot be read without a shell.
    #[error("{at}: {construct}")]
    Bash { at: Place, construct: Construct },
    /// Something that is not TOML.
    #[error("{at}: Not valid TOML: {message}")]
    Toml { at: Place, message: String },
    /// One key in both spellings.
    #[error("{second}: {key} is set a second time; the first is at {first}; remove one of them")]
    KeyTwice {
        /// Upper-case name.
        key: String,
        first: Place,
        second: Place,
    },
    /// A list where one value belongs, or the like.
    #[error("{at}: {key} must be {wanted}, not {found}")]
    WrongShape {
        at: Place,
        key: String,
        /// What belongs there.
        wanted: &'static str,
        found: &'static str,
    },
    /// A pattern longer than any name, which would take long to read.
    #[error(
        "{at}: A pattern has {chars} characters, more than any name; {limit} are allowed: write several patterns"
    )]
    PatternTooLong {
        at: Place,
        /// Its characters.
        chars: usize,
        /// How many may be.
        limit: usize,
    },
    /// Values that are not allowed, all of them.
    #[error("{}", join_lines(problems))]
    InvalidValues { problems: Vec<InvalidValue> },
    /// Values that are allowed, but not together.
    #[error("{source_of_value}: {key}={value:?} cannot be: {why}")]
    Contradiction {
        key: String,
        /// Its value as written.
        value: String,
        source_of_value: Source,
        /// What it contradicts, and what to do.
        why: String,
    },
    /// No target for the backups.
    #[error(
        "BACKUP_PATH is not set; set it in {} to the directory that holds the backups",
        main_file.display()
    )]
    BackupPathMissing {
        /// The file that should set it.
        main_file: PathBuf,
    },
    /// The sample's value was left in place.
    #[error(
        "{source_of_value}: BACKUP_PATH is still the sample's {value:?}; set it to the directory that holds the backups"
    )]
    BackupPathPlaceholder {
        source_of_value: Source,
        /// The value as written.
        value: String,
    },
    /// Two main files that disagree.
    #[error(
        "vmbackup.conf and vmbackup.toml in {} disagree; remove one of the two files, or make them agree:\n{}",
        dir.display(),
        join_lines(differences)
    )]
    Disagree {
        dir: PathBuf,
        /// Each key they disagree on.
        differences: Vec<Difference>,
    },
}

/// One value that is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{source_of_value}: {key}={value:?} is not allowed; it must be {allowed}")]
pub struct InvalidValue {
    pub key: String,
    pub value: String,
    /// Where it came from.
    pub source_of_value: Source,
    pub allowed: String,
}

/// One key with two values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("  {key}: {conf_value:?} ({conf_source}), {toml_value:?} ({toml_source})")]
pub struct Difference {
    pub key: String,
    /// What vmbackup.conf leads to.
    pub conf_value: String,
    /// Where that stands.
    pub conf_source: Source,
    /// What vmbackup.toml leads to.
    pub toml_value: String,
    /// Where that stands.
    pub toml_source: Source,
}

fn list_instances(exist: &[String]) -> String {
    if exist.is_empty() { "there are none".to_owned() } else { format!("there are: {}", exist.join(", ")) }
}

fn join_lines<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join("\n")
}
