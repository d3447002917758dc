//! The sidecar of a stream (`….idx`): checksums of its blocks, of the disk's content at that point, and of the files
//! beside it.
//!
//! Lives here: the file's layout, reading it as if it were hostile, writing it in bounded memory.
//! The layout is in `format-spec/6-sidecar.md`; change both in one commit.
//! Must not live here: what follows from a difference (`verify`, `restore`), file names (`chain`).

mod crc;
mod directory;
mod granule;
mod head;
mod reader;
mod record;
mod recorder;
mod sums;
mod table;
mod writer;

pub(crate) use directory::Directory;
pub use granule::{Granules, Value, ZeroSums};
pub use head::{FileIdentity, Head, HeadError, LeftOut, StreamIdentity};
pub use reader::{Blocks, Records, Runs, Sidecar, SidecarError};
pub use record::{Block, Run, RunKind};
pub use recorder::Recorder;
pub(crate) use sums::PartSums;
pub use sums::{Digest, PlainSums, StoredSums};
pub use table::{Checked, Ledger, Tables};
pub use writer::{FinishedSidecar, SidecarWriter};

/// The first bytes of a sidecar.
const MAGIC: &[u8; 8] = b"vmbkidx\n";

/// The last bytes of a sidecar.
const END_MAGIC: &[u8; 8] = b"vmbkend\n";

/// The version that this program writes and reads.
const VERSION: u32 = 1;
