//! What the value of a key may be: one type per kind of value, each with its own check.
//!
//! Lives here: text to type, and the words that tell a user what is allowed.
//! Must not live here: keys and their defaults (`keys`), whether a directory exists (the host checks that).

use std::path::{Component, Path, PathBuf};

mod age;
mod choice;
mod keyword;
mod libvirt_uri;
mod quantity;

pub use age::MaxAge;
pub use choice::CompressionChoice;
pub use keyword::{
    CompressionMethod, Consistency, IoClass, LogFormat, LogLevel, ReplicaRule, ReplicationOrder, TpmMethod,
};
pub use libvirt_uri::LibvirtUri;
pub use quantity::{
    CompressLevel, Gibibytes, Mebibytes, Niceness, Number, OptionalNumber, Percent, Periods, Seconds,
};
pub use vmplan::{AutoRecovery, OfflineMode, RotationPolicy};

/// A type that a configuration value is read into.
pub trait Value: Sized + PartialEq {
    /// Whether an empty value says something. If not, it counts as not set.
    const EMPTY_IS_VALUE: bool = false;
    /// Whether the value is a comma list, which TOML may also write as an array.
    const IS_LIST: bool = false;

    /// Reads the text; `None` if it is not allowed.
    fn parse(text: &str) -> Option<Self>;

    /// What is allowed, to stand behind "it must be".
    fn allowed() -> String;

    /// The same, said to somebody who wrote this text, which is not allowed.
    fn instead_of(_text: &str) -> String {
        Self::allowed()
    }

    /// Says when an allowed value is not taken literally.
    fn remark(_text: &str) -> Option<&'static str> {
        None
    }
}

/// A value that may be missing: the empty text.
impl<T: Value> Value for Option<T> {
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() { Some(None) } else { T::parse(text).map(Some) }
    }

    fn allowed() -> String {
        format!("{}, or empty", T::allowed())
    }

    fn instead_of(text: &str) -> String {
        format!("{}, or empty", T::instead_of(text))
    }
}

/// Any text. Keys of this type are checked by the part that uses them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(pub String);

impl Value for Text {
    fn parse(text: &str) -> Option<Self> {
        Some(Self(text.to_owned()))
    }

    fn allowed() -> String {
        "any text".to_owned()
    }
}

/// A switch: `true` or `yes`, `false` or `no`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Whether it is on.
    pub on: bool,
}

impl Value for Switch {
    fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" => Some(Self { on: true }),
            "false" | "no" => Some(Self { on: false }),
            _ => None,
        }
    }

    fn allowed() -> String {
        "true (or yes), false (or no)".to_owned()
    }
}

/// An absolute directory other than the root. Not checked for existence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory(PathBuf);

impl Directory {
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl Value for Directory {
    fn parse(text: &str) -> Option<Self> {
        let trimmed = text.trim_end_matches('/');
        let usable = trimmed.starts_with('/') && !trimmed.chars().any(char::is_control);
        usable.then(|| Self(PathBuf::from(trimmed)))
    }

    fn allowed() -> String {
        "an absolute path other than /, without control characters".to_owned()
    }
}

/// A directory, absolute or below `_state` in the backup path. Not checked for existence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDirectory(PathBuf);

impl StateDirectory {
    /// Where it is, with that `_state`.
    pub fn below(&self, state: &Path) -> PathBuf {
        // An absolute one stays what it is.
        state.join(&self.0)
    }
}

impl Value for StateDirectory {
    fn parse(text: &str) -> Option<Self> {
        if text.starts_with('/') {
            return Directory::parse(text).map(|Directory(path)| Self(path));
        }
        let mut path = PathBuf::new();
        for component in Path::new(text).components() {
            match component {
                Component::Normal(name) => path.push(name),
                Component::CurDir => {}
                _ => return None,
            }
        }
        let usable = path != Path::new("") && !text.chars().any(char::is_control);
        usable.then_some(Self(path))
    }

    fn allowed() -> String {
        let absolute = Directory::allowed();
        format!("{absolute}, or one below BACKUP_PATH/_state, such as logs, without ..")
    }
}

/// Disk targets such as `vda`, in the order written, each once. Empty means no choice was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskTargets(Vec<String>);

impl DiskTargets {
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl Value for DiskTargets {
    const EMPTY_IS_VALUE: bool = true;
    const IS_LIST: bool = true;

    fn parse(text: &str) -> Option<Self> {
        let mut targets: Vec<String> = Vec::new();
        for target in text.split(',').map(str::trim).filter(|target| !target.is_empty()) {
            if !target.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
                return None;
            }
            if !targets.iter().any(|known| known == target) {
                targets.push(target.to_owned());
            }
        }
        Some(Self(targets))
    }

    fn allowed() -> String {
        "disk targets such as vda,vdb, separated by commas".to_owned()
    }
}

/// Mount points of a guest, in the order written, each once: `/srv` or `D:\\`. Empty means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountPoints(Vec<String>);

impl MountPoints {
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl Value for MountPoints {
    const EMPTY_IS_VALUE: bool = true;
    const IS_LIST: bool = true;

    fn parse(text: &str) -> Option<Self> {
        let mut points: Vec<String> = Vec::new();
        for point in text.split(',').map(str::trim).filter(|point| !point.is_empty()) {
            let drive = point.len() >= 2 && point.as_bytes()[0].is_ascii_alphabetic() && &point[1..2] == ":";
            if point.chars().any(char::is_control) || !(point.starts_with('/') || drive) {
                return None;
            }
            if !points.iter().any(|known| known == point) {
                points.push(point.to_owned());
            }
        }
        Some(Self(points))
    }

    fn allowed() -> String {
        "mount points of the guest such as /,/srv or C:\\, separated by commas".to_owned()
    }
}
