//! How many bytes a folder holds, and whether everything in it can be entered.

use std::collections::HashSet;

use rustix::fs::{self, AtFlags, FileType};
use rustix::io::Errno;

use super::{Entry, Folder, FolderError};

/// Files with many names that were counted: device and inode.
pub type SeenFiles = HashSet<(u64, u64)>;

impl Folder {
    /// Enters every folder inside, so that a mount or a link in the way of [`Folder::remove_tree`] is found before
    /// anything is touched. Returns the bytes of everything, folders too: files with many names once. So counted `du -sb`
    /// before coreutils 9.2.
    pub fn survey(&self) -> Result<u64, FolderError> {
        Ok(self.own_bytes()? + self.survey_inside(&mut SeenFiles::new())?)
    }

    fn survey_inside(&self, seen: &mut SeenFiles) -> Result<u64, FolderError> {
        let mut bytes = 0;
        for entry in self.entries()? {
            bytes += self.survey_entry(&entry, seen)?;
        }
        Ok(bytes)
    }

    /// The bytes of one entry and of everything in it. Files with many names count once for each `seen`.
    pub fn survey_entry(&self, entry: &Entry, seen: &mut SeenFiles) -> Result<u64, FolderError> {
        let about = match fs::statat(&self.fd, &*entry.name, AtFlags::SYMLINK_NOFOLLOW) {
            // Renamed or removed while we look.
            Err(Errno::NOENT) => return Ok(0),
            other => other.map_err(|e| FolderError::of("look at", &self.path.join(&entry.name), e))?,
        };
        let bytes = about.st_size.unsigned_abs();
        if entry.kind == FileType::Directory {
            return Ok(bytes + self.child(&entry.name)?.survey_inside(seen)?);
        }
        let counts = about.st_nlink < 2 || seen.insert((about.st_dev, about.st_ino));
        Ok(if counts { bytes } else { 0 })
    }

    /// The bytes of the folder itself, without what is in it.
    pub fn own_bytes(&self) -> Result<u64, FolderError> {
        let about = fs::fstat(&self.fd).map_err(|e| FolderError::of("look at", &self.path, e))?;
        Ok(about.st_size.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

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
        assert_eq!(Folder::open(dir.path()).unwrap().survey().unwrap(), want);
    }
}
