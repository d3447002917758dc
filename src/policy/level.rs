//! Which backup a domain gets, why, and what must be cleared away before it.
//!
//! | domain | chain on disk | libvirt | decision |
//! |---|---|---|---|
//! | any | any | a checkpoint that is not ours | refuse, name it |
//! | runs | none, or a copy | any of ours | full, old checkpoints go; a copy is archived |
//! | runs | chain | last checkpoint there, bitmaps sound | incremental |
//! | runs | chain | last checkpoint gone or broken | full, chain archived |
//! | runs | chain, a disk was resized or converted, or no disk goes on | any of ours | full, chain archived |
//! | shut off | copy, images as they were | any of ours | skip |
//! | shut off | otherwise | any of ours | copy; what is there is archived |

use std::fmt;

use serde::Serialize;
use vmstream::chain::CheckpointName;

/// Where a checkpoint that libvirt knows comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The chain in the current folder: same name, same creation time.
    Chain(CheckpointName),
    /// An older chain of this domain, in an archive or another period.
    OlderChain,
    /// Nobody we know.
    Foreign,
}

/// A checkpoint that libvirt knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointSeen {
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// What the current folder holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainSeen {
    /// Checkpoints of the chain, oldest first.
    pub points: Vec<CheckpointName>,
    /// There are files of a chain or copy, so they are in the way of a new full.
    pub has_files: bool,
    /// It is a copy of a domain that was shut off.
    pub is_copy: bool,
    /// What makes it impossible to go on with, if anything.
    pub broken: Option<String>,
}

/// A disk that is to be backed up as a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSeen {
    /// Disk target.
    pub target: String,
    /// Bytes of the disk now.
    pub size: u64,
    /// The last checkpoint has a bitmap for it.
    pub has_bitmap: bool,
    /// Bytes of the disk at its newest stream in the chain.
    pub size_in_chain: Option<u64>,
    /// The chain has it as a raw image, from before it was converted.
    pub raw_in_chain: bool,
}

/// What the images of a domain that is shut off tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfflineSeen {
    /// As they were when the last copy was taken.
    Unchanged,
    /// Changed, or nothing to compare with.
    Changed,
}

/// Everything a decision rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// A QEMU process has the disks open.
    pub active: bool,
    /// The current folder.
    pub chain: ChainSeen,
    /// What libvirt knows.
    pub checkpoints: Vec<CheckpointSeen>,
    /// Why the last checkpoint's bitmaps cannot be used; `None` when they are sound (or nobody asked).
    pub bitmap_fault: Option<String>,
    /// The disks that become streams.
    pub disks: Vec<DiskSeen>,
    /// For a domain that is shut off.
    pub offline: OfflineSeen,
}

/// Why this level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Why {
    /// First backup in this folder.
    NoChain,
    /// The chain goes on.
    ChainContinues,
    /// The folder holds a copy made while the domain was shut off.
    AfterCopy,
    /// libvirt no longer has the checkpoint.
    CheckpointLost(String),
    /// The checkpoint is there, its bitmaps are not usable.
    BitmapLost(String),
    /// The chain on disk cannot be continued.
    ChainBroken(String),
    /// A disk has another size than in the chain. virtnbdrestore before 2.29 gives every point the size of the first
    /// one, and drops what does not fit without an error: such a chain would not be exact under every reader.
    DiskResized(String),
    /// A disk was raw when the chain began, and its image beside the streams would be taken for one of them.
    DiskConverted(String),
    /// None of the disks of the last point is part of this one.
    OtherDisks,
    /// The domain is shut off.
    ShutOff,
    /// Shut off, and nothing changed since the last copy.
    Unchanged,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoChain => write!(f, "no chain in this period yet"),
            Self::ChainContinues => write!(f, "the chain continues"),
            Self::AfterCopy => write!(f, "the last backup is a copy made while the VM was shut off"),
            Self::CheckpointLost(name) => write!(f, "libvirt no longer has checkpoint {name}"),
            Self::BitmapLost(message) => write!(f, "a dirty bitmap is lost ({message})"),
            Self::ChainBroken(message) => write!(f, "the chain cannot be continued: {message}"),
            Self::DiskResized(target) => write!(f, "disk {target} was resized"),
            Self::DiskConverted(target) => write!(f, "disk {target} was converted from raw"),
            Self::OtherDisks => write!(f, "none of the chain's disks is there any more"),
            Self::ShutOff => write!(f, "the VM is shut off"),
            Self::Unchanged => write!(f, "shut off and unchanged since the last copy"),
        }
    }
}

