//! Why a domain's backup failed, and what follows from it.

use std::io;
use std::path::{Path, PathBuf};

use crate::engine::VmTarget;
use crate::engine::cancel::StopReason;
use crate::engine::claims::ClaimError;
use crate::engine::claims::guard::GuardError;
use crate::engine::claims::journal::JournalError;
use crate::engine::claims::other_job::OtherJob;
use crate::engine::commit::CommitError;
use crate::engine::copy::{CopyError, Trip};
use crate::engine::failure::{Changed, FileError};
use crate::engine::image::ImageError;
use crate::engine::image::qemu_img::{self, QemuImgError};
use crate::engine::look::LookError;
use crate::engine::plan::NoDisks;
use crate::engine::snapshot::SnapshotError;
use vmhost::libvirt::{ErrorKind, LibvirtError, Said};
use vmhost::nbd::NbdError;
use vmplan::{Refusal, Why};
use vmreport::{NextStep, Trouble};
use vmstore::LockError;
use vmstore::remove::FolderError;

/// Why a domain's backup failed. The text says what happened to what, why, and what helps.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A libvirt call failed.
    #[error("{0}")]
    Libvirt(#[from] LibvirtError),
    /// The moment of the point could not be had.
    #[error(transparent)]
    Snapshot(SnapshotError),
    /// A disk could not be copied.
    #[error("{0}")]
    Copy(#[from] CopyError),
    /// The journal could not be kept.
    #[error("{0}")]
    Journal(#[from] JournalError),
    /// No guard, no backup.
    #[error("{0}")]
    Guard(#[from] GuardError),
    /// The domain could not be looked at, or may not be backed up as it is.
    #[error(transparent)]
    Look(LookError),
    /// An image could not be read.
    #[error(transparent)]
    Image(ImageError),
    /// Another run has the domain.
    #[error("{0}")]
    Lock(#[from] LockError),
    #[error("{0}")]
    Stopped(#[from] StopReason),
    /// Checkpoints that are not ours.
    #[error(
        "Domain {domain} has checkpoints that this backup did not make: {}. They belong to another backup program or \
         instance and are left alone. Look at them: virsh checkpoint-list '{domain}'; if nobody needs them: {}",
        names.join(", "),
        delete_commands(domain, names)
    )]
    ForeignCheckpoints { domain: String, names: Vec<String> },
    /// Chain and checkpoints do not fit, and repairs are switched off.
    #[error(
        "VM {domain} is not backed up: {why}. ENABLE_AUTO_RECOVERY_ON_CHECKPOINT_CORRUPTION is not yes, so nothing was changed. Look: \
         virsh checkpoint-list '{domain}'; vmstream verify '{}'. With yes, the next run moves the chain to the archive as it is \
         and begins a new one", dir.display()
    )]
    RecoveryOff {
        domain: String,
        /// What does not fit.
        why: Why,
        dir: PathBuf,
    },
    /// A job that is not ours.
    #[error("Domain {domain} already has a job running: {}", job.of_domain(domain))]
    JobRunning { domain: String, job: OtherJob },
    /// Nothing to back up.
    #[error(transparent)]
    NoDisks(#[from] NoDisks),
    /// Too little space in the target.
    #[error(
        "Too little space in {}: about {needed} needed and {reserve} kept in reserve, {free} free. Free some space, or lower \
         TARGET_RESERVE_PERCENT and TARGET_RESERVE_GIB", dir.display()
    )]
    TargetSpace {
        /// Where the backup would go.
        dir: PathBuf,
        /// Forecast.
        needed: String,
        reserve: String,
        free: String,
    },
    /// A folder that would be written to is a link.
    #[error(
        "{} is a link to {}, and a run that died could not be undone through it, so nothing was backed up. {}",
        link.display(), to.display(), instead_of_link(link, to, *is_vm_dir)
    )]
    Link {
        /// The VM's folder, or its period's.
        link: PathBuf,
        /// What it leads to.
        to: PathBuf,
        /// It is the VM's folder.
        is_vm_dir: bool,
    },
    /// Something is mounted on the way to what would be written, or in it.
    #[error(
        "A file system is mounted at {}, below the folder of the VM, and a run that died could not be undone across it, so \
         nothing was backed up. Unmount it, and put what it holds into the folder itself. A file system for this VM alone may be \
         mounted at {}", point.display(), vm_dir.display()
    )]
    Mount { point: PathBuf, vm_dir: PathBuf },
    /// The chain that is in the way cannot go to its archive.
    #[error(
        "The chain in {} would go to the archive, and {} is {}. Archived files get a second name, which leads to no other file \
         system, so nothing was read. {}",
        dir.display(), archives.display(), elsewhere(link.as_deref()), archive_here(archives, link.as_deref())
    )]
    ArchivesElsewhere {
        /// The chain's folder.
        dir: PathBuf,
        archives: PathBuf,
        /// Where the link in its place leads. `None` when another file system is mounted there.
        link: Option<PathBuf>,
    },
    /// What undoing needs is not there.
    #[error("A run that died could not be undone, so nothing was backed up. {0}")]
    NoUndo(FolderError),
    /// A file or directory could not be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The domain stopped, started or lost its job meanwhile.
    #[error(transparent)]
    Changed(#[from] Changed),
    /// Leftovers of a dead run of another host.
    #[error(
        "VM {domain}: a run on another host, or with another LIBVIRT_URI ({uri}), ended in the middle (journal {}). Only a run \
         there can undo it: start one. If that host is no more: vmbackup --init gives its journals up", file.display()
    )]
    OtherHost { domain: String, uri: String, file: PathBuf },
    /// Something in the program itself went wrong.
    #[error("the program failed in itself, which is a bug: {message}. The backup was undone")]
    Panicked {
        /// What the panic said.
        message: String,
    },
    /// Leftovers of a dead run could not be undone.
    #[error("Domain {domain}: an earlier run ended in the middle, and what it left cannot be undone yet: {}", failed.join("; "))]
    Recovery { domain: String, failed: Vec<String> },
    /// The backup failed, and not all of it could be undone.
    #[error("{error}. Not everything could be undone; the next run tries again: {}", failed.join("; "))]
    LeftBehind {
        /// Why the backup failed.
        error: Box<BackupError>,
        /// What could not be undone.
        failed: Vec<String>,
    },
}

