//! How many bytes a folder holds, and whether everything in it can be entered.

use std::collections::HashSet;
use std::path::PathBuf;

use rustix::fs::{self, AtFlags, FileType, Stat};
use rustix::io::Errno;

use super::{Entry, Folder, FolderError};
use crate::layout::is_of_storage;

/// Files with many names that were counted: device and inode.
pub type SeenFiles = HashSet<(u64, u64)>;

/// Bytes of a block, as stat(2) counts what a file takes.
const STAT_BLOCK_BYTES: u64 = 512;

/// What is counted of a file or folder.
#[derive(Clone, Copy)]
enum Measure {
    /// Its length.
    Length,
    /// What it takes on the disk.
    Used,
}

impl Measure {
    fn of(self, about: &Stat) -> u64 {
        match self {
            Self::Length => about.st_size.unsigned_abs(),
            Self::Used => about.st_blocks.unsigned_abs() * STAT_BLOCK_BYTES,
        }
    }
}

impl Folder {
    /// Enters every folder inside, so that a mount, a link or a folder of the storage in the way of [`Folder::remove_tree`] is
    /// found before anything is touched. Returns the bytes of everything, folders too: files with many names once. So counted
    /// `du -sb` before coreutils 9.2.
    pub fn survey(&self) -> Result<u64, FolderError> {
        let mut of_storage = None;
        let inside = self.survey_inside(Measure::Length, &mut SeenFiles::new(), &mut of_storage)?;
        of_storage.map_or_else(|| Ok(self.own_bytes()? + inside), |shown| Err(FolderError::OfStorage(shown)))
    }

    /// The bytes that it takes on the disk with everything in it, as `du -s` counts: without what is the storage's.
    pub fn used_bytes(&self) -> Result<u64, FolderError> {
        let inside = self.survey_inside(Measure::Used, &mut SeenFiles::new(), &mut None)?;
        Ok(Measure::Used.of(&self.about()?) + inside)
    }

    fn survey_inside(
        &self,
        measure: Measure,
        seen: &mut SeenFiles,
        of_storage: &mut Option<PathBuf>,
    ) -> Result<u64, FolderError> {
        let mut bytes = 0;
        for entry in self.entries()? {
            bytes += self.survey_one(&entry, measure, seen, of_storage)?;
        }
        Ok(bytes)
    }

    /// The bytes of one entry and of everything in it but what is the storage's. Files with many names count once for each `seen`.
    pub fn survey_entry(&self, entry: &Entry, seen: &mut SeenFiles) -> Result<u64, FolderError> {
        self.survey_one(entry, Measure::Length, seen, &mut None)
    }

    fn survey_one(
        &self,
        entry: &Entry,
        measure: Measure,
        seen: &mut SeenFiles,
        of_storage: &mut Option<PathBuf>,
    ) -> Result<u64, FolderError> {
        if entry.kind == FileType::Directory && is_of_storage(&entry.name) {
            of_storage.get_or_insert_with(|| self.path.join(&entry.name));
            return Ok(0);
        }
        let about = match fs::statat(&self.fd, &*entry.name, AtFlags::SYMLINK_NOFOLLOW) {
            // Renamed or removed while we look.
            Err(Errno::NOENT) => return Ok(0),
            other => other.map_err(|e| FolderError::of("look at", &self.path.join(&entry.name), e))?,
        };
        let bytes = measure.of(&about);
        if entry.kind == FileType::Directory {
            return Ok(bytes + self.child(&entry.name)?.survey_inside(measure, seen, of_storage)?);
        }
        let counts = about.st_nlink < 2 || seen.insert((about.st_dev, about.st_ino));
        Ok(if counts { bytes } else { 0 })
    }

    /// The bytes of the folder itself, without what is in it.
    pub fn own_bytes(&self) -> Result<u64, FolderError> {
        Ok(Measure::Length.of(&self.about()?))
    }

    fn about(&self) -> Result<Stat, FolderError> {
        fs::fstat(&self.fd).map_err(|e| FolderError::of("look at", &self.path, e))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_used_is_what_du_counts() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/one"), vec![1; 5000]).unwrap();
        std::fs::File::create(dir.path().join("a/hole")).unwrap().set_len(1 << 20).unwrap();
        let du = std::process::Command::new("du").args(["-s", "-B1"]).arg(dir.path()).output().unwrap();
        let want: u64 = String::from_utf8(du.stdout).unwrap().split('\t').next().unwrap().parse().unwrap();
        assert_eq!(Folder::open(dir.path()).unwrap().used_bytes().unwrap(), want);
    }

    #[test]
    fn bytes_are_those_of_all_files_and_folders_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/one"), vec![0; 5000]).unwrap();
        std::fs::hard_link(dir.path().join("a/one"), dir.path().join("a/b/two")).unwrap();
        symlink("nowhere", dir.path().join("a/link")).unwrap();
        let mut find = std::process::Command::new("find");
        let found = find.arg(dir.path()).args(["-printf", "%i %s\\n"]).output().unwrap();
        let sizes: std::collections::BTreeMap<String, u64> = String::from_utf8(found.stdout)
            .unwrap()
            .lines()
            .map(|line| line.split_once(' ').unwrap())
            .map(|(inode, size)| (inode.to_owned(), size.parse().unwrap()))
            .collect();
        let want: u64 = sizes.values().sum();
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!(folder.survey().unwrap(), want);
        // Which nobody could remove, and which is not ours to count.
        std::fs::create_dir_all(dir.path().join("a/.snapshot/nightly.0")).unwrap();
        std::fs::write(dir.path().join("a/.snapshot/nightly.0/one"), vec![0; 5000]).unwrap();
        let refused = folder.survey().unwrap_err();
        assert!(
            matches!(&refused, FolderError::OfStorage(path) if path.ends_with("a/.snapshot")),
            "{refused}"
        );
        let counted: u64 = folder
            .entries()
            .unwrap()
            .iter()
            .fold(0, |sum, entry| sum + folder.survey_entry(entry, &mut SeenFiles::new()).unwrap());
        let grown = std::fs::metadata(dir.path().join("a")).unwrap().len();
        assert!(counted + folder.own_bytes().unwrap() <= want + grown, "{counted}");
    }
}
