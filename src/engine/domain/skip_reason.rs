//! Why a disk is not part of a backup.

use std::fmt;

/// Why a disk is not part of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// `device='cdrom'` or `'floppy'`.
    RemovableMedia(String),
    /// `device='lun'`: the guest talks to the device itself, QEMU cannot take its snapshot.
    PassedThrough,
    /// A network disk (Ceph, iSCSI, NBD …), by protocol.
    Network(String),
    /// No `<source>`: an empty drive.
    NoMedium,
    /// An image format without a reader here.
    Format(String),
    /// Any other source type.
    SourceType(String),
    /// `<readonly/>`: QEMU can make no bitmap in it.
    ReadOnly,
    /// `<transient/>`: the guest's writes are thrown away when it stops.
    Transient,
    /// Excluded by these settings.
    Excluded(&'static str),
    /// A raw disk; `incremental` tells whether this run could have copied it if asked.
    Raw {
        /// The run continues a chain; raw images are written with a full only.
        incremental: bool,
    },
    /// A shareable disk of a domain that is shut off: somebody else writes to it, who is said here.
    InUse(String),
    /// No image was there, and the domain does without it (`startupPolicy='optional'`). Where it was looked for.
    Missing(String),
    /// The domain is shut off, and the disk is as it was at the last copy.
    Unchanged,
    /// The domain is not backed up at all.
    Refused,
}

impl SkipReason {
    /// Whether a backup could have the disk: if it were asked for, or at another time.
    pub fn could_be_had(&self) -> bool {
        matches!(self, Self::Raw { .. } | Self::InUse(_))
    }

    /// Whether the disk holds something of the guest's that no backup has, and nobody asked for that.
    pub fn is_gap(&self) -> bool {
        match self {
            Self::RemovableMedia(_)
            | Self::NoMedium
            | Self::Excluded(_)
            | Self::Unchanged
            | Self::Refused => false,
            Self::PassedThrough
            | Self::Network(_)
            | Self::Format(_)
            | Self::SourceType(_)
            | Self::Missing(_)
            | Self::InUse(_) => true,
            // Increments leave out what the full holds; without BACKUP_RAW_DISKS the plan of a full says so.
            Self::Raw { incremental } => !incremental,
            Self::ReadOnly | Self::Transient => false,
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RemovableMedia(device) => write!(f, "removable media ({device})"),
            Self::PassedThrough => {
                write!(f, "passed through to the guest (device='lun'), QEMU cannot read it")
            }
            Self::Network(protocol) => write!(f, "network disk ({protocol}), back it up where it is stored"),
            Self::NoMedium => write!(f, "empty drive"),
            Self::Format(format) => write!(f, "image format {format} is not supported (qcow2 and raw are)"),
            Self::SourceType(kind) => write!(f, "source type '{kind}' is not supported"),
            Self::ReadOnly => {
                write!(f, "read-only disk, QEMU can keep no bitmap in it; copy its image by hand once")
            }
            Self::Transient => {
                write!(
                    f,
                    "transient disk, its changes are discarded at shutdown; copy its image by hand once"
                )
            }
            Self::InUse(by) => {
                write!(
                    f,
                    "shareable disk in use by {by}: a copy of it would be torn; back it up with that VM"
                )
            }
            Self::Missing(image) => {
                write!(
                    f,
                    "its image was not there ({image}), and the VM does without it (startupPolicy='optional')"
                )
            }
            Self::Unchanged => write!(f, "unchanged since the last copy"),
            Self::Refused => write!(f, "the VM is not backed up"),
            Self::Excluded(by) => write!(f, "excluded by {by}"),
            Self::Raw { incremental: false } => write!(
                f,
                "raw disk, not included: raw images have no dirty bitmaps; set BACKUP_RAW_DISKS=true to copy it \
                 whole with each full backup, or convert it to qcow2"
            ),
            Self::Raw { incremental: true } => {
                write!(
                    f,
                    "raw disk, not included in an incremental backup: it is copied with full backups only"
                )
            }
        }
    }
}

/// A disk that is left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    pub target: String,
    pub reason: SkipReason,
}
