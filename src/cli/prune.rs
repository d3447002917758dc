//! `--prune TARGET`: shows what would go and what is held back, asks, removes.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use super::arguments::ONE_VM;
use super::context::{Context, start_log};
use super::failed::{Failed, Known, lock_error, session_error};
use super::opened::Opened;
use super::prune_answer;
use super::prune_list::{self, plain, size, vm_argument};
use super::say::{agreed, tell};
use super::session_record::SessionRecord;
use crate::catalog::{Catalog, Stamp};
use crate::engine::claims::journal::JournalDir;
use crate::retention::{
    CatalogLog, FolderError, Guards, Initiator, Inventory, Look, PlannedRemoval, Remover, RetentionLog,
    Selection, Target, VmTree, Why, read, read_vm,
};
use crate::session::{check_backup_path, names_in};
use vmreport::{Exit, KeptBack, Part, PruneReport, Removal, SessionKind, SessionStatus};
use vmstore::presence::there;
use vmstore::{Store, VmLock};

const PRUNE_LOG: &str = "vmprune.log";

/// What a person asked for.
struct Request<'a> {
    context: &'a Context,
    backup_path: &'a Path,
    target: Target,
    /// Only this VM.
    vm: Option<&'a str>,
}

/// What removing did.
struct Done<'a> {
    written: &'a SessionRecord<'a>,
    freed_bytes: u64,
    removals: Vec<Removal>,
    errors: Vec<Failed>,
}

/// Shows and removes. A target that names nothing is told on standard output, as in the Bash program.
pub(super) fn prune(context: &Context, target: &str) -> Result<Exit, Failed> {
    let target = match Target::parse(target) {
        Ok(target) => target,
        Err(error) => return Err(as_result(Failed::new(Exit::Usage, error.to_string()))),
    };
    let backup_path = context.loaded.settings.backup_path.as_path();
    let vm = context.arguments.vm.as_deref().map(|list| one_vm(backup_path, list)).transpose()?;
    let request = Request { context, backup_path, target, vm };
    if request.target == Target::List {
        check_backup_path(backup_path).map_err(session_error)?;
        return list(&request);
    }
    let opened = Opened::begin(context, start_log(context, None), PRUNE_LOG, "PRUNE MODE START")?;
    let done = remove(&request, &opened);
    let (exit, results) = match &done {
        Ok((exit, results)) => (*exit, results.as_str()),
        Err(failed) => {
            tracing::error!(file_only = true, "{}", failed.said);
            (failed.exit, failed.said.as_str())
        }
    };
    opened.end(&format!("PRUNE MODE END (exit={})", exit.code()), &[], results);
    match done {
        Err(failed) if failed.known == Known::Nowhere => Err(failed.known(Known::InLog)),
        done => done.map(|(exit, _)| exit),
    }
}

/// On standard output, as in the Bash program.
fn as_result(failed: Failed) -> Failed {
    Failed { said: plain(&failed.said), known: Known::AsResult, ..failed }
}

/// The one VM that a list names. A comma is part of a name only where that name is the VM's: its folder's may be another's.
fn one_vm<'a>(backup_path: &Path, list: &'a str) -> Result<&'a str, Failed> {
    let store = Store::open(backup_path);
    let has_backups = |name: &str| {
        let found = read_vm(&store, &store.vm_of(name), Look::Sizes).ok();
        found.and_then(|mut found| found.vms.pop()?.domain).as_deref() == Some(name)
    };
    match names_in(list, &|name| name.contains(',') && has_backups(name))[..] {
        [name] => Ok(name),
        _ => Err(Failed::new(Exit::Usage, ONE_VM)),
    }
}

impl Request<'_> {
    fn inventory(&self, look: Look) -> Result<Inventory, Failed> {
        let store = Store::open(self.backup_path);
        let read = match self.vm {
            None => read(&store, look),
            Some(name) => read_vm(&store, &store.vm_of(name), look),
        };
        let mut inventory = read.map_err(|error| Failed::new(Exit::Storage, error.to_string()))?;
        if let (Some(name), Some(vm)) = (self.vm, inventory.vms.first_mut()) {
            // Where neither a list nor a definition tells it.
            vm.domain.get_or_insert_with(|| name.to_owned());
        }
        Ok(inventory)
    }

    /// True when nothing may be removed: a dry run, or a preview for a program that did not agree beforehand.
    fn only_shows(&self) -> bool {
        let arguments = &self.context.arguments;
        arguments.dry_run || (arguments.json && !arguments.yes)
    }
}

fn list(request: &Request<'_>) -> Result<Exit, Failed> {
    let inventory = request.inventory(Look::Doubts)?;
    if request.context.arguments.json {
        prune_answer::list(request.context, &inventory);
        return Ok(Exit::Ok);
    }
    // A reader that is gone changes nothing about the exit code.
    let mut out = io::BufWriter::new(io::stdout().lock());
    let _ = if inventory.vms.is_empty() && inventory.unreadable.is_empty() {
        match request.vm {
            Some(name) => {
                let hint = "What there is: vmbackup --prune list";
                writeln!(out, "No backup data found for VM: {}\n{hint}", plain(name))
            }
            None => writeln!(out, "No backup data found in: {}", request.backup_path.display()),
        }
    } else {
        prune_list::write(&mut out, &inventory, request.vm.is_some())
    };
    let _ = out.flush();
    Ok(Exit::Ok)
}

