//! What is kept of each VM of a run beside its backup: its log, its lines in the session's log, the owner of its files.

use std::path::{Path, PathBuf};

use jiff::{Timestamp, Zoned};

use super::opened::{Opened, warn_of};
use super::progress::Progress;
use crate::engine::watch::Watch;
use crate::session::RunWatch;
use vmreport::{FailureCode, VmReport, draw};
use vmstore::{Store, portable_name};

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
        let files = [named(domain)].into_iter().chain(portable_name(domain).map(|name| named(&name)));
        if let Err(error) = self.opened.log.open_vm(domain, files.collect()) {
            let file = named(domain);
            tracing::warn!(vm = domain, "Log file {} cannot be written: {error}", file.display());
        }
        log_lines(domain, draw::vm_start(domain, &Zoned::now()));
        self.progress.vm_begin(domain)
    }

    fn vm_end(&self, report: &VmReport) {
        self.progress.vm_end(report);
        if let (Some(_), Some(ownership)) = (report.result.report(), self.opened.ownership) {
            let vm = Store::open(self.backup_path).vm_of(&report.vm);
            if vm.path().exists() {
                warn_of(ownership.sweep(vm.path()).failed);
            }
        }
        // One that was not begun has had its line.
        let is_begun = |code| !matches!(code, FailureCode::FolderName | FailureCode::NotBegun);
        if report.result.report().is_some() || report.result.failure().is_some_and(|it| is_begun(it.code)) {
            log_lines(&report.vm, draw::vm_end(report, &Zoned::now()));
        }
        self.opened.log.close_vm(&report.vm);
    }

    fn log_file(&self, domain: &str) -> Option<PathBuf> {
        self.opened.log.vm_file(domain)
    }
}

fn log_lines(vm: &str, lines: Vec<String>) {
    lines.iter().for_each(|line| tracing::info!(vm, file_only = true, "{line}"));
}
