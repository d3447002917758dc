//! Layers put into a target by several threads: each takes the next unit, decodes it, and writes what no newer layer hides.

use super::error::ExtractError;
use super::extracted::Watch;
use super::map::{Layer, MapError};
use super::summed::{Summed, stored_of};
use super::target::Target;
use super::units::{Units, Work};
use crate::sidecar::Ledger;
use crate::stream::StreamError;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the workers share.
pub(super) struct Job<'a> {
    pub(super) layers: &'a [Layer],
    /// `None` once a worker failed: the others stop at their next unit.
    pub(super) units: Mutex<Option<Units<'a>>>,
    /// What the disk must hold, where that is known.
    pub(super) ledger: Option<&'a Ledger>,
    pub(super) summed: &'a Summed,
    pub(super) image: &'a dyn Target,
    pub(super) target: &'a Path,
    pub(super) size: u64,
    pub(super) watch: &'a dyn Watch,
}

impl<'a> Job<'a> {
    /// Does all of it on so many threads. Returns the bytes written; the first error of the first thread that has one.
    pub(super) fn run(&self, workers: NonZeroUsize) -> Result<u64, ExtractError> {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..workers.get()).map(|_| scope.spawn(|| self.work())).collect();
            let results: Vec<_> = workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect();
            results.into_iter().sum()
        })
    }

    fn work(&self) -> Result<u64, ExtractError> {
        let (mut stored, mut plain, mut written) = (Vec::new(), Vec::new(), 0);
        while let Some(work) = self.next_work()? {
            written += self.apply(&work, &mut stored, &mut plain).inspect_err(|_| self.stop())?;
        }
        Ok(written)
    }

    fn next_work(&self) -> Result<Option<Work>, ExtractError> {
        let mut units = self.lock();
        let Some(source) = units.as_mut() else { return Ok(None) };
        let work = source.next_work();
        self.watch.progress(source.at(), self.size);
        match work.transpose() {
            Ok(work) => Ok(work),
            Err(error) => {
                *units = None;
                Err(error.into())
            }
        }
    }

    fn apply(&self, work: &Work, stored: &mut Vec<u8>, plain: &mut Vec<u8>) -> Result<u64, ExtractError> {
        let failed = |source| ExtractError::Write { path: self.target.to_owned(), source };
        let unit = match work {
            Work::Unit(unit) => unit,
            Work::Zero(range) if self.image.has_old_content() => {
                self.image.clear(range.clone()).map_err(failed)?;
                return Ok(0);
            }
            Work::Zero(_) => return Ok(0),
            Work::Tail { layer: number, file } => {
                let layer = &self.layers[*number];
                let sum = self.summed.begin(*number, layer, file.start);
                self.summed.end((*number, layer), file.clone(), sum, &|_| ())?;
                return Ok(0);
            }
        };
        let layer = &self.layers[unit.layer];
        layer
            .stream
            .read_piece(&unit.piece, stored, plain)
            .map_err(|source: StreamError| MapError { path: layer.path.clone(), source })?;
        if let Some(mut sum) = self.summed.begin(unit.layer, layer, unit.file.start) {
            sum.take(&unit.piece, stored_of(&unit.piece, stored, plain), &|_| ())
                .map_err(|source| MapError { path: layer.path.clone(), source })?;
            self.summed.end((unit.layer, layer), unit.file.clone(), Some(sum), &|_| ())?;
        }
        let base = unit.piece.disk.start;
        let mut written = 0;
        for range in &unit.visible {
            let bytes = &plain[(range.start - base) as usize..(range.end - base) as usize];
            if let Some(ledger) = self.ledger {
                ledger.note(range.start, bytes);
            }
            written += self.image.write(range.start, bytes).map_err(failed)?;
        }
        Ok(written)
    }

    fn stop(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Units<'a>>> {
        // A worker that panicked is joined and panics again; until then the others may go on.
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