fn delete_commands(domain: &str, names: &[String]) -> String {
    let command = |name: &String| format!("virsh checkpoint-delete '{domain}' '{name}'");
    names.iter().map(command).collect::<Vec<_>>().join("; ")
}

// A cause that several rooms can meet stands in one place, whichever met it.

impl From<LookError> for BackupError {
    fn from(error: LookError) -> Self {
        match error {
            LookError::Libvirt(error) => Self::Libvirt(error),
            LookError::Image(error) => error.into(),
            LookError::Changed(changed) => Self::Changed(changed),
            LookError::File(error) => Self::File(error),
            LookError::Stopped(reason) => Self::Stopped(reason),
            own => Self::Look(own),
        }
    }
}

impl From<ClaimError> for BackupError {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Journal(error) => Self::Journal(error),
            ClaimError::Guard(error) => Self::Guard(error),
        }
    }
}

impl From<SnapshotError> for BackupError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Libvirt(error) => Self::Libvirt(error),
            SnapshotError::Claim(error) => error.into(),
            SnapshotError::QemuImg(error) => Self::Image(error.into()),
            SnapshotError::File(error) => Self::File(error),
            SnapshotError::Stopped(reason) => Self::Stopped(reason),
            own => Self::Snapshot(own),
        }
    }
}

impl From<CommitError> for BackupError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Libvirt(error) => Self::Libvirt(error),
            CommitError::Changed(changed) => Self::Changed(changed),
            CommitError::File(error) => Self::File(error),
        }
    }
}

