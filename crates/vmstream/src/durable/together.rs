//! Several files that become durable at once: one turn of a rotating disk for all of them, instead of two for each.
//!
//! `syncfs` writes out what anybody has written to the file system, so it waits for others too, for as long as the kernel lets
//! them run ahead of the disk. Nothing that holds a guest waits for it. It is asked only where it is known to reach the disk and
//! to tell of what failed since the folder was opened (Linux 5.8): over a network, through FUSE or in layers each file is synced
//! by itself.

use std::fs::File;
use std::io;
use std::path::Path;

use super::sync::sync_folder;

/// The numbers of file systems whose `syncfs` is a sync of each file and folder.
///
/// Source: statfs(2), linux/magic.h; f2fs and ZFS: their own headers.
const WHOLE: [(&str, u32); 7] = [
    ("ext2, ext3, ext4", 0xEF53),
    ("xfs", 0x5846_5342),
    ("btrfs", 0x9123_683E),
    ("bcachefs", 0xCA45_1A4E),
    ("f2fs", 0xF2F5_2010),
    ("zfs", 0x2FC1_2FC1),
    ("tmpfs", 0x0102_1994),
];

/// Files of one file system. It is begun before the first of them is written.
#[derive(Debug)]
pub struct Together {
    folder: File,
    whole: bool,
}

impl Together {
    /// Files in and below a folder.
    pub fn below(folder: &Path) -> io::Result<Self> {
        let folder = File::open(folder)?;
        let number = rustix::fs::fstatfs(&folder)?.f_type;
        // The type of that field differs between processors; the number fits each.
        let whole = WHOLE.iter().any(|(_, known)| *known == number as u32);
        Ok(Self { folder, whole })
    }

    /// Takes a file that is written to its end. It is durable after the next [`Self::sync`].
    pub fn add(&self, file: &File) -> io::Result<()> {
        if self.whole { Ok(()) } else { file.sync_all() }
    }

    /// Makes durable all that was added, under whatever name it has then.
    pub fn sync(&self) -> io::Result<()> {
        if self.whole { self.sync_whole() } else { Ok(()) }
    }

    /// Makes durable what was made, renamed or removed in these folders.
    pub fn sync_folders<'a>(&self, folders: impl IntoIterator<Item = &'a Path>) -> io::Result<()> {
        let mut folders = folders.into_iter().peekable();
        match (folders.next(), folders.peek()) {
            (Some(_), Some(_)) if self.whole => self.sync_whole(),
            (first, _) => first.into_iter().chain(folders).try_for_each(sync_folder),
        }
    }

    fn sync_whole(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.folder)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_whose_sync_is_not_known_syncs_each_file() {
        let dir = tempfile::tempdir().unwrap();
        let written = File::create(dir.path().join("x")).unwrap();
        for whole in [true, false] {
            let together = Together { whole, ..Together::below(dir.path()).unwrap() };
            together.add(&written).unwrap();
            together.sync().unwrap();
            together.sync_folders([dir.path()]).unwrap();
            let gone = dir.path().join("gone");
            assert!(together.sync_folders([gone.as_path()]).is_err(), "one folder is asked by its name");
        }
        // Neither has a disk behind it that would answer.
        let proc = Together::below(Path::new("/proc")).unwrap();
        assert!(!proc.whole);
    }
}
