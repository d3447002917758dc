//! A run over many domains, several at once: the folders are looked at, the engine starts, each VM is backed up, the guard ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use super::at_once::AtOnce;
use super::error::{SessionError, check_writable, scratch_place};
use super::open::Session;
use super::order;
use super::record::Records;
use super::watch::RunWatch;
use crate::engine::cancel::Cancel;
use crate::engine::claims::guard::Guard;
use crate::engine::claims::journal::JournalDir;
use crate::engine::copy::budget::Budget;
use crate::engine::copy::rate::Rate;
use crate::engine::copy::{Compressors, DISKS_OF_RUN, Shared};
use crate::engine::fail_point::FailPoints;
use crate::engine::settings::EngineSettings;
use crate::engine::{BackupError, Engine};
use vmhost::libvirt::Domain;
use vmreport::VmReport;
use vmstore::StateDir;

/// Bytes of frames on their way, for the whole run: with their compressed forms and the output buffers the program
/// stays well below 256 MiB.
const FRAME_BUDGET: u64 = 80 << 20;

impl Session {
    /// Backs up every domain, several at once.
    pub fn run(
        &self,
        records: Records<'_>,
        fail_points: FailPoints,
        watch: &dyn RunWatch,
        cancel: &Cancel,
    ) -> Result<Vec<VmReport>, SessionError> {
        check_writable(&self.backup_path)?;
        let scratch_dir = scratch_place(&self.settings.scratch_dir, cancel)?;
        let engine = self.engine(scratch_dir, fail_points)?;
        let outcomes = self.each_vm(&engine, records, watch, cancel);
        engine.guard.end();
        Ok(outcomes)
    }

    /// Backs up each VM, the one that takes longest first.
    fn each_vm(
        &self,
        engine: &Engine,
        records: Records<'_>,
        watch: &dyn RunWatch,
        cancel: &Cancel,
    ) -> Vec<VmReport> {
        let work = |domain: &Domain| {
            let outcome = self.back_up(engine, domain, records, watch, cancel);
            watch.vm_end(&outcome);
            outcome
        };
        let took = |vm: &str| Some(records.catalog.history(vm).ok()??.took);
        let order = order::longest_first(self.domains(), took);
        let all = AtOnce::new(order.into_iter().map(|place| (place, &self.chosen[place])));
        thread::scope(|scope| {
            // Beside the backups: the guard of a run that has just died, or another run, may hold its VM for a while.
            scope.spawn(|| self.recover_others(engine));
            all.begin(scope, self.parallel.clamp(1, self.chosen.len().max(1)), &work);
        });
        all.in_order()
    }

    fn engine(&self, scratch_dir: PathBuf, fail_points: FailPoints) -> Result<Engine, SessionError> {
        let threads = thread::available_parallelism().map_or(2, usize::from);
        let shared = Shared {
            compressors: Arc::new(Compressors::start(threads, self.settings.method)),
            budget: Budget::new(FRAME_BUDGET),
            disks: Budget::new(DISKS_OF_RUN),
            rate: Arc::new(Rate::new(self.bytes_per_second)),
            stall_limit: self.settings.stall_limit,
        };
        Ok(Engine {
            host: self.host.clone(),
            settings: EngineSettings { scratch_dir, ..self.settings.clone() },
            shared,
            machine_id: self.machine_id.clone(),
            guard: Guard::start(self.host.uri()).map_err(BackupError::from)?,
            state: StateDir::of(&self.backup_path),
            journals: JournalDir::open(&self.backup_path).map_err(BackupError::from)?,
            clock: self.clock,
            fail_points,
        })
    }
}
