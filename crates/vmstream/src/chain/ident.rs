//! The names that travel as types: disk targets, checkpoints, restore points. Parsed once, at the edge.

use std::fmt;
use std::str::FromStr;

/// What every checkpoint of this format is called, before its number.
const CHECKPOINT_PREFIX: &str = "virtnbdbackup.";

/// A disk target such as `vda`: the name a domain gives a disk.
///
/// Never empty, without dots, slashes, blanks and control characters, so it is safe inside a file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskTarget(String);

/// A checkpoint of ours: `virtnbdbackup.N`. Sorted by N. Other names are foreign and cannot be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckpointName(u32);

/// What identifies a restore point inside a folder; also the IDENT in the names of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PointId {
    /// A full or an increment.
    Checkpoint(CheckpointName),
    /// A difference, by its epoch seconds.
    Diff(u64),
    /// A copy. There is one per folder.
    Copy,
}

/// A name that cannot be one of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not usable as a disk target.
    #[error("{name:?} is no disk target: use the name the domain gives the disk, such as vda")]
    DiskTarget {
        /// What was given.
        name: String,
    },
    /// Not `virtnbdbackup.N`.
    #[error(
        "{name:?} is no checkpoint of this format: those are called virtnbdbackup.0, virtnbdbackup.1 and on"
    )]
    Checkpoint {
        /// What was given.
        name: String,
    },
    /// No restore point can be called so.
    #[error("{name:?} names no restore point: those are called virtnbdbackup.N, diff.EPOCH or copy")]
    Point {
        /// What was given.
        name: String,
    },
}

impl DiskTarget {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DiskTarget {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        let bad = |c: char| matches!(c, '.' | '/') || c.is_whitespace() || c.is_control();
        if name.is_empty() || name.len() > 64 || name.contains(bad) {
            return Err(NameError::DiskTarget { name: name.to_owned() });
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for DiskTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl CheckpointName {
    /// The first of a chain: its full.
    pub const FIRST: Self = Self(0);

    /// `virtnbdbackup.number`
    pub fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its place in the chain, from 0.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The name of the next one, `None` at the end of all numbers.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl FromStr for CheckpointName {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        name.strip_prefix(CHECKPOINT_PREFIX)
            .and_then(decimal)
            .and_then(|number| u32::try_from(number).ok())
            .map(Self)
            .ok_or_else(|| NameError::Checkpoint { name: name.to_owned() })
    }
}

impl fmt::Display for CheckpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{CHECKPOINT_PREFIX}{}", self.0))
    }
}

impl PointId {
    /// The IDENT in file names.
    pub fn ident(self) -> String {
        match self {
            Self::Checkpoint(name) => name.to_string(),
            Self::Diff(epoch) => epoch.to_string(),
            Self::Copy => "copy".to_owned(),
        }
    }

    pub(crate) fn from_ident(ident: &str) -> Option<Self> {
        match ident {
            "copy" => Some(Self::Copy),
            _ => ident.parse().ok().map(Self::Checkpoint).or_else(|| epoch(ident).map(Self::Diff)),
        }
    }

    /// Cuts `.IDENT` off the end of a name.
    pub(super) fn split_off(name: &str) -> Option<(&str, Self)> {
        let (head, last) = name.rsplit_once('.')?;
        match head.rsplit_once('.') {
            Some((base, prefix)) if CHECKPOINT_PREFIX.strip_suffix('.') == Some(prefix) => {
                Some((base, Self::Checkpoint(format!("{prefix}.{last}").parse().ok()?)))
            }
            _ => Some((head, Self::from_ident(last)?)),
        }
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint(name) => name.fmt(f),
            Self::Diff(epoch) => f.pad(&format!("diff.{epoch}")),
            Self::Copy => f.pad("copy"),
        }
    }
}

impl FromStr for PointId {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        let plain = name.strip_prefix("diff.").unwrap_or(name);
        Self::from_ident(plain).ok_or_else(|| NameError::Point { name: name.to_owned() })
    }
}

/// Digits without sign and without leading zeros, so that every number has one name.
fn decimal(digits: &str) -> Option<u64> {
    let canonical = digits == "0" || !digits.starts_with('0');
    (canonical && digits.bytes().all(|digit| digit.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Seconds since 1970, from 2001 on: shorter numbers are version suffixes of other files.
pub(super) fn epoch(digits: &str) -> Option<u64> {
    decimal(digits).filter(|seconds| *seconds >= 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_named_as_they_print() {
        for id in [PointId::Checkpoint(CheckpointName::new(12)), PointId::Diff(1_795_377_788), PointId::Copy]
        {
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(id.ident().parse(), Ok(id));
        }
        assert!("virtnbdbackup".parse::<PointId>().is_err());
        assert!("vd a".parse::<DiskTarget>().is_err());
        assert!("../vda".parse::<DiskTarget>().is_err());
    }
}
