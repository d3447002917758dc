//! Rows of our `restore_points`: every point that can be asked for, and where it is.
//!
//! They repeat what is on disk: after each change of a folder its rows are written anew from what is there then.

use std::path::{Path, PathBuf};

use rusqlite::{Transaction, params};
use vmstore::layout::ARCHIVES;

use super::handle::Catalog;
use super::stamp::utc;
use super::tree::{self, PointOnDisk};
use super::vm_backup::integer;

impl Catalog {
    /// Writes the points in a folder anew. One that is gone, or holds no backup, loses its rows.
    pub(super) fn points_changed(&self, vm: &str, period: &str, folder: &Path) {
        let points = tree::points_in(folder);
        let name = self.relative(folder);
        self.write(|transaction| replace(transaction, vm, period, &name, &points));
    }

    /// A chain's folder was deleted, with its archives. Periods in it, beside a chain without periods, stay.
    ///
    /// For an archive of its own; of a period [`chain_removed`](Self::chain_removed) knows.
    pub fn points_gone(&self, folder: &Path) {
        let name = self.relative(folder);
        let archives = format!("{name}/{ARCHIVES}/");
        self.write(|transaction| {
            let sql = "DELETE FROM restore_points WHERE folder = ?1 OR substr(folder, 1, length(?2)) = ?2";
            transaction.execute(sql, [&name, &archives])
        });
    }

    /// A folder below the backup path, so that the rows stay true when that is mounted elsewhere.
    fn relative(&self, folder: &Path) -> String {
        let backup_path: Option<PathBuf> = self.path().parent().and_then(Path::parent).map(Path::to_owned);
        let short = backup_path.as_deref().and_then(|base| folder.strip_prefix(base).ok());
        short.unwrap_or(folder).to_string_lossy().into_owned()
    }
}

/// Puts the points of one folder in the place of those that were known of it.
pub(super) fn replace(
    transaction: &Transaction<'_>,
    vm: &str,
    period: &str,
    folder: &str,
    points: &[PointOnDisk],
) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM restore_points WHERE folder = ?1")?.execute([folder])?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO restore_points (vm_name, period_id, folder, point, taken_at, taken_from, disks, file_bytes, restorable)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for point in points {
        let (at, source) = point.taken.unzip();
        let (bytes, disks) = (integer(point.file_bytes), point.disks.join(","));
        let at = at.map(utc);
        insert.execute(params![
            vm,
            period,
            folder,
            point.name,
            at,
            source,
            disks,
            bytes,
            point.restorable
        ])?;
    }
    Ok(())
}
