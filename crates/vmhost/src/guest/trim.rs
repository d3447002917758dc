//! Has a guest give back unused blocks before its backup, so that there is less to save.
//!
//! What was freed is zero in the next increment, which costs next to nothing there. A trim that fails or is late never
//! fails the backup.

use std::time::{Duration, Instant};

use vmreport::{Trimmed, TrimmedPath};

use super::discard::{self, DiscardDisk};
use super::{AgentError, Guest};

/// How a guest is trimmed.
#[derive(Clone, Debug)]
pub struct TrimSettings {
    /// Smallest free range worth it, in bytes; Linux only, `None` leaves it to the guest.
    pub minimum: Option<u32>,
    /// Time a guest may take.
    pub limit: Duration,
    /// The same for Windows, which trims more slowly.
    pub windows_limit: Duration,
}

/// Trims the guest. `xml` is the definition of the running domain.
pub fn trim(guest: &Guest<'_>, xml: &str, settings: &TrimSettings, stop: &dyn Fn() -> bool) -> Trimmed {
    let vm = guest.agent.domain().name();
    let disks = discard::discard_disks(xml);
    if disks.is_empty() {
        tracing::info!(vm, "not trimmed: no disk has discard='unmap', so nothing would be given back");
        return Trimmed::NoDiscard;
    }
    let windows = guest.is_windows();
    let name = guest.os.as_ref().map_or("an unknown system", |os| &os.name);
    let (limit, minimum) = match windows {
        true => (settings.windows_limit, None),
        false => (settings.limit, settings.minimum),
    };
    if windows {
        advise(vm, &disks);
    }
    let at_least = minimum.map_or_else(|| "any".to_owned(), |bytes| format!("{bytes} bytes"));
    tracing::info!(
        "trimming the guest ({name}), for {} s at most, free ranges of {at_least} or more",
        limit.as_secs()
    );
    let since = Instant::now();
    match guest.agent.trim(minimum, limit, stop) {
        Ok(paths) => report(vm, paths, since.elapsed()),
        Err(error) => {
            let how = match &error {
                AgentError::Silent { .. } => {
                    "the guest goes on with it; raise FSTRIM_TIMEOUT if it needs longer"
                }
                _ => "the backup goes on without",
            };
            tracing::warn!(vm, "the guest was not trimmed: {error}; {how}");
            Trimmed::Failed(error.to_string())
        }
    }
}

fn report(vm: &str, paths: Vec<TrimmedPath>, took: Duration) -> Trimmed {
    let mut bytes = 0_u64;
    let mut errors = 0;
    for TrimmedPath { path, outcome } in &paths {
        match outcome {
            Ok(Some(freed)) => {
                bytes = bytes.saturating_add(*freed);
                tracing::info!(vm, "trimmed {path}: {freed} bytes given back");
            }
            Ok(None) => tracing::info!(vm, "trimmed {path}; the guest does not say how much"),
            Err(error) => {
                errors += 1;
                tracing::warn!(vm, "not trimmed {path}: {error}");
            }
        }
    }
    let (count, ms) = (paths.len(), took.as_millis());
    tracing::info!(vm, "trimmed {count} file systems in {ms} ms: {bytes} bytes, {errors} errors");
    Trimmed::Done { paths, bytes }
}

/// Tells how a Windows guest trims in seconds instead of many minutes.
fn advise(vm: &str, disks: &[DiscardDisk]) {
    let missing: Vec<_> = disks.iter().filter(|d| d.can_have_granularity && !d.has_granularity).collect();
    if missing.is_empty() {
        return;
    }
    let targets: Vec<_> = missing.iter().map(|d| d.target.as_str()).collect();
    let xml = discard::granularity_xml(missing.iter().filter_map(|d| d.alias.as_deref()));
    tracing::warn!(
        vm,
        "Windows trims {} in small steps, which can take many minutes. Add this before </domain> (virsh edit), then shut \
         the VM down and start it again:\n{xml}",
        targets.join(", ")
    );
}
