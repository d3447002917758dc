//! What a decision says: what to do, why, and what deserves a look.

use std::fmt;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use vmstream::chain::CheckpointName;

use crate::RotationPolicy;

/// A disk is not what its chain says, and nothing says that it changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnseenChange {
    pub disk: String,
    /// Where, in bytes from its start.
    pub at: u64,
    /// Points of the chain that are in doubt, oldest first: none of them has read that place.
    pub doubtful: Vec<String>,
    /// The chain before this one ended in the same way, for the same disk.
    pub again: bool,
}

/// Why this level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// First backup of the VM.
    NoChain,
    /// The period's first backup; the newest earlier period that is there.
    NewPeriod(String),
    /// First backup under this policy.
    NewPolicy(RotationPolicy),
    /// The VM went on in another folder meanwhile, and now comes back: policy or clock changed to and fro.
    WasElsewhere,
    /// As many restore points as an accumulating chain may have.
    ChainLimit(usize),
    /// The day of the month on which chains begin anew.
    FullDay(u32),
    /// The chain is that of another VM, which had the same name.
    OtherVm(String),
    /// The last try failed with this.
    LastTryFailed(String),
    /// The chain goes on.
    ChainContinues,
    /// The folder holds a copy made while the domain was shut off.
    AfterCopy,
    /// The same, of a domain that is shut off: another program made it, and this speaks against its being of the disks as they are.
    AfterCopyInDoubt(String),
    /// libvirt no longer has the checkpoint.
    CheckpointLost(String),
    /// The checkpoint is there, its bitmaps are not usable.
    BitmapLost(String),
    /// The image of this disk is not the one that the chain went on with. Its bitmap, which has the name of the chain's
    /// last checkpoint, is that of an earlier chain.
    DiskPutBack(String),
    /// The image of a disk is that of another one: files, overlays or block devices have changed places.
    DiskExchanged {
        target: String,
        /// Whose image it has.
        of: String,
    },
    /// A disk is not what the chain says: what changed is not known.
    ChangedUnseen {
        disk: String,
        /// Where, in bytes from its start.
        at: u64,
    },
    /// The chain on disk cannot be continued.
    ChainBroken(String),
    /// zstd was chosen, or given up, since the chain began. Old readers cannot see zstd streams: of a mixed chain they
    /// would put a wrong image together and call it a success.
    OtherCompression,
    /// A disk has another size than in the chain. virtnbdrestore before 2.29 gives every point the size of the first
    /// one, and drops what does not fit without an error: such a chain would not be exact under every reader.
    DiskResized(String),
    /// A disk was raw when the chain began, and its image beside the streams would be taken for one of them.
    DiskConverted(String),
    /// None of the disks of the last point is part of this one.
    OtherDisks,
    /// No disk of it keeps dirty bitmaps: each backup is of the whole.
    NoBitmaps,
    /// No disk of it can be or is to be copied.
    DefinitionOnly,
    /// The domain is shut off.
    ShutOff,
    /// Shut off, and there is a copy of another program that may not be of the disks as they are.
    ShutOffInDoubt(String),
    /// Shut off, and nothing changed since the last backup.
    Unchanged,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoChain => write!(f, "first backup of this VM"),
            Self::NewPeriod(previous) => write!(f, "a new period begins, after {previous}"),
            Self::NewPolicy(policy) => write!(f, "first backup under the policy {policy}"),
            Self::WasElsewhere => write!(f, "the VM's checkpoints belong to a newer chain in another folder"),
            Self::ChainLimit(limit) => {
                write!(f, "the chain has {limit} restore points, its limit (ACCUMULATE_HARD_LIMIT)")
            }
            Self::FullDay(day) => write!(f, "chains begin anew on day {day} (CHECKPOINT_FORCE_FULL_ON_DAY)"),
            Self::OtherVm(uuid) => write!(f, "the chain is that of another VM of this name (UUID {uuid})"),
            Self::LastTryFailed(message) => write!(f, "the last try failed: {message}"),
            Self::ChainContinues => write!(f, "the chain continues"),
            Self::AfterCopy => write!(f, "the last backup is a copy made while the VM was shut off"),
            Self::AfterCopyInDoubt(doubt) => write!(
                f,
                "the last backup is a copy that another program made while the VM was shut off, and it may not be of its disks as they \
                 are: {doubt}"
            ),
            Self::CheckpointLost(name) => write!(f, "libvirt no longer has checkpoint {name}"),
            Self::BitmapLost(message) => write!(f, "a dirty bitmap is lost ({message})"),
            Self::DiskPutBack(target) => {
                write!(
                    f,
                    "the image of disk {target} is not the chain's: it was put back from an earlier time"
                )
            }
            Self::DiskExchanged { target, of } => write!(
                f,
                "the image of disk {target} is that of disk {of}: they have changed places (block devices can change names at a boot; \
                 /dev/disk/by-id does not)"
            ),
            Self::ChangedUnseen { disk, at } => write!(
                f,
                "disk {disk} is at offset {at} not what the last restore point holds, and nothing says that it changed: the bitmap \
                 missed a change, or the image changed beneath QEMU"
            ),
            Self::ChainBroken(message) => write!(f, "the chain cannot be continued: {message}"),
            Self::OtherCompression => {
                write!(f, "COMPRESSION was changed from or to zstd, and a chain holds no mixture")
            }
            Self::DiskResized(target) => write!(f, "disk {target} was resized"),
            Self::DiskConverted(target) => write!(f, "disk {target} was converted from raw"),
            Self::OtherDisks => write!(f, "none of the chain's disks is in its place any more"),
            Self::NoBitmaps => write!(f, "none of its disks keeps dirty bitmaps, so all is copied each time"),
            Self::DefinitionOnly => {
                write!(f, "definition only: the VM has no disk that can be or is to be saved")
            }
            Self::ShutOff => write!(f, "the VM is shut off"),
            Self::ShutOffInDoubt(doubt) => write!(
                f,
                "the VM is shut off, and the copy that another program made may not be of its disks as they are: {doubt}"
            ),
            Self::Unchanged => write!(f, "shut off and unchanged since the last backup"),
        }
    }
}