impl From<ImageError> for BackupError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::File(error) => Self::File(error),
            ImageError::Stopped(reason) => Self::Stopped(reason),
            own => Self::Image(own),
        }
    }
}

impl BackupError {
    /// What helps. A full is larger than an increment, so it is the answer only where it cures the cause: not to an I/O
    /// error, and never to a lack of space.
    pub fn next_step(&self) -> NextStep {
        use NextStep::{GiveUp, TryAgain, TryFull};
        match self {
            Self::Libvirt(e) | Self::Snapshot(SnapshotError::Pause(e)) => match e.kind {
                ErrorKind::CheckpointInconsistent | ErrorKind::NoCheckpoint => TryFull,
                _ if e.said() != Said::Other => TryFull,
                _ => TryAgain,
            },
            // One wait is enough.
            Self::Image(ImageError::QemuImg(QemuImgError::Hung { .. })) => GiveUp,
            // Nobody puts an image back meanwhile.
            Self::Image(ImageError::QemuImg(QemuImgError::Failed { message, .. }))
                if qemu_img::says_missing(message) =>
            {
                GiveUp
            }
            Self::Image(ImageError::QemuImg(_) | ImageError::QemuNbd { .. }) => TryAgain,
            Self::Look(LookError::ChainUnreadable { .. }) => TryAgain,
            Self::Copy(CopyError::Chain { .. } | CopyError::Tripped(_)) => TryFull,
            Self::Copy(CopyError::Read { source, .. }) => match **source {
                NbdError::NoContext { .. } => TryFull,
                _ => TryAgain,
            },
            Self::Copy(CopyError::Write { source, .. }) => match source.kind() {
                io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::ReadOnlyFilesystem => GiveUp,
                _ => TryAgain,
            },
            Self::Copy(CopyError::Stopped(_)) => GiveUp,
            // What was given up after a long wait: one wait is enough.
            Self::Copy(CopyError::StalledWrite { .. }) => GiveUp,
            Self::Copy(_) => TryAgain,
            Self::JobRunning { job, .. } if job.is_left_behind() => GiveUp,
            Self::JobRunning { .. } | Self::Changed(_) | Self::Recovery { .. } => TryAgain,
            Self::LeftBehind { error, .. } => error.next_step(),
            _ => GiveUp,
        }
    }

    /// The error of a backup that the plan refuses.
    pub(in crate::engine) fn refused(vm: &VmTarget, refusal: &Refusal, why: &Why) -> Self {
        let domain = vm.domain.name().to_owned();
        match refusal {
            Refusal::ForeignCheckpoints(names) => Self::ForeignCheckpoints { domain, names: names.clone() },
            Refusal::RecoveryOff => Self::RecoveryOff { domain, why: why.clone(), dir: vm.chain_dir.clone() },
        }
    }

    /// Where a disk was found to be not what the chain says.
    pub(in crate::engine) fn trip(&self) -> Option<&Trip> {
        match self {
            Self::Copy(CopyError::Tripped(trip)) => Some(trip),
            Self::LeftBehind { error, .. } => error.trip(),
            _ => None,
        }
    }

    /// What kind of trouble it is.
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Stopped(reason) | Self::Copy(CopyError::Stopped(reason)) => match reason {
                StopReason::Signal(number) => Trouble::Signal(*number),
                StopReason::ScratchFull { .. }
                | StopReason::ScratchHangs { .. }
                | StopReason::StoodStill { .. } => Trouble::Storage,
                _ => Trouble::Domain,
            },
            Self::Copy(CopyError::Write { .. } | CopyError::StalledWrite { .. })
            | Self::Journal(_)
            | Self::TargetSpace { .. }
            | Self::Link { .. }
            | Self::Mount { .. }
            | Self::ArchivesElsewhere { .. }
            | Self::NoUndo(_)
            | Self::Snapshot(SnapshotError::ScratchSpace { .. } | SnapshotError::Scratch { .. })
            | Self::Look(LookError::ChainUnreadable { .. })
            | Self::File(_) => Trouble::Storage,
            Self::Image(ImageError::QemuImg(QemuImgError::Failed { message, .. }))
                if qemu_img::says_missing(message) =>
            {
                Trouble::Domain
            }
            Self::Guard(_) | Self::Image(ImageError::QemuImg(_) | ImageError::QemuNbd { .. }) => {
                Trouble::Tool
            }
            Self::Lock(LockError::File { .. }) => Trouble::Storage,
            Self::Lock(_) => Trouble::Locked,
            Self::LeftBehind { error, .. } => error.trouble(),
            _ => Trouble::Domain,
        }
    }
}

