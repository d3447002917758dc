//! What is to be saved and what goes, decided before anything is written.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Zoned;
use serde_json::json;
use vmreport::SavedHostConfig;

use super::content::{Content, Entry, Kind};
use super::versions::{Version, Versions};
use super::{HostConfigError, archive, files};
use crate::libvirt::Host;

/// How to use a version: the same text as in the documentation.
const RESTORE_TEXT: &str = include_str!("../../../../docs/host-config.md");

/// Why a version is written, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    First,
    /// The newest one holds the same.
    Unchanged,
    /// These paths differ from the newest one; never empty.
    Changed(Vec<PathBuf>),
    /// The newest one cannot be read, for this reason.
    Damaged(String),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("there is no version yet"),
            Self::Unchanged => f.write_str("nothing has changed"),
            Self::Changed(paths) => {
                let first = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
                match paths.len() {
                    0 | 1 => write!(f, "{first} has changed"),
                    all => write!(f, "{first} and {} more have changed", all - 1),
                }
            }
            Self::Damaged(why) => write!(f, "the newest version cannot be read: {why}"),
        }
    }
}

/// What a run does about the host's configuration.
#[derive(Debug)]
pub struct Plan {
    /// Why a version is written, or not.
    pub why: Why,
    /// What could not be had, in words.
    pub left_out: Vec<String>,
    /// Those of them that somebody should look at.
    pub trouble: Vec<String>,
    newest: Option<PathBuf>,
    next: Version,
    old: Vec<Version>,
    content: Content,
    now: Zoned,
}

impl Plan {
    /// Looks at the host and at the newest version, and decides. Writes nothing. `also` are further folders to keep.
    pub fn make(
        host: &Host,
        backup_path: &Path,
        also: &[&Path],
        keep: usize,
        now: Zoned,
    ) -> Result<Self, HostConfigError> {
        let mut content = Content::default();
        content.add_definitions(host);
        files::add_files(&mut content, also);
        Self::of(content, backup_path, keep, now)
    }

    fn of(
        mut content: Content,
        backup_path: &Path,
        keep: usize,
        now: Zoned,
    ) -> Result<Self, HostConfigError> {
        let versions = Versions::look(backup_path)?;
        let mut all = versions.as_ref().map_or(Ok(vec![]), Versions::all)?;
        let newest = all.last().copied();
        let why = match (&versions, newest) {
            (Some(versions), Some(newest)) => match versions.read(newest).and_then(archive::read) {
                Ok(old) => {
                    content.carry_over(&old);
                    let differences = content.differences(&old);
                    if differences.is_empty() { Why::Unchanged } else { Why::Changed(differences) }
                }
                Err(error) => Why::Damaged(error.to_string()),
            },
            _ => Why::First,
        };
        let next = Version::next(now.datetime(), newest);
        let kept = if why == Why::Unchanged { keep } else { keep.saturating_sub(1) };
        all.truncate(all.len().saturating_sub(kept));
        let words = |only_trouble: bool| {
            let chosen = content.left_out.iter().filter(|left_out| left_out.is_trouble || !only_trouble);
            let mut words: Vec<String> = chosen.map(|left_out| left_out.why.clone()).collect();
            words.dedup();
            words
        };
        let newest = versions.as_ref().zip(newest).map(|(versions, newest)| versions.path_of(newest));
        Ok(Self { why, left_out: words(false), trouble: words(true), newest, next, old: all, content, now })
    }

    /// Where the newest version is, for a host whose configuration is as it was.
    pub fn unchanged_since(&self) -> Option<&Path> {
        self.newest.as_deref().filter(|_| self.why == Why::Unchanged)
    }

    /// The names of older versions that go.
    pub fn removes(&self) -> impl Iterator<Item = String> {
        self.old.iter().map(|version| version.name())
    }

