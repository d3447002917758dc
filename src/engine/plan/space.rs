//! How much room a backup will need.

use vmstream::chain::{BackupSet, PointDisk};

/// How large the files were for each byte of data in them, in thousandths. 1000 without history.
pub fn history_ratio_permille(set: Option<&BackupSet>) -> u64 {
    let streams = set.into_iter().flat_map(|s| &s.points).flat_map(|p| p.disks.values());
    let sizes = streams.filter_map(|disk| match disk {
        PointDisk::Stream(entry) => Some((entry.file_len, entry.meta.as_ref().ok()?.data_size)),
        PointDisk::Raw(_) => None,
    });
    let (files, data) = sizes.fold((0_u64, 0_u64), |(f, d), (file, plain)| (f + file, d + plain));
    files.saturating_mul(1000).checked_div(data).unwrap_or(1000).clamp(1, 1000)
}
