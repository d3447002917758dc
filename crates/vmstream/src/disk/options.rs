//! How a disk is opened, and how far its bytes are proven.

/// What is asked of the streams before the first byte is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// Streams that belong elsewhere are refused. Those that nothing but a checksum file proves are read whole, once, and
    /// held against it: that takes as long as reading their files does.
    #[default]
    First,
    /// Nothing is asked: opening takes as long as reading sidecars, and the headers of streams that have none. What those
    /// say is [`Proof::Unproven`].
    Skip,
}

/// How to open a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// What is asked first.
    pub check: Check,
    /// Bytes of decoded content that are kept, beside what is being read at the moment.
    pub content_bytes: usize,
    /// Bytes of sidecars' block lists that are kept, and as many of what they know of granules. The frames of streams without sidecar are not among them: those take 32
    /// bytes each, for as long as the disk is open.
    pub index_bytes: usize,
}

impl Default for DiskOptions {
    /// Checked first; 64 MiB of content, 32 MiB of block lists.
    fn default() -> Self {
        Self { check: Check::First, content_bytes: 64 << 20, index_bytes: 32 << 20 }
    }
}

/// How far bytes that were read are proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// Something that was written with a stream does not vouch for them: there is neither sidecar nor checksum file, or nobody
    /// has read the stream to hold it against one. The checksums inside LZ4 and zstd frames were held even so: content that
    /// does not fit them is an error, but a frame that lies elsewhere than it was written is not seen.
    Unproven,
    /// They are what was backed up, by sidecars or checksum files.
    Proven,
}