    /// Does it.
    pub fn carry_out(self, backup_path: &Path) -> Result<SavedHostConfig, HostConfigError> {
        let versions = Versions::open(backup_path)?;
        let unchanged = self.unchanged_since().map(Path::to_owned);
        let is_new = unchanged.is_none();
        let file = unchanged.unwrap_or_else(|| versions.path_of(self.next));
        let file_bytes = if is_new { self.write(&versions)? } else { 0 };
        let (mut removed, mut warnings) = (vec![], self.trouble);
        for version in self.old {
            match versions.remove_version(version) {
                Ok(()) => removed.push(versions.path_of(version)),
                Err(error) => warnings.push(error.to_string()),
            }
        }
        let (why, entries) = (self.why.to_string(), self.content.entries.len());
        Ok(SavedHostConfig {
            file,
            is_new,
            why,
            file_bytes,
            entries,
            left_out: self.left_out,
            removed,
            warnings,
        })
    }

    fn write(&self, versions: &Versions) -> Result<u64, HostConfigError> {
        let mut entries: BTreeMap<PathBuf, Entry> = self.content.entries.clone();
        let mut text = |name: &str, content: String| {
            let kind = Kind::File(content.into_bytes());
            entries.insert(name.into(), Entry { kind, mode: 0o600, owner: 0, group: 0 });
        };
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let about = json!({
            "host": host,
            "taken": self.now.timestamp().to_string(),
            "program": concat!("vmbackup ", env!("CARGO_PKG_VERSION")),
            "left_out": self.left_out,
        });
        text(archive::ABOUT, format!("{about:#}\n"));
        text(archive::RESTORE, RESTORE_TEXT.to_owned());
        let seconds = u64::try_from(self.now.timestamp().as_second()).unwrap_or_default();
        versions.write(self.next, |to| archive::write(to, &entries, seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_config::FOLDER;

    fn plan(backup_path: &Path, content: &[(&str, &str)], keep: usize) -> Plan {
        let mut all = Content::default();
        for (path, text) in content {
            let kind = Kind::File(text.as_bytes().to_vec());
            all.add(path.into(), Entry { kind, mode: 0o644, owner: 0, group: 0 });
        }
        Plan::of(all, backup_path, keep, "2026-11-23T03:15:00[UTC]".parse().unwrap()).unwrap()
    }

    #[test]
    fn a_version_is_written_when_something_changed_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let names = || {
            let mut names: Vec<_> = std::fs::read_dir(path.join(FOLDER)).unwrap().flatten().collect();
            names.sort_by_key(std::fs::DirEntry::file_name);
            names.iter().map(|e| e.file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        let version = |second: u32| format!("host_config_20261123_03150{second}.tar.gz");
        let first = plan(path, &[("a", "1")], 2);
        assert_eq!(first.why, Why::First);
        assert!(!path.join(FOLDER).exists(), "a plan writes nothing");
        let saved = first.carry_out(path).unwrap();
        assert_eq!((saved.is_new, saved.file), (true, path.join(FOLDER).join(version(0))));

        let same = plan(path, &[("a", "1")], 2);
        assert_eq!(same.unchanged_since(), Some(path.join(FOLDER).join(version(0)).as_path()));
        let saved = same.carry_out(path).unwrap();
        assert_eq!((saved.is_new, saved.file_bytes, names()), (false, 0, vec![version(0)]));

        for (content, why) in
            [(vec![("a", "1"), ("b", "")], "b has changed"), (vec![("c", "")], "a and 2 more have changed")]
        {
            let changed = plan(path, &content, 2);
            assert_eq!(changed.why.to_string(), why);
            changed.carry_out(path).unwrap();
        }
        assert_eq!(names(), [version(1), version(2)]);

        let newest = path.join(FOLDER).join(version(2));
        let whole = std::fs::read(&newest).unwrap();
        std::fs::write(&newest, &whole[..whole.len() - 1]).unwrap();
        let damaged = plan(path, &[("c", "")], 2);
        assert!(matches!(damaged.why, Why::Damaged(_)), "{}", damaged.why);
        assert_eq!(damaged.removes().collect::<Vec<_>>(), [version(1)]);
        damaged.carry_out(path).unwrap();
        assert_eq!(names(), [version(2), version(3)]);

        let fewer = plan(path, &[("c", "")], 1);
        assert_eq!(fewer.why, Why::Unchanged);
        assert_eq!(fewer.carry_out(path).unwrap().removed, [path.join(FOLDER).join(version(2))]);
        assert_eq!(names(), [version(3)]);
    }
}
