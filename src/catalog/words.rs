//! The words that the database uses, as types.
//!
//! Most are those that the Bash version writes: people's queries ask for them. Where its vocabulary cannot say what
//! is true, there are words of ours, after theirs.

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};

/// Declares an enum with the word that stands for each value.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $value:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $value,)+ }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$value),+];

            /// The word in the database.
            pub fn word(self) -> &'static str {
                match self { $(Self::$value => $word),+ }
            }

            /// The value of a word. `None` for a word of somebody else.
            pub fn of_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.word() == word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }

        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.word().as_bytes())))
            }
        }
    };
}

words! {
    /// What a session was for.
    SessionKind {
        /// A run over all VMs.
        Standard = "standard",
        /// A run over VMs that were named.
        Targeted = "targeted",
        /// Only replication.
        ReplicateOnly = "replicate_only",
        /// Only deleting.
        Prune = "prune",
    }
}

words! {
    /// How a session ended.
    SessionStatus {
        /// It has not ended.
        Running = "running",
        /// Nothing failed.
        Success = "success",
        /// Some VMs failed, some were backed up.
        Partial = "partial",
        /// It could not do its work.
        Failed = "failed",
        /// Stopped from the keyboard, or its process died.
        Interrupted = "interrupted",
        /// Stopped by SIGTERM.
        Killed = "killed",
    }
}

impl SessionStatus {
    /// The status after VMs were backed up and VMs failed.
    pub fn of_counts(backed_up: usize, failed: usize) -> Self {
        match (backed_up, failed) {
            (_, 0) => Self::Success,
            (0, _) => Self::Failed,
            _ => Self::Partial,
        }
    }

    /// The status of a session that a signal stopped.
    pub fn of_signal(number: i32) -> Self {
        if number == rustix::process::Signal::TERM.as_raw() { Self::Killed } else { Self::Interrupted }
    }
}

words! {
    /// How the backup of one VM ended.
    VmStatus {
        /// There is a new restore point.
        Success = "success",
        /// There is none.
        Failed = "failed",
        /// None was needed, or somebody else is at it.
        Skipped = "skipped",
        /// The policy says never.
        Excluded = "excluded",
    }
}

words! {
    /// What was taken, or being done when it failed.
    BackupType {
        /// Everything: the beginning of a chain, or a copy of a VM that is shut off.
        Full = "full",
        /// What changed.
        Incremental = "auto",
        /// Nothing: the VM is shut off and unchanged.
        Unchanged = "none",
        /// Nothing: it did not come to that.
        NotApplicable = "n/a",
        /// Moving the previous chain away.
        Archive = "archive",
        /// Repairing what was found.
        Recovery = "recovery",
    }
}

words! {
    /// How the guest was kept still.
    BackupMethod {
        /// Its agent froze the file systems.
        Agent = "agent",
        /// Its CPUs were paused.
        Paused = "paused",
        /// It was shut off.
        Offline = "offline",
        /// In no way, or by somebody else.
        Unknown = "unknown",
        /// Not at all: the policy says never.
        Excluded = "excluded",
    }
}

words! {
    /// The kind of result of one VM.
    VmEvent {
        /// There is a new restore point.
        Completed = "backup_completed",
        /// It failed.
        Failed = "backup_failed",
        /// It was not needed, or not possible now.
        Skipped = "backup_skipped",
        /// The policy says never.
        Excluded = "vm_excluded",
    }
}

words! {
    /// Why the backup of one VM failed, for programs. The message is for people.
    ErrorCode {
        /// Checkpoints or bitmaps that the chain needs are gone.
        CheckpointStale = "CHECKPOINT_STALE",
        /// Checkpoints are damaged and the settings forbid a repair.
        CheckpointBroken = "CHECKPOINT_BROKEN",
        /// A folder could not be made or cleared.
        DirectoryFailed = "DIRECTORY_PREP_FAILED",
        /// The guest could not be paused.
        PauseFailed = "PAUSE_FAILED",
        /// The chain of the previous policy could not be moved away. The Bash version's: ours stays where it is.
        PolicyArchiveFailed = "POLICY_CHANGE_ARCHIVE_FAILED",
        /// Something else; the message tells.
        BackupFailed = "BACKUP_FAILED",
        /// The VM has checkpoints of another program.
        ForeignCheckpoints = "FOREIGN_CHECKPOINTS",
        /// Target or scratch space is short, or cannot be written.
        Storage = "STORAGE",
        /// libvirt or QEMU failed or did not answer.
        Hypervisor = "HYPERVISOR",
        /// A tool is missing or failed.
        Tool = "TOOL",
        /// The VM's name cannot have a folder.
        FolderName = "FOLDER_NAME",
        /// Somebody stopped the run.
        Stopped = "STOPPED",
    }
}

words! {
    /// What happened to one disk.
    DiskResult {
        /// It was copied.
        Copied = "copied",
        /// It was left out.
        LeftOut = "left_out",
    }
}

words! {
    /// What is known of the chain of a period.
    ChainStatus {
        /// It can go on.
        Active = "active",
        /// It was moved away.
        Archived = "archived",
        /// Not all of it can be restored.
        Broken = "broken",
        /// Retention deleted it.
        Deleted = "deleted",
        /// Somebody deleted it by hand.
        Purged = "purged",
    }
}