/// Why nothing can be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Refusal {
    /// Checkpoints that are not ours are in the way.
    ForeignCheckpoints(Vec<String>),
}

/// What one run will do to one domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Decision {
    /// Nothing.
    Skip,
    /// Every disk, as a chain's first point.
    Full {
        /// The folder's chain or copy goes to the archive.
        archive: bool,
    },
    /// What changed since the last point.
    Incremental {
        /// The last point.
        #[serde(serialize_with = "as_text")]
        parent: CheckpointName,
        /// The new one.
        #[serde(serialize_with = "as_text")]
        name: CheckpointName,
    },
    /// Every disk of a domain that is shut off.
    Copy {
        /// The folder's chain or copy goes to the archive.
        archive: bool,
    },
    /// Nothing, and somebody must look.
    Refuse(Refusal),
}

fn as_text<S: serde::Serializer>(name: &CheckpointName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}

/// The decision, its reason, and what goes before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What to do.
    pub decision: Decision,
    /// Why.
    pub why: Why,
    /// Checkpoints of ours that no chain needs any more; deleted before the backup.
    pub drop_checkpoints: Vec<String>,
}

/// Chooses what a domain gets.
pub fn plan_backup(seen: &Seen) -> Plan {
    let foreign: Vec<String> =
        seen.checkpoints.iter().filter(|c| c.origin == Origin::Foreign).map(|c| c.name.clone()).collect();
    if seen.active && !foreign.is_empty() {
        let decision = Decision::Refuse(Refusal::ForeignCheckpoints(foreign));
        return Plan { decision, why: Why::ChainContinues, drop_checkpoints: vec![] };
    }
    if !seen.active {
        return plan_offline(seen);
    }
    match continue_from(seen) {
        Ok((parent, name)) => {
            let older = |c: &&CheckpointSeen| c.origin == Origin::OlderChain;
            let drop_checkpoints = seen.checkpoints.iter().filter(older).map(|c| c.name.clone()).collect();
            let decision = Decision::Incremental { parent, name };
            Plan { decision, why: Why::ChainContinues, drop_checkpoints }
        }
        Err(why) => Plan {
            decision: Decision::Full { archive: seen.chain.has_files },
            why,
            drop_checkpoints: seen.checkpoints.iter().map(|c| c.name.clone()).collect(),
        },
    }
}

/// The last point and the next name, or why the chain cannot go on.
fn continue_from(seen: &Seen) -> Result<(CheckpointName, CheckpointName), Why> {
    let chain = &seen.chain;
    if chain.is_copy {
        return Err(Why::AfterCopy);
    }
    if let Some(message) = &chain.broken {
        return Err(Why::ChainBroken(message.clone()));
    }
    let Some(&parent) = chain.points.last() else { return Err(Why::NoChain) };
    if !seen.checkpoints.iter().any(|c| c.origin == Origin::Chain(parent)) {
        return Err(Why::CheckpointLost(parent.to_string()));
    }
    if let Some(message) = &seen.bitmap_fault {
        return Err(Why::BitmapLost(message.clone()));
    }
    if let Some(disk) = seen.disks.iter().find(|d| d.size_in_chain.is_some_and(|before| d.size != before)) {
        return Err(Why::DiskResized(disk.target.clone()));
    }
    if let Some(disk) = seen.disks.iter().find(|d| d.raw_in_chain) {
        return Err(Why::DiskConverted(disk.target.clone()));
    }
    if !seen.disks.iter().any(|d| d.has_bitmap) {
        return Err(Why::OtherDisks);
    }
    let name =
        parent.next().ok_or_else(|| Why::ChainBroken("it has no room for one more point".to_owned()))?;
    Ok((parent, name))
}

