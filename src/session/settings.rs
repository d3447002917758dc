//! The configuration, as the parts of a run take it.

use std::time::Duration;

use vmstream::stream::Compression;

use crate::engine::method::Method;
use crate::engine::settings::{EngineSettings, Reserve, TpmSettings};
use vmconfig::value::{CompressionMethod, Consistency};
use vmconfig::{CompressionChoice, Settings};
use vmhost::guest::TrimSettings;
use vmplan::Rules;
use vmplan::glob::Pattern;
use vmplan::rotation::Policies;

/// Which VM rotates how.
pub(super) fn policies(settings: &Settings) -> Policies {
    Policies {
        default: settings.backup_rotation_policy.unwrap_or(settings.default_rotation_policy),
        by_vm: settings.vm_policies.clone(),
        exclude: settings.exclude_patterns.iter().map(|text| Pattern::new(text)).collect(),
    }
}

/// How a backup that failed is tried again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retries {
    /// Tries after the first.
    pub(super) max: u32,
    /// Time before each of them.
    pub(super) delay: Duration,
    /// After so many increments that failed for a cause that a full cures, a full is tried. `None`: never.
    pub(super) full_after: Option<u32>,
}

impl Retries {
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            max: settings.max_retries.get(),
            delay: settings.retry_delay.duration(),
            full_after: settings.retry_auto_to_full.on.then(|| settings.max_retries_auto.get()),
        }
    }
}

fn method(CompressionChoice { method, level }: CompressionChoice) -> Method {
    match method {
        CompressionMethod::None => Method::Plain,
        CompressionMethod::Auto => Method::Auto,
        CompressionMethod::Lz4 => Method::Fixed(Compression::Lz4(level)),
        CompressionMethod::Zstd => Method::Fixed(Compression::Zstd(level)),
    }
}

/// What the engine must know.
pub(super) fn engine(settings: &Settings) -> EngineSettings {
    EngineSettings {
        method: method(settings.compression),
        scratch_dir: settings.scratch_dir.as_path().to_owned(),
        scratch_reserve: Reserve {
            bytes: settings.scratch_reserve.bytes(),
            percent: settings.scratch_reserve_percent.get().into(),
        },
        target_reserve: Reserve {
            bytes: settings.target_reserve.bytes(),
            percent: settings.target_reserve_percent.get().into(),
        },
        consistency: match settings.consistency {
            Consistency::Auto if !settings.fsfreeze.on => Consistency::Pause,
            other => other,
        },
        vm_consistency: settings.vm_consistency.clone(),
        vm_tripwire: settings.vm_tripwire.iter().map(|(vm, switch)| (vm.clone(), switch.on)).collect(),
        vm_exclude_disks: settings
            .vm_exclude_disks
            .iter()
            .map(|(vm, disks)| (vm.clone(), disks.as_slice().to_vec()))
            .collect(),
        freeze_paths: settings.fsfreeze_paths.as_slice().to_vec(),
        trim: settings.enable_fstrim.on.then(|| TrimSettings {
            minimum: Some(settings.fstrim_minimum.get()).filter(|bytes| *bytes > 0),
            limit: settings.fstrim_timeout.duration(),
            windows_limit: settings.fstrim_windows_timeout.duration(),
        }),
        trim_exclude: settings.trim_exclude.iter().map(|text| Pattern::new(text)).collect(),
        tpm: settings.tpm_backup_enabled.on.then(|| TpmSettings {
            state_dir: settings.swtpm_state_dir.as_path().to_owned(),
            limit: settings.tpm_backup_timeout.duration(),
        }),
        recovery_keys: settings
            .bitlocker_key_extraction
            .on
            .then(|| settings.bitlocker_exec_timeout.duration()),
        freeze_limit: settings.freeze_timeout.duration(),
        stall_limit: match settings.stall_threshold.duration() {
            Duration::ZERO => Duration::MAX,
            limit => limit,
        },
        raw_disks: settings.backup_raw_disks.on,
        include_disks: settings.include_disks.as_slice().to_vec(),
        exclude_disks: settings.exclude_disks.as_slice().to_vec(),
        rules: Rules {
            warn_depth: settings.accumulate_warn_depth.get(),
            hard_limit: settings.accumulate_hard_limit.get(),
            full_day: settings.force_full_on_day.get(),
            recovery: settings.auto_recovery,
            skip_unchanged: settings.skip_offline_unchanged.on,
            offline_settle: settings.offline_change_threshold.duration(),
            offline_mode: settings.offline_mode,
        },
    }
}