words! {
    /// Who deleted.
    Remover {
        /// Retention of the current policy.
        Retention = "retention",
        /// A person, with `--prune`.
        Prune = "prune",
        /// Retention of what an earlier policy left.
        OrphanRetention = "orphan_retention",
    }
}

words! {
    /// What happened to a chain.
    ChainEventKind {
        /// It began.
        Created = "chain_created",
        /// It was moved away, or its period is over.
        Archived = "chain_archived",
        /// It was found broken.
        Broken = "chain_broken",
        /// Retention deleted it.
        Deleted = "chain_deleted",
        /// Somebody deleted it by hand.
        Purged = "chain_purged",
    }
}

words! {
    /// Why a chain went to the archive.
    ArchiveReason {
        /// The VM has another rotation policy now.
        PolicyChange = "policy_change",
        /// Its period is over.
        PeriodBoundary = "period_boundary",
        /// libvirt no longer has its last checkpoint.
        CheckpointLost = "checkpoint_lost",
        /// A dirty bitmap is gone or not usable.
        BitmapLost = "bitmap_lost",
        /// Its files cannot be continued.
        ChainBroken = "broken_chain",
        /// A disk has another size.
        DiskResized = "disk_resized",
        /// Other disks, or disks of another format.
        DisksChanged = "disks_changed",
        /// An image was replaced underneath.
        DiskReplaced = "disk_replaced",
        /// A disk changed and nothing said so.
        ChangedUnseen = "changed_unseen",
        /// Another VM has the name now.
        OtherDomain = "other_domain",
        /// A copy of the shut-off VM was in the way of a chain.
        CopyReplaced = "copy_backup",
        /// The VM was shut off and has changed.
        OfflineChange = "offline_change",
        /// It reached the limit of an accumulating chain.
        AccumulateLimit = "accumulate_limit",
        /// The settings ask for a full backup.
        ForcedFull = "forced_full",
        /// A new attempt after one that failed.
        Retry = "retry",
    }
}

words! {
    /// Which part of a run moved a chain to the archive.
    ArchiveTrigger {
        /// A change of policy.
        PolicyChange = "policy_change",
        /// The beginning of a period.
        PeriodRotation = "period_rotation",
        /// A new chain in the same folder.
        NewChain = "archive_existing_checkpoint_chain",
    }
}

words! {
    /// What happened to a setting.
    ConfigEventKind {
        /// It was read.
        Loaded = "config_loaded",
        /// It differs from the last session's.
        Changed = "config_changed",
        /// It is gone.
        Removed = "config_removed",
        /// A VM's rotation policy differs from the last backup's.
        PolicyChange = "policy_change",
        /// A manifest was made anew.
        ManifestRebuilt = "manifest_rebuilt",
        /// The state folder was saved.
        StateBackup = "state_backup",
    }
}

words! {
    /// What was done to a file or folder.
    Operation {
        /// Made.
        Create = "create",
        /// Copied.
        Copy = "copy",
        /// Moved.
        Move = "move",
        /// Deleted.
        Delete = "delete",
    }
}

words! {
    /// What kind of file.
    FileType {
        /// `chain-manifest.json`.
        Manifest = "manifest",
        /// A VM's definition.
        ConfigXml = "config_xml",
        /// A folder with all it holds.
        Directory = "directory",
        /// The folder of a VM's TPM.
        TpmState = "tpm_state",
        /// A file of it.
        Tpm = "tpm",
        /// Saved disk content.
        Backup = "backup",
        /// A checkpoint's definition.
        CheckpointXml = "checkpoint_xml",
        /// The host's own configuration.
        HostConfig = "host_config",
    }
}

words! {
    /// What happened to a period.
    PeriodEventKind {
        /// It is over.
        Closed = "period_closed",
        /// It began.
        Created = "period_created",
        /// It was deleted.
        Deleted = "period_deleted",
    }
}

words! {
    /// What retention or prune did.
    RetentionAction {
        /// Deleted.
        Delete = "delete",
        /// Kept, for the reason given.
        Skip = "skip",
        /// Tried to delete, and failed.
        Error = "error",
    }
}

words! {
    /// What was to be deleted.
    RetentionTarget {
        /// A period of the current policy.
        Period = "period",
        /// A period of an earlier policy.
        OrphanPeriod = "orphan_period",
        /// A chain in an archive.
        ArchiveChain = "archive_chain",
    }
}

impl RetentionTarget {
    /// Which part deletes such a thing; users group by it.
    pub(super) fn remover_name(self) -> &'static str {
        match self {
            Self::Period => "_remove_period",
            Self::OrphanPeriod => "_remove_orphan_period",
            Self::ArchiveChain => "_remove_archive_chain",
        }
    }
}

words! {
    /// Why something was kept.
    PreserveReason {
        /// Somebody protected it.
        Protected = "protected",
        /// There is no other.
        LastPeriod = "last_period",
        /// It was never replicated.
        Unreplicated = "unreplicated",
        /// It is not where backups are.
        UnsafePath = "safety_check_failed",
        /// It could not be deleted.
        RemoveFailed = "rm_failed",
        /// Its data does not tell its age.
        UnknownAge = "unknown_age",
        /// A backup or restore is at work there.
        InUse = "in_use",
        /// Something that stays needs it.
        Needed = "needed",
    }
}

words! {
    /// Where a restore point's date comes from.
    DateSource {
        /// The checkpoint's creation time: an instant.
        Checkpoint = "checkpoint",
        /// The stream's own text: the host's local time, without its zone.
        Stream = "stream",
    }
}
