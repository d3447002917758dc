//! A qcow2 file as the target of a restore.

use super::layout::{CLUSTER, Header, MAX_DISK, Refcounts};
use super::tables::{Tables, write_table};
use crate::page_cache;
use crate::restore::error::ExtractError;
use crate::restore::nbd::SECTOR;
use crate::restore::partial::{Existing, NewFileError, Partial};
use crate::restore::target::Target;
use crate::restore::zeros::write_parts;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// An unfinished image. Dropped before it is finished, it is removed.
#[derive(Debug)]
pub(in crate::restore) struct Qcow2Image {
    partial: Partial,
    target: PathBuf,
    disk_size: u64,
    tables: Mutex<Tables>,
    written: AtomicU64,
}

impl Qcow2Image {
    /// Creates `TARGET.partial` for a disk of `size` bytes, all zero; of whole sectors, since QEMU knows no others.
    pub(in crate::restore) fn create(
        target: &Path,
        size: u64,
        existing: Existing,
    ) -> Result<Self, ExtractError> {
        let disk_size = size.checked_next_multiple_of(SECTOR).unwrap_or(size);
        if disk_size > MAX_DISK {
            return Err(ExtractError::Qcow2TooLarge { path: target.to_owned(), size });
        }
        Ok(Self {
            partial: Partial::create(target, existing)?,
            target: target.to_owned(),
            disk_size,
            tables: Mutex::new(Tables::new(disk_size)),
            written: AtomicU64::new(0),
        })
    }

    /// Writes bytes of the disk to the clusters that are theirs: in one call where these stand one behind the other.
    fn write_part(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let file = self.partial.file();
        let placed = self.lock().place(file, at..at + bytes.len() as u64)?;
        let (mut rest, mut into) = (bytes, at % CLUSTER);
        for run in placed.chunk_by(|one, next| one + CLUSTER == *next) {
            let room = run.len() as u64 * CLUSTER - into;
            let (now, later) = rest.split_at(rest.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            file.write_all_at(now, run[0] + into)?;
            (rest, into) = (later, 0);
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Writes what a file of so many taken clusters needs to be one: the refcounts, then the header.
fn close(file: &File, disk_size: u64, taken: u64) -> io::Result<()> {
    let Refcounts { blocks, table } = Refcounts::behind(taken);
    let end = taken + blocks + table;
    for number in 0..blocks {
        file.write_all_at(&Refcounts::block(number, end), (taken + number) * CLUSTER)?;
    }
    let refcount_table = (taken + blocks) * CLUSTER;
    let places: Vec<u64> = (taken..taken + blocks).map(|cluster| cluster * CLUSTER).collect();
    write_table(file, refcount_table, &places)?;
    let header = Header { disk_size, level_1: CLUSTER, refcount_table, refcount_table_len: table };
    file.write_all_at(&header.bytes(), 0)?;
    // The last cluster whole.
    file.set_len(end * CLUSTER)
}

impl Target for Qcow2Image {
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<u64> {
        let written = write_parts(at, bytes, |at, part| self.write_part(at, part))?;
        let before = self.written.fetch_add(written, Ordering::Relaxed);
        page_cache::let_go_in_steps(self.partial.file(), before..before + written);
        Ok(written)
    }

    fn finish(self: Box<Self>, free: &dyn Fn() -> Result<(), ExtractError>) -> Result<(), ExtractError> {
        let Self { partial, target, disk_size, tables, .. } = *self;
        let tables = tables.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        tables
            .finish(partial.file())
            .and_then(|taken| close(partial.file(), disk_size, taken))
            .map_err(|source| NewFileError::Write { path: target, source })?;
        partial.sync()?;
        free()?;
        Ok(partial.publish()?)
    }
}
