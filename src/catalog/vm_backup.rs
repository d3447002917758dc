//! Rows of `vm_backups` and, for each disk, of our `disk_backups`.

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Transaction, params};

use super::handle::Catalog;
use super::stamp::{Stamp, utc};
use super::words::words;
use vmconfig::value::RotationPolicy;

words! {
    /// How the backup of one VM ended.
    VmStatus {
        /// There is a new restore point.
        Success = "success",
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
        Copied = "copied",
        LeftOut = "left_out",
    }
}

/// In `error_code`, that the policy changed. Nothing failed because of it.
const POLICY_CHANGE: &str = "POLICY_CHANGE";

/// What a session did about one VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmBackup {
    /// Its name, as libvirt has it.
    pub vm: String,
    /// Its state as virsh names it: `running`, `shut off`. Empty when nobody asked.
    pub vm_state: String,
    /// Its operating system, as far as the agent tells; else empty.
    pub os: String,
    pub status: VmStatus,
    /// What was taken.
    pub backup_type: BackupType,
    /// How the guest was kept still.
    pub method: BackupMethod,
    pub policy: Option<RotationPolicy>,
    /// That of its last backup, where it was another.
    pub policy_before: Option<RotationPolicy>,
    /// Bytes of the files written by this backup.
    pub bytes_written: u64,
    /// Bytes of the chain's folder without its archives.
    pub chain_bytes: u64,
    /// Bytes of the folder with them.
    pub folder_bytes: u64,
    /// Restore points in the folder now.
    pub restore_points: u64,
    pub restore_points_before: u64,
    /// How long it took. The database has whole seconds.
    pub took: Duration,
    pub backup_path: Option<PathBuf>,
    /// The log of this VM alone.
    pub log_file: Option<PathBuf>,
    /// Why there is no backup: an error, or why it was not needed.
    pub failure: Option<Failure>,
    /// One line for people.
    pub detail: String,
    /// Attempts before the one that counts.
    pub retries: u32,
    /// Restore points that went to the archive with the previous chain.
    pub archived_points: u64,
    /// The guest's agent answered.
    pub agent: bool,
    /// The guest was paused by us.
    pub paused: bool,
    /// The previous chain was archived.
    pub chain_archived: bool,
    pub disks: Vec<DiskBackup>,
}

/// Why there is no backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For programs. `None` where nothing failed.
    pub code: Option<ErrorCode>,
    /// For people.
    pub message: String,
}

/// What happened to one disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskBackup {
    pub disk: String,
    /// Copied or not.
    pub result: DiskResult,
    /// Name of the file in the chain's folder.
    pub file: String,
    pub file_bytes: u64,
    /// Bytes of the disk that it holds.
    pub data_bytes: u64,
    /// Why it was left out.
    pub reason: String,
}

impl VmBackup {
    /// A row in which nothing but the end is known yet.
    pub fn new(vm: &str, status: VmStatus) -> Self {
        Self {
            vm: vm.to_owned(),
            vm_state: String::new(),
            os: String::new(),
            status,
            backup_type: BackupType::NotApplicable,
            method: if status == VmStatus::Excluded { BackupMethod::Excluded } else { BackupMethod::Unknown },
            policy: None,
            policy_before: None,
            bytes_written: 0,
            chain_bytes: 0,
            folder_bytes: 0,
            restore_points: 0,
            restore_points_before: 0,
            took: Duration::ZERO,
            backup_path: None,
            log_file: None,
            failure: None,
            detail: String::new(),
            retries: 0,
            archived_points: 0,
            agent: false,
            paused: false,
            chain_archived: false,
            disks: vec![],
        }
    }

    /// Code and message. A change of policy stands before what else there is to say.
    fn error(&self) -> (String, String) {
        let failure = self.failure.as_ref();
        let code = failure.and_then(|f| f.code).map_or("", ErrorCode::word);
        let message = failure.map_or("", |f| &f.message);
        let Some((before, now)) = self.policy_before.zip(self.policy) else {
            return (code.to_owned(), message.to_owned());
        };
        let join =
            |first: String, more: &str| if more.is_empty() { first } else { format!("{first}|{more}") };
        (join(POLICY_CHANGE.to_owned(), code), join(format!("policy_changed:{before}->{now}"), message))
    }

    fn event(&self) -> VmEvent {
        match self.status {
            VmStatus::Success => VmEvent::Completed,
            VmStatus::Failed => VmEvent::Failed,
            VmStatus::Skipped => VmEvent::Skipped,
            VmStatus::Excluded => VmEvent::Excluded,
        }
    }
}

impl Catalog {
    /// Writes what a session did about one VM. Nothing is written for a session without a row.
    pub fn vm_backup(&self, by: Stamp, row: &VmBackup) {
        let Some(session) = by.session else { return };
        let text = |path: &Option<PathBuf>| {
            path.as_ref().map_or(String::new(), |path| path.to_string_lossy().into_owned())
        };
        let (code, message) = row.error();
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO vm_backups (session_id, vm_name, vm_status, os_type, backup_type, backup_method,
                     rotation_policy, status, bytes_written, chain_size_bytes, total_dir_bytes, restore_points,
                     restore_points_before, duration_sec, backup_path, log_file, error_code, error_message,
                     event_type, event_detail, retry_attempt, archived_restore_points, qemu_agent, vm_paused,
                     chain_archived, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
                     ?20, ?21, ?22, ?23, ?24, ?25, ?26)",
                params![
                    session,
                    row.vm,
                    row.vm_state,
                    row.os,
                    row.backup_type,
                    row.method,
                    row.policy.map_or("", RotationPolicy::as_str),
                    row.status,
                    integer(row.bytes_written),
                    integer(row.chain_bytes),
                    integer(row.folder_bytes),
                    integer(row.restore_points),
                    integer(row.restore_points_before),
                    integer(row.took.as_secs()),
                    text(&row.backup_path),
                    text(&row.log_file),
                    code,
                    message,
                    row.event(),
                    row.detail,
                    row.retries,
                    integer(row.archived_points),
                    row.agent,
                    row.paused,
                    row.chain_archived,
                    utc(by.at),
                ],
            )?;
            let backup = transaction.last_insert_rowid();
            row.disks.iter().try_for_each(|disk| insert_disk(transaction, backup, disk))
        });
    }
}

fn insert_disk(transaction: &Transaction<'_>, backup: i64, row: &DiskBackup) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO disk_backups (vm_backup_id, disk, result, file, file_bytes, data_bytes, reason)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let (file_bytes, data_bytes) = (integer(row.file_bytes), integer(row.data_bytes));
    insert.execute(params![backup, row.disk, row.result, row.file, file_bytes, data_bytes, row.reason])?;
    Ok(())
}

/// A count as SQLite has it.
pub(super) fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
