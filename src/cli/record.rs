//! What is kept of each VM of a run beside its backup: its log, its lines in the session's log, the owner of its files.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::opened::{Opened, warn_of};
use super::progress::Progress;
use super::session_box;
use crate::engine::watch::Watch;
use crate::session::{RunWatch, VmOutcome, VmResult};
use crate::state::{folder_name, portable_name};

/// Hears of a run: keeps records, and passes on to what is drawn.
pub(super) struct Record<'a> {
    pub(super) opened: &'a Opened,
    pub(super) progress: &'a Progress,
    pub(super) backup_path: &'a Path,
}

impl RunWatch for Record<'_> {
    fn vm_begin(&self, domain: &str) -> Box<dyn Watch> {
        let seconds = Timestamp::now().as_second();
        let named = |name: &str| self.opened.log_dir.join(format!("backup_{name}_{seconds}.log"));
        let mut file = named(domain);
        let mut opened = self.opened.log.open_vm(domain, &file);
        if let Some(portable) = portable_name(domain).filter(|_| opened.is_err()) {
            file = named(&portable);
            opened = self.opened.log.open_vm(domain, &file);
        }
        if let Err(error) = opened {
            tracing::warn!(vm = domain, "Log file {} cannot be written: {error}", file.display());
        }
        log_lines(domain, session_box::vm_start(domain));
        self.progress.vm_begin(domain)
    }

    fn vm_end(&self, outcome: &VmOutcome) {
        self.progress.vm_end(outcome);
        if let (VmResult::Done(_), Some(ownership)) = (&outcome.result, self.opened.ownership) {
            let folder = self.backup_path.join(folder_name(&outcome.domain));
            if folder.exists() {
                warn_of(ownership.sweep(&folder).failed);
            }
        }
        // One that was not begun has had its line.
        if matches!(outcome.result, VmResult::Done(_) | VmResult::Failed(_)) {
            log_lines(&outcome.domain, session_box::vm_end(outcome));
        }
        self.opened.log.close_vm(&outcome.domain);
    }

    fn log_file(&self, domain: &str) -> Option<PathBuf> {
        self.opened.log.vm_file(domain)
    }
}

fn log_lines(vm: &str, lines: Vec<String>) {
    lines.iter().for_each(|line| tracing::info!(vm, file_only = true, "{line}"));
}
