//! Which cluster of the file holds which of the disk. Memory: the level 1 table, 16 KiB for each TiB of the disk, and the
//! level 2 tables in use, 64 KiB each for 512 MiB of it.

use super::layout::{CLUSTER, COPIED, ENTRIES, entry_of, tables};
use lru::LruCache;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Level 2 tables in memory. Disks are written about in order, so few are in use at a time.
const KEPT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

/// The tables of a file under construction.
#[derive(Debug)]
pub(super) struct Tables {
    /// Byte of the file where each level 2 table stands; 0 where there is none yet.
    level_1: Vec<u64>,
    kept: LruCache<usize, Box<[u64]>>,
    /// The next cluster of the file that nobody has.
    next: u64,
}

impl Tables {
    /// No memory for a table that no disk of that size has: [`super::MAX_DISK`] bounds it.
    pub(super) fn new(disk_size: u64) -> Self {
        let level_1 = vec![0; tables(disk_size) as usize];
        let taken = 1 + (level_1.len() as u64 * 8).div_ceil(CLUSTER);
        Self { level_1, kept: LruCache::new(KEPT), next: taken }
    }

    /// Where the file has the clusters of the disk that `range` touches: for each the byte, in order. Those that it has not
    /// get the next free ones.
    ///
    /// # Errors
    /// When a table cannot be written to `file`, or read again from it.
    pub(super) fn place(&mut self, file: &File, range: Range<u64>) -> io::Result<Vec<u64>> {
        let clusters = range.start / CLUSTER..range.end.div_ceil(CLUSTER);
        clusters.map(|cluster| self.place_one(file, cluster)).collect()
    }

    fn place_one(&mut self, file: &File, cluster: u64) -> io::Result<u64> {
        let (number, entry) = entry_of(cluster);
        self.keep(file, number)?;
        let next = &mut self.next;
        let table = self.kept.get_mut(&number).ok_or_else(out_of_range)?;
        if table[entry] == 0 {
            table[entry] = take(next) | COPIED;
        }
        Ok(table[entry] & !COPIED)
    }

    /// Has a table in memory: a new one, or one that had to go.
    fn keep(&mut self, file: &File, number: usize) -> io::Result<()> {
        if self.kept.contains(&number) {
            return Ok(());
        }
        let at = self.level_1.get_mut(number).ok_or_else(out_of_range)?;
        let table = match *at {
            0 => {
                *at = take(&mut self.next);
                vec![0; ENTRIES].into()
            }
            at => read_table(file, at)?,
        };
        match self.kept.push(number, table) {
            Some((old, table)) => write_table(file, self.level_1[old], &table),
            None => Ok(()),
        }
    }

    /// Writes the tables: level 2 each in its place, level 1 behind the header. Returns the clusters of the file that are taken.
    pub(super) fn finish(mut self, file: &File) -> io::Result<u64> {
        while let Some((number, table)) = self.kept.pop_lru() {
            write_table(file, self.level_1[number], &table)?;
        }
        let level_1 = self.level_1.iter().map(|&at| if at == 0 { 0 } else { at | COPIED });
        write_table(file, CLUSTER, &level_1.collect::<Vec<_>>())?;
        Ok(self.next)
    }
}

/// The byte of the file where the next cluster begins, which is somebody's from now on.
fn take(next: &mut u64) -> u64 {
    let taken = *next * CLUSTER;
    *next += 1;
    taken
}

fn out_of_range() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "behind the end of the disk")
}

pub(super) fn write_table(file: &File, at: u64, table: &[u64]) -> io::Result<()> {
    let bytes: Vec<u8> = table.iter().flat_map(|entry| entry.to_be_bytes()).collect();
    file.write_all_at(&bytes, at)
}

fn read_table(file: &File, at: u64) -> io::Result<Box<[u64]>> {
    let mut bytes = vec![0; CLUSTER as usize];
    file.read_exact_at(&mut bytes, at)?;
    let entries = bytes.chunks_exact(8).map(|entry| entry.try_into().map_or(0, u64::from_be_bytes));
    Ok(entries.collect())
}