fn elsewhere(link: Option<&Path>) -> String {
    link.map_or("on another file system".to_owned(), |to| format!("a link to {}", to.display()))
}

/// What to do about archives in another place.
fn archive_here(archives: &Path, link: Option<&Path>) -> String {
    let first = if link.is_some() { "Remove the link" } else { "Unmount it" };
    format!(
        "{first}: a new {} is made for this chain, and older chains stay where they are, or are moved into it by hand",
        archives.display()
    )
}

/// What to do about a link in the place of a folder.
fn instead_of_link(link: &Path, to: &Path, is_vm_dir: bool) -> String {
    if !is_vm_dir {
        return "Put the folder itself there".to_owned();
    }
    format!(
        "Put the folder itself there, or replace the link by an empty folder and mount the other one over it: \
         mount --bind '{}' '{}'",
        to.display(),
        link.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::claims::other_job::Owner;

    fn libvirt(kind: ErrorKind, message: &str) -> BackupError {
        LibvirtError { doing: "begin".into(), kind, message: message.into() }.into()
    }

    fn write(kind: io::ErrorKind) -> BackupError {
        CopyError::Write { path: "/b/x".into(), source: kind.into() }.into()
    }

    #[test]
    fn a_full_is_taken_only_where_it_cures_the_cause() {
        use NextStep::{GiveUp, TryAgain, TryFull};
        let domain = String::from("web");
        let left_behind = OtherJob::Backup { owner: Owner::Dead("x".into()) };
        let cases = [
            (libvirt(ErrorKind::CheckpointInconsistent, "x"), TryFull),
            (libvirt(ErrorKind::NoCheckpoint, "x"), TryFull),
            (libvirt(ErrorKind::Other(1), "Bitmap virtnbdbackup.1 not found"), TryFull),
            (libvirt(ErrorKind::ConnectionLost, "x"), TryAgain),
            (libvirt(ErrorKind::Busy, "x"), TryAgain),
            (CopyError::Chain { target: "vda".into(), message: "x".into() }.into(), TryFull),
            (CopyError::Tripped(Trip { target: "vda".into(), at: 0 }).into(), TryFull),
            (write(io::ErrorKind::StorageFull), GiveUp),
            (write(io::ErrorKind::QuotaExceeded), GiveUp),
            (write(io::ErrorKind::Other), TryAgain),
            (CopyError::Stalled { target: "vda".into(), seconds: 1 }.into(), TryAgain),
            (BackupError::Stopped(StopReason::Signal(15)), GiveUp),
            (BackupError::JobRunning { domain: domain.clone(), job: OtherJob::Other }, TryAgain),
            (BackupError::JobRunning { domain: domain.clone(), job: left_behind }, GiveUp),
            (Changed { domain: domain.clone(), what: "x".into() }.into(), TryAgain),
            (BackupError::ForeignCheckpoints { domain: domain.clone(), names: vec![] }, GiveUp),
            (NoDisks { domain: domain.clone(), reasons: "x".into() }.into(), GiveUp),
            (BackupError::Panicked { message: "x".into() }, GiveUp),
            (
                BackupError::LeftBehind {
                    error: Box::new(write(io::ErrorKind::StorageFull)),
                    failed: vec![],
                },
                GiveUp,
            ),
        ];
        for (error, want) in cases {
            assert_eq!(error.next_step(), want, "{error}");
        }
    }
}
