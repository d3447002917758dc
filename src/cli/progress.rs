//! Progress: bars on a terminal, log lines elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::bars::Bars;
use crate::engine::watch::Watch;
use crate::session::RunWatch;
use vmreport::{FailureCode, VmReport, VmResult, draw};
use vmstream::terminal::{self, Screen};
use vmstream::text::size;

/// A log line for a disk at most this often, when there is no terminal to draw on.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// Has bars drawn, or writes lines.
pub(super) struct Progress {
    bars: Option<Bars>,
}

impl Progress {
    pub(super) fn new() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bars = || Bars::on(Screen::new(std::io::stderr()), terminal::size);
        Self { bars: is_terminal.then(bars).flatten() }
    }

    /// A run of so many VMs begins.
    pub(super) fn begin(&self, vms: usize) {
        self.bars.iter().for_each(|bars| bars.begin(vms));
    }

    /// Takes what is drawn off the terminal, from any thread: for somebody who wants the run to end.
    pub(super) fn cleaner(&self) -> impl Fn() + Send + use<> {
        let bars = self.bars.clone();
        move || bars.iter().for_each(Bars::clear)
    }

    /// Where log lines go, so that they do not tear the bars.
    pub(super) fn screen(&self) -> Option<Screen> {
        self.bars.as_ref().map(Bars::screen)
    }

    /// Nothing is drawn any more: what comes next is written where that was.
    pub(super) fn clear(&self) {
        self.bars.iter().for_each(Bars::clear);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

impl RunWatch for Progress {
    fn vm_begin(&self, domain: &str) -> Box<dyn Watch> {
        match &self.bars {
            Some(bars) => Box::new(bars.of_vm(domain)),
            None => Box::new(DiskLines { domain: domain.to_owned(), disks: Mutex::default() }),
        }
    }

    fn vm_end(&self, report: &VmReport) {
        self.bars.iter().for_each(Bars::vm_end);
        let vm = report.vm.as_str();
        match &report.result {
            VmResult::Ok { report: backup }
            | VmResult::Damaged { report: backup }
            | VmResult::Skipped { report: backup } => {
                backup.recovered.iter().for_each(|what| tracing::warn!(vm, "{what}"));
                backup.damaged.iter().for_each(|what| tracing::error!(vm, "{what}"));
                backup.warnings.iter().for_each(|what| tracing::warn!(vm, "{what}"));
                for of in &backup.every_disk {
                    let (disk, word, remark) = (&of.disk, of.result.word(), of.remark());
                    if of.gap || !of.caveats.is_empty() {
                        tracing::warn!(vm, disk, "{word}: {remark}");
                    } else {
                        tracing::info!(vm, disk, "{word}: {remark}");
                    }
                }
                tracing::info!(vm, "{}", draw::backup_line(backup, report.took));
            }
            VmResult::Failed(failure) if failure.code == FailureCode::NotBegun => {
                tracing::warn!(vm, "not begun: the run was asked to stop");
            }
            VmResult::Failed(failure) => {
                if let Some(known) = &failure.report {
                    known
                        .recovered
                        .iter()
                        .chain(&known.warnings)
                        .for_each(|what| tracing::warn!(vm, "{what}"));
                    known.damaged.iter().for_each(|what| tracing::error!(vm, "{what}"));
                }
                tracing::error!(vm, "{}", failure.error);
            }
            VmResult::Excluded { why } => tracing::info!(vm, "not backed up: {why}"),
        }
    }
}

struct DiskLines {
    domain: String,
    disks: Mutex<HashMap<String, DiskLine>>,
}

struct DiskLine {
    size_bytes: u64,
    copied_bytes: u64,
    begun: Instant,
    last_line: Instant,
}

impl Watch for DiskLines {
    fn disk_begin(&self, target: &str, size_bytes: u64) {
        let now = Instant::now();
        let line = DiskLine { size_bytes, copied_bytes: 0, begun: now, last_line: now };
        self.disks.lock().unwrap_or_else(PoisonError::into_inner).insert(target.to_owned(), line);
    }

    fn disk_advance(&self, target: &str, position: u64, copied_bytes: u64) {
        let mut disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(line) = disks.get_mut(target) else { return };
        line.copied_bytes += copied_bytes;
        if line.last_line.elapsed() < LINE_EVERY {
            return;
        }
        line.last_line = Instant::now();
        let percent = position * 100 / line.size_bytes.max(1);
        let rate = line.copied_bytes as f64 / line.begun.elapsed().as_secs_f64().max(0.001);
        tracing::info!(
            vm = self.domain,
            disk = target,
            "{percent}% done, {} copied, {}/s",
            size(line.copied_bytes),
            size(rate as u64)
        );
    }

    fn disk_end(&self, target: &str) {
        self.disks.lock().unwrap_or_else(PoisonError::into_inner).remove(target);
    }
}
