//! The table of keys: every setting with its type, default, unit and explanation.
//!
//! To add a key, add one entry here and write the sample files anew (see `sample`). Keys of type `Text` are
//! known but not checked yet: the part that comes to use one gives it a type of its own.

use std::collections::BTreeMap;

use super::keys::{Key, Marks, settings_table};
use super::value::{
    AutoRecovery, CompressLevel, CompressionChoice, CompressionMethod, Consistency, Directory, DiskTargets,
    Gibibytes, IoClass, LibvirtUri, LogFormat, LogLevel, MaxAge, Mebibytes, MountPoints, Niceness, Number,
    OfflineMode, OptionalNumber, Percent, Periods, ReplicaRule, ReplicationOrder, RotationPolicy, Seconds,
    StateDirectory, Switch, Text, TpmMethod, Value,
};

settings_table! {
section "Where backups go" {
    /// Directory that holds all backups of this instance. Must be set. Keep it on one line, in quotes and
    /// without variables: restore scripts look for that line.
    "BACKUP_PATH" backup_path: Directory = "", "", ENV_SHIPPED;
    /// A backup does not begin when less than this share of the target's file system would stay free after it.
    /// The smaller of this and the next setting counts.
    "TARGET_RESERVE_PERCENT" target_reserve_percent: Percent = "20", "percent", PLAIN;
    /// The same as a fixed amount, for large file systems.
    "TARGET_RESERVE_GIB" target_reserve: Gibibytes<0, 1048576> = "10", "GiB", PLAIN;
}
section "How backups run" {
    /// Address of the libvirt daemon, which must be this host's.
    "LIBVIRT_URI" libvirt_uri: LibvirtUri = "qemu:///system", "", PLAIN;
    /// How many virtual machines are backed up at the same time.
    "PARALLEL_VMS" parallel_vms: Number<1, 64> = "2", "", PLAIN;
    /// How the saved data is compressed: lz4, zstd, none, or auto, which is lz4 and compresses harder only while
    /// the processors would otherwise wait for disks. zstd is smaller, but virtnbdrestore cannot restore it:
    /// vmstream can. A change from or to zstd begins a new chain.
    "COMPRESSION" compression_method: CompressionMethod = "auto", "", PLAIN;
    /// How hard, for lz4 (1 to 12, otherwise 1) and zstd (1 to 19, otherwise 3). More is smaller and slower.
    "COMPRESSION_LEVEL" compression_level: OptionalNumber<1, 19> = "", "", PLAIN;
    /// Older way to choose lz4 with this level, when COMPRESSION is not set: 1 is fastest, 16 smallest. 0 does not
    /// switch compression off: it is read as 1, with a warning.
    "VIRTNBD_COMPRESS_LEVEL" old_compress_level: CompressLevel = "", "", ENV;
    /// Disks to leave out, in all virtual machines, by their target name: vda,vdb
    "VIRTNBD_EXCLUDE_DISKS" exclude_disks: DiskTargets = "", "", ENV;
    /// Save only these disks, in all virtual machines, by their target name. Empty means all.
    "VIRTNBD_INCLUDE_DISKS" include_disks: DiskTargets = "", "", ENV;
    /// Also save disks in raw format, as plain images. They cannot keep a record of changes, so they are read whole
    /// with every full backup and are not part of the increments.
    "BACKUP_RAW_DISKS" backup_raw_disks: Switch = "false", "", PLAIN;
    /// How a guest that runs is held still for the moment of the snapshot: auto freezes its file systems through the
    /// guest agent where one answers and pauses it otherwise; freeze never pauses it; pause never asks the agent;
    /// none does neither, and the backup is as after a power cut. Single machines: VM_CONSISTENCY.
    "CONSISTENCY" consistency: Consistency = "auto", "", PLAIN;
    /// How long a guest may take to freeze its file systems before the backup goes on without.
    "FREEZE_TIMEOUT" freeze_timeout: Seconds<1, 600> = "10", "seconds", PLAIN;
    /// Not used: all disks are read at once, and all processors compress for all of them. Kept so that older files load.
    "VIRTNBD_WORKERS" workers: Text = "auto", "", UNUSED;
    /// Whether guests with an agent freeze their file systems for the moment of the snapshot; false pauses them.
    "VIRTNBD_FSFREEZE" fsfreeze: Switch = "true", "", ENV;
    /// Freeze only these mount points, separated by commas. Empty means all.
    "VIRTNBD_FSFREEZE_PATHS" fsfreeze_paths: MountPoints = "", "", ENV;
    /// Not used: there is no program to hand it to. Kept so that older files load.
    "VIRTNBD_THRESHOLD" threshold: Text = "", "", UNUSED;
    /// Not used: disks are saved as streams, and BACKUP_RAW_DISKS is for those in raw format. Kept so that older files
    /// load.
    "VIRTNBD_OUTPUT_FORMAT" output_format: Text = "stream", "", UNUSED;
    /// Not used: ranges that hold no data are never read. Kept so that older files load.
    "VIRTNBD_SPARSE_DETECTION" sparse_detection: Text = "true", "", UNUSED;
    /// How many times a failed backup is tried again.
    "MAX_RETRIES" max_retries: Number<0, 100> = "3", "", SHIPPED;
    /// Pause between two tries.
    "RETRY_DELAY" retry_delay: Seconds<0, 86400> = "30", "seconds", PLAIN;
    /// Not used: each step before the copy has a time limit of its own. Kept so that older files load.
    "BACKUP_STARTUP_GRACE" startup_grace: Text = "300", "seconds", UNUSED;
    /// A backup is ended when the copy of one of its disks makes no progress for so long. 0: never.
    "BACKUP_STALL_THRESHOLD" stall_threshold: Seconds<0, 4294967295> = "180", "seconds", PLAIN;
    /// Not used: progress is watched all the time. Kept so that older files load.
    "BACKUP_CHECK_INTERVAL" check_interval: Text = "30", "seconds", UNUSED;
    /// Not used: the sidecar of a restore point has checksums of all its files. Kept so that older files load.
    "FILE_OPS_CHECKSUMS" file_ops_checksums: Text = "false", "", UNUSED;
}
section "Scratch space" {
    /// Directory for data that a guest overwrites while its backup runs. Must exist and be writable.
    "VIRTNBD_SCRATCH_DIR" scratch_dir: Directory = "/var/tmp", "", PLAIN;
    /// A running backup is ended before less than this stays free in the scratch directory, so that the guest
    /// never sees an error. The smaller of this and the next setting counts, but never less than 128 MiB or a
    /// quarter of a small file system.
    "SCRATCH_RESERVE_MIB" scratch_reserve: Mebibytes<0, 1048576> = "1024", "MiB", PLAIN;
    /// The same as a share of the scratch directory's file system.
    "SCRATCH_RESERVE_PERCENT" scratch_reserve_percent: Percent = "5", "percent", PLAIN;
}
section "Consideration for others" {
    /// Most that all backups of a run write to BACKUP_PATH together, in each second. 0 is no limit. A backup that takes
    /// longer needs more scratch space.
    "TARGET_BANDWIDTH" target_bandwidth: Mebibytes<0, 1048576> = "0", "MiB per second", PLAIN;
    /// Priority of the process: -20 is served first, 19 last, 0 changes nothing.
    "PROCESS_PRIORITY" process_priority: Niceness = "10", "", PLAIN;
    /// Class of disk access. Real-time can starve everything else.
    "IO_PRIORITY_CLASS" io_class: IoClass = "2", "", PLAIN;
    /// Rank inside the class: 0 is served first, 7 last. The idle class has no ranks.
    "IO_PRIORITY_LEVEL" io_level: Number<0, 7> = "5", "", PLAIN;
}
section "Rotation" {
    /// When a new chain begins: daily, weekly, monthly, accumulate (never) or never (no backup at all).
    "DEFAULT_ROTATION_POLICY" default_rotation_policy: RotationPolicy = "monthly", "", PLAIN;
    /// Older name of DEFAULT_ROTATION_POLICY. If set, it is the one that counts.
    "BACKUP_ROTATION_POLICY" backup_rotation_policy: Option<RotationPolicy> = "", "", PLAIN;
    /// Restore points of an accumulating chain from which on a warning is given.
    "ACCUMULATE_WARN_DEPTH" accumulate_warn_depth: Number<1, 1000000> = "100", "restore points", PLAIN;
    /// Restore points at which an accumulating chain is archived and a new one begins.
    "ACCUMULATE_HARD_LIMIT" accumulate_hard_limit: Number<1, 1000000> = "365", "restore points", PLAIN;
    /// Day of the month on which weekly and monthly chains begin anew, also in the middle of their period. A month
    /// without that day has it on its last.
    "CHECKPOINT_FORCE_FULL_ON_DAY" force_full_on_day: Number<1, 31> = "1", "day of the month, 1 to 31", PLAIN;
    /// Not used: checkpoints are always examined before a backup. Kept so that older files load.
    "CHECKPOINT_HEALTH_CHECK" checkpoint_health_check: Text = "yes", "", UNUSED;
    /// Not used: ACCUMULATE_WARN_DEPTH warns. Kept so that older files load.
    "CHECKPOINT_MAX_DEPTH_WARN" checkpoint_max_depth_warn: Text = "10", "checkpoints", UNUSED;
    /// Whether an incremental backup that failed because of its bitmaps, checkpoints or chain is made again as a full
    /// one. Other failures, such as a full disk, never make a backup bigger.
    "CHECKPOINT_RETRY_AUTO_TO_FULL" retry_auto_to_full: Switch = "yes", "", PLAIN;
    /// Incremental attempts before that.
    "CHECKPOINT_MAX_RETRIES_AUTO" max_retries_auto: Number<0, 100> = "1", "", PLAIN;
    /// When checkpoints are damaged: yes repairs and goes on, warn only reports, no fails.
    "ENABLE_AUTO_RECOVERY_ON_CHECKPOINT_CORRUPTION" auto_recovery: AutoRecovery = "yes", "", SHIPPED;
}
section "Retention" {
    /// Periods kept of virtual machines that rotate daily. 0 is read as 1: the period just written always stays.
    "RETENTION_DAYS" retention_days: Periods = "7", "days", ENV;
    /// Periods kept of virtual machines that rotate weekly.
    "RETENTION_WEEKS" retention_weeks: Periods = "4", "weeks", ENV;
    /// Periods kept of virtual machines that rotate monthly.
    "RETENTION_MONTHS" retention_months: Periods = "3", "months", ENV;
    /// Whether periods left over from an earlier policy are deleted when they are old enough.
    "RETENTION_ORPHAN_ENABLED" orphan_enabled: Switch = "true", "", PLAIN;
    /// Age from which on a left-over period is deleted.
    "RETENTION_ORPHAN_MAX_AGE_DAYS" orphan_max_age: Number<0, 36500> = "90", "days", PLAIN;
    /// Age up to which a left-over period is never deleted. Must be below the other one.
    "RETENTION_ORPHAN_MIN_AGE_DAYS" orphan_min_age: Number<0, 36500> = "7", "days", PLAIN;
    /// Only report which left-over periods would be deleted.
    "RETENTION_ORPHAN_DRY_RUN" orphan_dry_run: Switch = "false", "", PLAIN;
    /// Periods without a replica: warn deletes them with a warning, block keeps them.
    "RETENTION_REQUIRE_REPLICATION" require_replication: ReplicaRule = "warn", "", PLAIN;
    /// How long the daily copies of the state directory are kept, with the database: _state/backups. 0 makes none.
    "STATE_BACKUP_KEEP_DAYS" state_backup_keep: Number<0, 36500> = "90", "days", PLAIN;
    /// How long log files are kept; 0 keeps them for ever.
    "LOG_KEEP_DAYS" log_keep: Number<0, 36500> = "30", "days", PLAIN;
}
section "Watching" {
    /// From which age on the newest restore point of a virtual machine is too old: --status says so, and ends with
    /// exit code 5. 26h, 3d; also m (minutes) and w (weeks). Empty means that no age is. For one question: --max-age.
    "MAX_AGE" max_age: Option<MaxAge> = "", "", PLAIN;
}
section "Virtual machines that are shut off" {
    /// What is taken of a virtual machine that is shut off and changed. copy reads its disks whole, each time, and
    /// archives what was there before. incremental goes on with the chain as if it ran: the machine is started paused
    /// and shut off again, and no guest code runs. A machine that would take hold of devices of the host is copied
    /// all the same, and the reason is said.
    "OFFLINE_MODE" offline_mode: OfflineMode = "copy", "", PLAIN;
    /// Whether a virtual machine that is shut off and unchanged since its last backup is skipped. false backs it up
    /// in each run.
    "SKIP_OFFLINE_UNCHANGED_BACKUPS" skip_offline_unchanged: Switch = "true", "", SHIPPED;
    /// A change is told from the files of the disks: size, time, inode and qcow2 header. A disk that was written less
    /// than this long ago counts as changed in any case: it may still be written, and times can be coarse. No change
    /// is ever passed over for being small or young.
    "OFFLINE_CHANGE_DETECTION_THRESHOLD" offline_change_threshold: Seconds<0, 86400> = "60", "seconds", SHIPPED;
}
section "Trimming guests before a backup" {
    /// Whether guests with an agent are asked to give back unused blocks.
    "ENABLE_FSTRIM" enable_fstrim: Switch = "true", "", SHIPPED;
    /// Smallest free range worth trimming, Linux guests only; 0 leaves it to the guest.
    "FSTRIM_MINIMUM" fstrim_minimum: Number<0, 4294967295> = "1048576", "bytes", SHIPPED;
    /// Time a guest may take to trim.
    "FSTRIM_TIMEOUT" fstrim_timeout: Seconds<1, 86400> = "300", "seconds", SHIPPED;
    /// The same for Windows guests.
    "FSTRIM_WINDOWS_TIMEOUT" fstrim_windows_timeout: Seconds<1, 86400> = "600", "seconds", SHIPPED;
    /// File in this directory that lists virtual machines not to trim, one pattern a line.
    "FSTRIM_EXCLUDE_FILE" fstrim_exclude_file: Text = "fstrim_exclude.conf", "", SHIPPED;
}
section "TPM and BitLocker" {
    /// Whether the state of an emulated TPM is saved with its virtual machine.
    "TPM_BACKUP_ENABLED" tpm_backup_enabled: Switch = "yes", "", ENV;
    /// How TPM state is saved. Only full is left; other words mean the same.
    "TPM_BACKUP_METHOD" tpm_backup_method: TpmMethod = "full", "", ENV;
    /// Where the emulated TPMs keep their state.
    "SWTPM_STATE_DIR" swtpm_state_dir: Directory = "/var/lib/libvirt/swtpm", "", ENV;
    /// Time one copy of TPM state may take.
    "TPM_BACKUP_TIMEOUT" tpm_backup_timeout: Seconds<1, 3600> = "300", "seconds", ENV;
    /// Whether Windows guests are asked for their BitLocker recovery keys.
    "BITLOCKER_KEY_EXTRACTION" bitlocker_key_extraction: Switch = "yes", "", ENV;
    /// Time a guest may take to answer that.
    "BITLOCKER_EXEC_TIMEOUT" bitlocker_exec_timeout: Seconds<1, 600> = "30", "seconds", ENV;
}
section "The host's own configuration" {
    /// Whether libvirt's definitions and the host's network and service configuration are saved after the virtual machines,
    /// in BACKUP_PATH/__HOST_CONFIG__, for root alone. What is as it was is not saved again.
    "HOST_CONFIG_BACKUP" host_config_backup: Switch = "yes", "", PLAIN;
    /// Versions kept.
    "HOST_CONFIG_KEEP" host_config_keep: Number<1, 100000> = "12", "versions", PLAIN;
}
section "Replication" {
    /// Local and cloud replication: simultaneous, local_first or cloud_first. Another word is read as the first.
    "REPLICATION_ORDER" replication_order: ReplicationOrder = "simultaneous", "", PLAIN;
}
section "Log" {
    /// How much is logged; each level includes those before it: ERROR, WARN, INFO, DEBUG.
    "LOG_LEVEL" log_level: LogLevel = "INFO", "", ENV_SHIPPED;
    /// How messages look where they are not shown on a terminal: text, or a JSON object on each line. The log file
    /// is always text.
    "LOG_FORMAT" log_format: LogFormat = "text", "", PLAIN;
    /// Directory of the log files. Empty means _state/logs inside BACKUP_PATH; a relative path is below _state there.
    "LOG_DIR" log_dir: Option<StateDirectory> = "", "", PLAIN;
}
}

impl Key {
    /// Finds a key by its upper-case name.
    pub fn find(name: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.name == name)
    }
}

/// Reads texts into types and passes on what is not allowed.
struct Refuse<'a> {
    texts: &'a BTreeMap<&'static str, String>,
    refuse: &'a mut dyn FnMut(&'static str, &str, String),
}

impl Refuse<'_> {
    fn read<T: Value>(&mut self, name: &'static str, default: &str) -> Option<T> {
        let text = self.texts.get(name).map_or(default, String::as_str);
        let value = T::parse(text);
        if value.is_none() {
            (self.refuse)(name, text, T::instead_of(text));
        }
        value
    }
}
