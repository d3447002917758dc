//! How many bytes the folder of a chain holds, and each archive in it: looked at once.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};

use vmstore::layout::ARCHIVES;

/// The bytes of a folder's files, as their lengths say. Links are not followed, and what cannot be read is not counted.
#[derive(Debug, Default)]
pub(super) struct FolderBytes {
    outside_archives: u64,
    /// What lies in the folder of the archives.
    by_archive: BTreeMap<PathBuf, u64>,
}

impl FolderBytes {
    /// Looks at a folder.
    pub(super) fn of(dir: &Path) -> Self {
        let archives = dir.join(ARCHIVES);
        let outside = entries(dir).filter(|entry| entry.path() != archives);
        Self {
            outside_archives: outside.map(|entry| bytes(&entry)).sum(),
            by_archive: entries(&archives).map(|entry| (entry.path(), bytes(&entry))).collect(),
        }
    }

    pub(super) fn all(&self) -> u64 {
        self.outside_archives + self.archives()
    }

    /// Those of all archives.
    pub(super) fn archives(&self) -> u64 {
        self.by_archive.values().sum()
    }

    /// Those of one archive.
    pub(super) fn archive(&self, path: &Path) -> u64 {
        self.by_archive.get(path).copied().unwrap_or(0)
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = DirEntry> {
    fs::read_dir(dir).into_iter().flatten().flatten()
}

fn bytes(entry: &DirEntry) -> u64 {
    match entry.metadata() {
        Ok(about) if about.is_dir() => entries(&entry.path()).map(|below| bytes(&below)).sum(),
        Ok(about) => about.len(),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_tells_the_chain_from_its_archives() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(FolderBytes::of(&dir.path().join("none")).all(), 0);
        let write = |name: &str, bytes: usize| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![0; bytes]).unwrap();
        };
        for (name, bytes) in [
            ("vda.full.data", 1),
            ("checkpoints/x.xml", 20),
            (".archives/chain-1/vda.full.data", 300),
            (".archives/chain-1/config/x.xml", 4000),
            (".archives/chain-2/vda.full.data", 50_000),
        ] {
            write(name, bytes);
        }
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("file"), [0; 77]).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join(".archives/link")).unwrap();
        let link = fs::symlink_metadata(dir.path().join(".archives/link")).unwrap().len();
        let found = FolderBytes::of(dir.path());
        assert_eq!((found.all(), found.archives()), (54_321 + link, 54_300 + link));
        assert_eq!(found.archive(&dir.path().join(".archives/chain-1")), 4300);
        assert_eq!(found.archive(&dir.path().join(".archives/chain-3")), 0);
    }
}
