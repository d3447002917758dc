//! Numbers of a qcow2 file: sizes, and the bytes of its header. All numbers in the file are big-endian.

/// 64 KiB, as `qemu-img create` makes them.
pub(super) const CLUSTER: u64 = 1 << CLUSTER_BITS;
const CLUSTER_BITS: u32 = 16;

/// Entries of a table that fills one cluster.
pub(super) const ENTRIES: usize = CLUSTER as usize / 8;

/// Bytes of the disk that one level 2 table maps.
const TABLE_SPAN: u64 = ENTRIES as u64 * CLUSTER;

/// QEMU opens no file with a larger level 1 table (`QCOW_MAX_L1_SIZE`, 32 MiB).
const MAX_TABLES: u64 = (32 << 20) / 8;

/// The largest disk that a file with these clusters can hold: 2 PiB.
pub(in crate::restore) const MAX_DISK: u64 = MAX_TABLES * TABLE_SPAN;

/// Clusters that one refcount block of 16-bit counts covers.
const REFCOUNTS: u64 = CLUSTER / 2;

/// Bytes of the header, and of the end of its list of extensions.
const HEADER_LEN: u32 = 104;

/// "Refcount is exactly one", which lets QEMU write in place.
pub(super) const COPIED: u64 = 1 << 63;

/// Level 2 tables of a disk.
pub(super) fn tables(disk_size: u64) -> u64 {
    disk_size.div_ceil(TABLE_SPAN)
}

/// The table that maps a cluster of the disk, and the entry in it.
pub(super) fn entry_of(cluster: u64) -> (usize, usize) {
    ((cluster / ENTRIES as u64) as usize, (cluster % ENTRIES as u64) as usize)
}

/// How many clusters the refcounts themselves take, behind so many others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refcounts {
    pub blocks: u64,
    /// Clusters of the table that names the blocks.
    pub table: u64,
}

impl Refcounts {
    pub(super) fn behind(used: u64) -> Self {
        let mut refcounts = Self { blocks: 0, table: 0 };
        loop {
            // They count themselves, too.
            let blocks = (used + refcounts.blocks + refcounts.table).div_ceil(REFCOUNTS);
            let next = Self { blocks, table: blocks.div_ceil(ENTRIES as u64) };
            if next == refcounts {
                return refcounts;
            }
            refcounts = next;
        }
    }

    /// The counts of one block: 1 for each cluster below `end`.
    pub(super) fn block(number: u64, end: u64) -> Vec<u8> {
        let counted = end.saturating_sub(number * REFCOUNTS).min(REFCOUNTS);
        let mut bytes = [0, 1].repeat(counted as usize);
        bytes.resize(CLUSTER as usize, 0);
        bytes
    }
}

/// What the header tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub disk_size: u64,
    /// Byte of the file.
    pub level_1: u64,
    /// Byte of the file.
    pub refcount_table: u64,
    /// Clusters.
    pub refcount_table_len: u64,
}

impl Header {
    pub(super) fn bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN as usize + 8);
        bytes.extend(*b"QFI\xfb");
        bytes.extend(3u32.to_be_bytes());
        // No backing file: where, and the length of its name.
        bytes.extend(0u64.to_be_bytes());
        bytes.extend(0u32.to_be_bytes());
        bytes.extend(CLUSTER_BITS.to_be_bytes());
        bytes.extend(self.disk_size.to_be_bytes());
        // No encryption.
        bytes.extend(0u32.to_be_bytes());
        bytes.extend((tables(self.disk_size) as u32).to_be_bytes());
        bytes.extend(self.level_1.to_be_bytes());
        bytes.extend(self.refcount_table.to_be_bytes());
        bytes.extend((self.refcount_table_len as u32).to_be_bytes());
        // No snapshots: how many, and where.
        bytes.extend(0u32.to_be_bytes());
        bytes.extend(0u64.to_be_bytes());
        // Incompatible, compatible and auto-clear features.
        bytes.extend([0; 3 * 8]);
        // Counts of 16 bits, 2 to the power of 4.
        bytes.extend(4u32.to_be_bytes());
        bytes.extend(HEADER_LEN.to_be_bytes());
        // The end of the extensions.
        bytes.extend(0u64.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refcounts_cover_all_clusters_and_themselves() {
        for used in [1, 2, 32_765, 32_766, 32_767, 32_768, 70_000, 268_000_000, 268_435_456, 1 << 33] {
            let Refcounts { blocks, table } = Refcounts::behind(used);
            let all = used + blocks + table;
            assert!(blocks * REFCOUNTS >= all && (blocks - 1) * REFCOUNTS < all, "{used}: {blocks}");
            assert_eq!(table, blocks.div_ceil(ENTRIES as u64), "{used}");
        }
    }
}