fn plan_offline(seen: &Seen) -> Plan {
    let unchanged =
        seen.chain.is_copy && seen.chain.broken.is_none() && seen.offline == OfflineSeen::Unchanged;
    let (decision, why) = if unchanged {
        (Decision::Skip, Why::Unchanged)
    } else {
        (Decision::Copy { archive: seen.chain.has_files }, Why::ShutOff)
    };
    // Checkpoints stay: libvirt cannot remove their bitmaps now, and the next run while the domain is up can.
    Plan { decision, why, drop_checkpoints: vec![] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cp(n: u32) -> CheckpointName {
        CheckpointName::new(n)
    }

    fn known(n: u32) -> CheckpointSeen {
        CheckpointSeen { name: cp(n).to_string(), origin: Origin::Chain(cp(n)) }
    }

    /// A running domain with a chain of two points, all well.
    fn healthy() -> Seen {
        Seen {
            active: true,
            chain: ChainSeen { points: vec![cp(0), cp(1)], has_files: true, ..ChainSeen::default() },
            checkpoints: vec![known(0), known(1)],
            bitmap_fault: None,
            disks: vec![DiskSeen {
                target: "vda".into(),
                size: 10,
                has_bitmap: true,
                size_in_chain: Some(10),
                raw_in_chain: false,
            }],
            offline: OfflineSeen::Changed,
        }
    }

    #[test]
    fn each_row_of_the_table() {
        let full = |archive| Decision::Full { archive };
        let copy_on_disk = ChainSeen { is_copy: true, has_files: true, ..ChainSeen::default() };
        let edit = |change: &dyn Fn(&mut Seen)| {
            let mut seen = healthy();
            change(&mut seen);
            seen
        };
        let all = vec![cp(0).to_string(), cp(1).to_string()];
        let incremental = Decision::Incremental { parent: cp(1), name: cp(2) };
        let cases: Vec<(&str, Seen, Decision, Why, Vec<String>)> = vec![
            ("goes on", healthy(), incremental.clone(), Why::ChainContinues, vec![]),
            (
                "first",
                edit(&|s| {
                    s.chain = ChainSeen::default();
                    s.checkpoints.clear();
                }),
                full(false),
                Why::NoChain,
                vec![],
            ),
            (
                "new period",
                edit(&|s| {
                    s.chain = ChainSeen::default();
                    for c in &mut s.checkpoints {
                        c.origin = Origin::OlderChain;
                    }
                }),
                full(false),
                Why::NoChain,
                all.clone(),
            ),
            (
                "after a copy",
                edit(&|s| s.chain = copy_on_disk.clone()),
                full(true),
                Why::AfterCopy,
                all.clone(),
            ),
            (
                "checkpoint lost",
                edit(&|s| {
                    s.checkpoints.pop();
                }),
                full(true),
                Why::CheckpointLost(cp(1).to_string()),
                vec![cp(0).to_string()],
            ),
            (
                "bitmap lost",
                edit(&|s| s.bitmap_fault = Some("x".into())),
                full(true),
                Why::BitmapLost("x".into()),
                all.clone(),
            ),
            (
                "chain broken",
                edit(&|s| s.chain.broken = Some("x".into())),
                full(true),
                Why::ChainBroken("x".into()),
                all.clone(),
            ),
            (
                "disk shrank",
                edit(&|s| s.disks[0].size = 9),
                full(true),
                Why::DiskResized("vda".into()),
                all.clone(),
            ),
            (
                "disk grew",
                edit(&|s| s.disks[0].size = 11),
                full(true),
                Why::DiskResized("vda".into()),
                all.clone(),
            ),
            (
                "disk added",
                edit(&|s| {
                    s.disks.push(DiskSeen {
                        target: "vdb".into(),
                        size: 1,
                        has_bitmap: false,
                        size_in_chain: None,
                        raw_in_chain: false,
                    })
                }),
                incremental,
                Why::ChainContinues,
                vec![],
            ),
            (
                "disk converted",
                edit(&|s| s.disks[0].raw_in_chain = true),
                full(true),
                Why::DiskConverted("vda".into()),
                all.clone(),
            ),
            (
                "all disks replaced",
                edit(&|s| s.disks[0].has_bitmap = false),
                full(true),
                Why::OtherDisks,
                all.clone(),
            ),
            ("shut off", edit(&|s| s.active = false), Decision::Copy { archive: true }, Why::ShutOff, vec![]),
            (
                "shut off, copied before",
                edit(&|s| {
                    s.active = false;
                    s.chain = copy_on_disk.clone();
                    s.offline = OfflineSeen::Unchanged;
                }),
                Decision::Skip,
                Why::Unchanged,
                vec![],
            ),
            (
                "shut off, changed",
                edit(&|s| {
                    s.active = false;
                    s.chain = copy_on_disk.clone();
                }),
                Decision::Copy { archive: true },
                Why::ShutOff,
                vec![],
            ),
        ];
        for (name, seen, decision, why, drop_checkpoints) in cases {
            assert_eq!(plan_backup(&seen), Plan { decision, why, drop_checkpoints }, "{name}");
        }
    }

    #[test]
    fn a_foreign_checkpoint_is_never_touched() {
        for name in ["mine", "virtnbdbackup.2"] {
            let mut seen = healthy();
            seen.checkpoints.push(CheckpointSeen { name: name.into(), origin: Origin::Foreign });
            let plan = plan_backup(&seen);
            assert_eq!(plan.decision, Decision::Refuse(Refusal::ForeignCheckpoints(vec![name.into()])));
            assert!(plan.drop_checkpoints.is_empty());
        }
    }
}
