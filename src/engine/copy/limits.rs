//! How much of the copying is on its way at once.

/// Disks of one domain that are copied at the same time. QEMU serves 100 connections to a job (`NBD_DEFAULT_MAX_CONNECTIONS`),
/// and each disk needs three.
pub(super) const DISKS_OF_DOMAIN: usize = 16;

/// Disks of all domains of a run that are copied at the same time: each has buffers of its own.
pub const DISKS_OF_RUN: u64 = 24;

/// Reads in flight on one connection. QEMU serves 16 at most (`MAX_NBD_REQUESTS`).
pub(super) const READS_IN_FLIGHT: usize = 4;

/// Connections that read one disk. QEMU serves an export from one thread, so more gain nothing.
pub(super) const CONNECTIONS: usize = 2;

/// Planned reads waiting for a reader.
pub(super) const QUEUED_READS: usize = 64;

/// Pieces waiting for the writer of a disk.
pub(super) const QUEUED_PIECES: usize = 256;