/// Why nothing can be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// Checkpoints that are not ours are in the way.
    ForeignCheckpoints(Vec<String>),
    /// Chain and checkpoints do not fit, and repairs are switched off.
    RecoveryOff,
}

/// What deserves a look, though the backup is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The period of the newest chain has not begun yet, says the clock.
    ClockBehind {
        /// The chain's period.
        period: String,
        /// What the clock says.
        today: Date,
    },
    /// An increment was asked for of a domain that is shut off, and it is not started, because of this.
    NotStarted(String),
    /// This disk has another image than the chain went on with; the points before have what it held.
    DiskReplaced(String),
    /// A chain ended because a disk had changed and nothing said so.
    ChangedUnseen(UnseenChange),
    /// An accumulating chain gets long.
    LongChain {
        /// Its restore points, with the one of this run.
        points: usize,
        /// At so many a new one begins.
        limit: u32,
    },
}

impl fmt::Display for UnseenChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { disk, at, doubtful, again } = self;
        let points = match doubtful.as_slice() {
            [] => "The chain that was archived is in doubt nowhere else".to_owned(),
            [one] => format!(
                "Restore point {one} of the chain that was archived is doubtful: it has not read that place"
            ),
            [first, .., last] => format!(
                "Restore points {first} to {last} of the chain that was archived are doubtful: they have not read that place"
            ),
        };
        write!(
            f,
            "disk {disk} changed at offset {at} and nothing said so. {points}. It is kept until you release it (purge_eligible in the \
             database)"
        )?;
        if *again {
            write!(
                f,
                ". That is the second chain in a row, so there is a standing cause: something else writes to {disk} (a shareable disk, an \
                 image that the host or another machine has open), or what is discarded there reads now so and now otherwise. As long as it \
                 lasts each increment becomes a full; VM_TRIPWIRE[\"NAME\"]=\"no\" gives up the comparison for this VM"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClockBehind { period, today } => write!(
                f,
                "the clock says {today}, but the newest chain is that of {period}: the clock was set back, or was ahead then. The \
                 chain of {period} goes on until the clock has reached it"
            ),
            Self::NotStarted(reason) => {
                write!(f, "OFFLINE_MODE=incremental, and the VM is copied all the same, because {reason}")
            }
            Self::DiskReplaced(disk) => write!(
                f,
                "the image of disk {disk} was replaced: it has no trace of the chain, so all of it is in this restore point. Those before \
                 have what the disk held then"
            ),
            Self::ChangedUnseen(change) => change.fmt(f),
            Self::LongChain { points, limit } => write!(
                f,
                "the chain has {points} restore points now; a restore reads all of them. At {limit} it is archived and a new one \
                 begins (ACCUMULATE_HARD_LIMIT)"
            ),
        }
    }
}

impl Serialize for Note {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What one run will do to one domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    Skip,
    /// Every disk, as a chain's first point.
    Full {
        /// The folder's chain or copy goes to the archive.
        archive: bool,
    },
    /// What changed since the last point.
    Incremental {
        #[serde(with = "as_text")]
        parent: CheckpointName,
        #[serde(with = "as_text")]
        name: CheckpointName,
    },
    /// Every disk, of a domain that is shut off, or of which no disk keeps dirty bitmaps.
    Copy {
        /// The folder's chain or copy goes to the archive.
        archive: bool,
    },
    /// Nothing, and somebody must look.
    Refuse(Refusal),
}

/// A name as its text.
mod as_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use vmstream::chain::CheckpointName;

    pub(super) fn serialize<S: Serializer>(name: &CheckpointName, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(name)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<CheckpointName, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A repair before the backup. Each may be repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Repair {
    /// libvirt gets a checkpoint back that it has lost; its bitmaps live.
    RedefineCheckpoint(String),
    /// The chain gets the XML of a checkpoint back; libvirt has it.
    WriteCheckpointXml(String),
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RedefineCheckpoint(name) => {
                write!(f, "libvirt gets checkpoint {name} back, which it had lost; its bitmaps are alive")
            }
            Self::WriteCheckpointXml(name) => {
                write!(f, "the chain gets checkpoints/{name}.xml back, which was lost")
            }
        }
    }
}

/// The decision, its reason, and what goes before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub decision: Decision,
    pub why: Why,
    /// The domain is shut off, and is started paused for it.
    pub start: bool,
    /// Checkpoints of ours that no chain needs any more; deleted before the backup.
    pub drop_checkpoints: Vec<String>,
    /// Repairs that let the chain go on, before the backup.
    pub repairs: Vec<Repair>,
    /// What deserves a look.
    pub notes: Vec<Note>,
}
