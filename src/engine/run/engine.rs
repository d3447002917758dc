//! What the backups of a run share.
//!
//! Must not live here: what is done with it. The rooms below are told the parts they need, never all of it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock::Clock;
use crate::engine::claims::claimed::Claims;
use crate::engine::claims::guard::{Guard, Places};
use crate::engine::claims::journal::{Journal, JournalDir};
use crate::engine::claims::presence::{self, Presence};
use crate::engine::copy::Shared;
use crate::engine::fail_point::FailPoints;
use crate::engine::plan::job::NewRun;
use crate::engine::settings::EngineSettings;
use crate::engine::{BackupError, VmTarget};
use vmhost::libvirt::Host;
use vmstore::{LockError, StateDir, VmLock};

/// How long the guard of a run that has just died is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(15);

/// Everything that the backups of a run share.
pub struct Engine {
    pub host: Host,
    pub settings: EngineSettings,
    /// Threads and memory.
    pub shared: Shared,
    /// What tells this machine from others, for journals.
    pub machine_id: String,
    /// The guard of this process.
    pub guard: Guard,
    /// Where locks are kept.
    pub state: StateDir,
    /// Where journals are kept.
    pub journals: JournalDir,
    /// What time it is.
    pub clock: Clock,
    /// Places to die at, in tests.
    pub fail_points: FailPoints,
}

impl Engine {
    /// Writes the journal and tells the guard.
    pub(super) fn claim(&self, vm: &VmTarget, journal: Journal) -> Result<Claims<'_>, BackupError> {
        let places = self.places(&vm.folder, vm.domain.name(), vm.domain.uuid());
        Ok(Claims::begin(journal, places, &self.guard)?)
    }

    pub(super) fn places(&self, folder: &str, domain: &str, uuid: &str) -> Places {
        Places {
            journal: self.journals.file(folder),
            lock: self.state.vm_lock(domain),
            presence: presence::file(&self.state, uuid),
        }
    }

    /// Waits for the VM's lock, and tells guards of earlier runs that the VM is ours now.
    pub(super) fn take_vm(&self, domain: &str, uuid: &str) -> Result<(VmLock, Option<Presence>), LockError> {
        let lock = VmLock::take(&self.state, domain, LOCK_PATIENCE)?;
        Ok((lock, Presence::tell(&presence::file(&self.state, uuid))))
    }

    /// A run that is about to begin.
    pub(super) fn new_run(&self) -> NewRun<'_> {
        let scratch_dir = &self.settings.scratch_dir;
        NewRun { id: self.next_id(), machine_id: &self.machine_id, scratch_dir }
    }

    /// A name for one backup, unique on this host.
    pub(crate) fn next_id(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u32;
        format!("{}-{nanos:08x}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
    }
}
