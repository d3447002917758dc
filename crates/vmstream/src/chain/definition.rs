//! A copy without disks, on purpose: what its `.identity` file says of it.
//!
//! A VM may have no disk that can be or is to be saved. Its point is its definition, with what belongs to that.
//! Must not live here: whether the files are as they were (`verify`).

use super::{BackupSet, PointId, SetFile};
use crate::regular;
use crate::sidecar::{FileIdentity, LeftOut};
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The most bytes of such a file that are looked at.
pub(super) const MAX_IDENTITY_LEN: u64 = 64 << 20;

/// A point that holds the definition of a VM, and no disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// When it was taken: local time, as streams have it.
    pub taken: String,
    /// The disks that the VM has all the same.
    pub left_out: Vec<LeftOut>,
    /// Its files, the domain XML among them.
    pub(crate) files: Vec<FileIdentity>,
}

impl Definition {
    /// The one in a folder. `None` where no file says that there are no disks: they may be lost.
    pub(super) fn of(dir: &Path) -> Option<Self> {
        let mut bytes = Vec::new();
        let file = regular::open(&dir.join(SetFile::Identity(PointId::Copy).to_string())).ok()?;
        file.take(MAX_IDENTITY_LEN).read_to_end(&mut bytes).ok()?;
        Self::parse(&bytes)
    }

    fn parse(json: &[u8]) -> Option<Self> {
        let facts: Value = serde_json::from_slice(json).ok()?;
        let list = |key: &str| facts.get(key)?.as_array();
        if !list("disks")?.is_empty() {
            return None;
        }
        let files: Vec<_> =
            list("files")?.iter().map(FileIdentity::from_json).collect::<Result<_, _>>().ok()?;
        let config = SetFile::VmConfig(PointId::Copy).to_string();
        Some(Self {
            taken: facts.get("taken")?.as_str()?.to_owned(),
            left_out: list("left_out")?.iter().map(LeftOut::from_json).collect::<Option<_>>()?,
            files,
        })
        .filter(|found| found.files.iter().any(|file| file.name == config))
    }

    /// Bytes of its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).fold(0, u64::saturating_add)
    }

    /// What it is, and why it holds no disk, for people.
    pub fn text(&self) -> String {
        let left_out = self.left_out.iter().map(|one| format!("; {} is left out: {}", one.disk, one.reason));
        std::iter::once("the definition only, no disk".to_owned()).chain(left_out).collect()
    }

    /// Its files in the folder of its set.
    pub(crate) fn paths<'a>(
        &'a self,
        set: &'a BackupSet,
    ) -> impl Iterator<Item = (&'a FileIdentity, PathBuf)> {
        self.files.iter().map(|file| (file, set.dir.join(&file.name)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_says_so_is_a_definition_alone() {
        let file = FileIdentity::of("vmconfig.copy.xml", b"<domain/>").to_json();
        let whole = json!({"taken": "2026-11-30T20:00:00.000000", "disks": [], "files": [file],
            "left_out": [{"disk": "vdn", "reason": "network disk"}]});
        let read = |value: &Value| Definition::parse(value.to_string().as_bytes());
        let found = read(&whole).unwrap();
        assert_eq!(
            (found.bytes(), found.text().as_str()),
            (9, "the definition only, no disk; vdn is left out: network disk")
        );
        let changes: [(&str, Value); 6] = [
            ("disks", json!(["vda"])),
            ("disks", Value::Null),
            ("files", json!([])),
            ("files", json!([{"name": "../vmconfig.copy.xml", "size": 1, "blake3": "0"}])),
            ("left_out", json!([1])),
            ("taken", Value::Null),
        ];
        for (key, value) in changes {
            let mut other = whole.clone();
            other[key] = value;
            assert_eq!(read(&other), None, "{key} {}", other[key]);
        }
        assert_eq!(Definition::parse(b"{"), None);
    }
}