/// Returns the exit code and a line for the log.
fn remove(request: &Request<'_>, opened: &Opened) -> Result<(Exit, String), Failed> {
    let (context, now) = (request.context, request.context.clock.now());
    let begin = || SessionRecord::begin(context, opened, SessionKind::Prune);
    let written = (!request.only_shows()).then(begin);
    let peeked = written.is_none().then(|| Catalog::peek(request.backup_path, now));
    let stamp = written.as_ref().map_or(Stamp { session: None, at: now }, SessionRecord::stamp);
    let log = CatalogLog::new(peeked.as_ref().unwrap_or(&opened.catalog), stamp);
    let inventory = request.inventory(Look::Dates)?;
    let selection = select(request, &inventory, &log).map_err(as_result)?;
    let as_json = context.arguments.json;
    if !as_json {
        show(request, &selection);
    }
    let Some(written) = written else {
        if as_json {
            prune_answer::done(context, &selection, Exit::Ok, None);
        }
        return Ok((Exit::Ok, format!("Only shown: {}", selection.description)));
    };
    written.part(&Part::Prune(report(&selection)));
    if selection.going().next().is_some() && !context.arguments.yes && !agreed() {
        tell("Cancelled.\n");
        written.end(SessionStatus::Success);
        return Ok((Exit::Ok, format!("Cancelled: {}", selection.description)));
    }
    opened.confirm_lock()?;
    let done = carry_out(request, opened, &written, &log, (&inventory, &selection));
    let Done { freed_bytes, errors, removals, .. } = done;
    written.end(if errors.is_empty() { SessionStatus::Success } else { SessionStatus::Failed });
    let exit = errors.first().map_or(Exit::Ok, |failed| failed.exit);
    if as_json {
        prune_answer::done(context, &selection, exit, Some((freed_bytes, &removals)));
    } else {
        let mut text = format!("\nvmbackup prune — complete\n  Freed: {}\n", size(freed_bytes));
        if !errors.is_empty() {
            let (errors, log) = (errors.len(), opened.log_file.display());
            text.push_str(&format!("  Errors: {errors} (check {log})\n"));
        }
        tell(&text);
    }
    Ok((exit, format!("Pruned: {}, {} freed", selection.description, size(freed_bytes))))
}

/// What is decided, for the file of the session.
fn report(selection: &Selection) -> PruneReport {
    let kept = selection.items.iter().filter_map(|item| {
        Some(KeptBack { what: item.place.to_string(), why: item.kept?.text().to_owned() })
    });
    PruneReport {
        description: selection.description.clone(),
        selected_bytes: selection.going().map(|item| item.size_bytes).sum(),
        kept: kept.collect(),
        removals: vec![],
    }
}

/// Finds what the target means, and lets the guards look at it.
fn select(request: &Request<'_>, inventory: &Inventory, log: &dyn RetentionLog) -> Result<Selection, Failed> {
    if inventory.vms.is_empty() && !inventory.unreadable.is_empty() {
        let whys: Vec<&str> = inventory.unreadable.iter().map(|missed| missed.why.as_str()).collect();
        return Err(Failed::new(Exit::Storage, whys.join("; ")));
    }
    if inventory.vms.is_empty() && !inventory.leftovers.is_empty() {
        let description = "removals that were interrupted".to_owned();
        return Ok(Selection { description, items: vec![] });
    }
    let selected = Selection::of(&request.target, request.vm, inventory);
    let mut selection = selected
        .map_err(|error| Failed::new(Exit::Vm, error.to_string()).fix("vmbackup --prune list".to_owned()))?;
    for vm in &inventory.vms {
        if !selection.items.iter().any(|item| item.place.vm == vm.folder) {
            continue;
        }
        let keeper = vm.keeper(request.backup_path, |set| selection.takes(set));
        let guards = Guards {
            keeper,
            doubtful: &|place| vm.is_doubtful(request.backup_path, place),
            protected: &|period| log.protected(vm.name(), period),
            replica: &|period| log.replica(vm.name(), period),
        };
        selection.guard(&request.target, vm, &guards);
    }
    Ok(selection)
}

/// Prints what goes and what is held back.
fn show(request: &Request<'_>, selection: &Selection) {
    let bytes: u64 = selection.going().map(|item| item.size_bytes).sum();
    let dry_run = request.context.arguments.dry_run;
    let mut text =
        format!("\nvmbackup prune — {}\n  Space to free: {}\n", plain(&selection.description), size(bytes));
    for item in &selection.items {
        let place = plain(&item.place.to_string());
        match item.kept {
            Some(why) => text.push_str(&format!("  Kept: {place}: {}{}\n", why.text(), hint(why))),
            None if item.unreplicated => text.push_str(&format!("  Warning: {place} was never replicated\n")),
            None => {}
        }
    }
    if dry_run {
        text.push_str("  [DRY RUN] No data will be deleted.\n");
    }
    text.push('\n');
    text.lines().filter(|line| !line.is_empty()).for_each(|line| tracing::info!(file_only = true, "{line}"));
    tell(&text);
}

fn hint(why: Why) -> &'static str {
    match why {
        Why::LastRestorable | Why::LastPeriod | Why::Doubtful => "; --prune all removes everything of the VM",
        _ => "",
    }
}

impl Done<'_> {
    fn failed(&mut self, what: String, failed: Failed) {
        tracing::error!("{}", failed.said);
        self.part(Removal { what, freed_bytes: 0, error: Some(failed.said.clone()) });
        self.errors.push(failed);
    }

    fn freed(&mut self, what: String, result: Result<u64, FolderError>) {
        match result {
            Ok(freed_bytes) => {
                self.freed_bytes += freed_bytes;
                self.part(Removal { what, freed_bytes, error: None });
            }
            Err(error) => self.failed(what, Failed::new(Exit::Storage, error.to_string())),
        }
    }

    fn part(&mut self, removal: Removal) {
        self.written.part(&Part::Removal(removal.clone()));
        self.removals.push(removal);
    }
}

/// Ends removals that were interrupted, then removes what was selected, VM by VM.
fn carry_out<'a>(
    request: &Request<'_>,
    opened: &Opened,
    written: &'a SessionRecord<'a>,
    log: &dyn RetentionLog,
    (inventory, selection): (&Inventory, &Selection),
) -> Done<'a> {
    let mut done = Done { written, freed_bytes: 0, removals: vec![], errors: vec![] };
    let remover = match Remover::open(request.backup_path, log, &|_| {}) {
        Ok(remover) => remover,
        Err(error) => {
            done.failed(selection.description.clone(), Failed::new(Exit::Storage, error.to_string()));
            return done;
        }
    };
    for leftover in &inventory.leftovers {
        done.freed(format!("{}/{}", leftover.vm, leftover.name), remover.finish(leftover));
    }
    if let (Target::All, [], Some(leftover)) =
        (&request.target, &inventory.vms[..], inventory.leftovers.first())
    {
        done.freed(leftover.vm.clone(), remover.remove_vm_folder(&leftover.vm).map(|_| 0));
    }
    for vm in &inventory.vms {
        if selection.going().any(|item| item.place.vm == vm.folder) {
            remove_of(request, opened, &remover, (vm, selection), &mut done);
        }
    }
    done
}

/// Removes what was selected of one VM, while nobody else works on it.
fn remove_of(
    request: &Request<'_>,
    opened: &Opened,
    remover: &Remover<'_>,
    (vm, selection): (&VmTree, &Selection),
    done: &mut Done<'_>,
) {
    let _lock = match lock(request, opened, vm) {
        Ok(lock) => lock,
        Err(failed) => return done.failed(vm.folder.clone(), failed),
    };
    let before = done.errors.len();
    for item in selection.going().filter(|item| item.place.vm == vm.folder) {
        let outcome = remover.remove(vm, &PlannedRemoval::of(vm, item.place.clone(), Initiator::Prune));
        if let Ok(bytes) = &outcome.result {
            tracing::info!("removed {}: {}", outcome.place, size(*bytes));
        }
        done.freed(outcome.place.to_string(), outcome.result);
    }
    let everything = request.target == Target::All && selection.items.iter().all(|item| item.kept.is_none());
    if everything && done.errors.len() == before {
        match remover.remove_vm_folder(&vm.folder) {
            Ok(0) => {}
            Ok(others) => {
                tracing::warn!("{}: {others} item(s) in the VM's folder are no backups and stay", vm.folder);
            }
            Err(error) => done.failed(vm.folder.clone(), Failed::new(Exit::Storage, error.to_string())),
        }
    }
}

/// Keeps others away from a VM. Refuses when a backup of it broke off: undoing it may need what is to be removed.
fn lock(request: &Request<'_>, opened: &Opened, vm: &VmTree) -> Result<VmLock, Failed> {
    let name = vm.name();
    let lock = VmLock::take(&opened.state, name, Duration::ZERO).map_err(|error| {
        let failed = lock_error(error);
        Failed { said: format!("{name}: {}", failed.said), ..failed }
    })?;
    let journals = JournalDir::open(request.backup_path)
        .map_err(|error| Failed::new(Exit::Storage, error.to_string()))?;
    let journal = journals.file(&vm.folder);
    let left = there(&journal)
        .map_err(|e| Failed::new(Exit::Storage, format!("Cannot look at {}: {e}", journal.display())))?;
    if left {
        let vm = vm_argument(name);
        let text = format!(
            "{name}: a backup broke off and is not cleaned up yet, nothing of it is removed. Do that first: vmbackup --run {vm}"
        );
        return Err(Failed::new(Exit::Vm, text).fix(format!("vmbackup --run {vm}")));
    }
    Ok(lock)
}
