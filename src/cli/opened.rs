//! What every mode that works in the backup path begins with, in this order: the path is there, nobody else works in
//! it, the log is open, the path belongs to the group.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use jiff::Zoned;

use super::context::Context;
use super::failed::{Failed, lock_error, root_error, session_error};
use super::help;
use super::say::SHOWN_NAMES;
use crate::catalog::{Catalog, ConfigEvent, ConfigEventKind, NewSession, SessionId, SessionRow, Stamp};
use crate::clock::Clock;
use crate::log::{self, HEADER_WIDTH, Log};
use crate::session::check_backup_path;
use vmconfig::{Settings, Source, Unserved};
use vmreport::SessionKind;
use vmstore::{
    HostDir, Order, Ownership, Root, RootError, SessionLock, Standing, StateDir, close_below, owner_on_host,
    snapshot,
};
use vmstream::text::few;

/// The log of backups and replications.
pub(super) const BACKUP_LOG: &str = "vmbackup.log";

/// A mode that works in the backup path, from its first line in the log to its last.
pub(super) struct Opened {
    pub(super) state: StateDir,
    pub(super) log: Log,
    /// Where log files go.
    pub(super) log_dir: PathBuf,
    pub(super) log_file: PathBuf,
    /// The database. A dry run has none.
    pub(super) catalog: Catalog,
    /// `None` in a dry run, which only looked.
    lock: Option<SessionLock>,
    /// What tells this machine from others.
    pub(super) machine_id: String,
    /// `None` where backups belong to whoever makes them.
    pub(super) ownership: Option<Ownership>,
}

impl Opened {
    /// `log_name` is its log file, `marker` stands there where the mode begins.
    pub(super) fn begin(context: &Context, log: Log, log_name: &str, marker: &str) -> Result<Self, Failed> {
        let settings = &context.loaded.settings;
        let dry_run = context.arguments.dry_run;
        let backup_path = settings.backup_path.as_path();
        check_backup_path(backup_path).map_err(session_error)?;
        let root = Root::look(backup_path, &HostDir::of(&context.environment)).map_err(root_error)?;
        match root.refusal() {
            // What such a run would do may be asked, but nothing is written, logs neither.
            Some(other @ RootError::OtherHost { .. }) if dry_run => tracing::warn!("{other}"),
            Some(refusal) => return Err(root_error(refusal)),
            None => {}
        }
        let state = StateDir::of(backup_path);
        let log_dir = settings.log_dir.as_ref().map_or_else(|| state.logs(), |dir| dir.below(state.path()));
        let log_file = log_dir.join(log_name);
        // A dry run may write to its log, and to nothing else.
        let lock = if dry_run {
            SessionLock::look(&state).map(|()| None)
        } else {
            SessionLock::take(&state).map(Some)
        };
        let begin_anew = matches!(lock, Ok(Some(_)));
        let prepare = prepare_log(settings, log_dir.clone(), log_file.clone(), begin_anew);
        let opened = match root.refusal() {
            Some(_) => Ok(()),
            None => {
                context.call.logs_to(log_file.clone());
                log.open_session(&log_file, prepare)
            }
        };
        if let Err(error) = opened {
            tracing::warn!("Log file {} cannot be written: {error}", log_file.display());
        }
        let lock = lock.map_err(lock_error)?;
        let root = if dry_run { root } else { settled(root)? };
        head(&log);
        tracing::info!(file_only = true, "===== {marker} =====");
        tracing::info!(file_only = true, "configuration {}", context.loaded.dir.display());
        if dry_run {
            tracing::info!("[DRY-RUN] nothing is changed");
        }
        context.loaded.warnings.iter().for_each(|warning| tracing::warn!("{}", warning.said));
        for Unserved { said, fix, .. } in &context.loaded.unserved {
            tracing::warn!("{said}: {fix}");
        }
        let ownership = if dry_run { None } else { own(&state, backup_path) };
        let catalog = if dry_run {
            Catalog::peek(backup_path, context.clock.now())
        } else {
            Catalog::open(backup_path, context.clock.now())
        };
        let machine_id = root.machine_id;
        Ok(Self { state, log, log_dir, log_file, catalog, lock, machine_id, ownership })
    }

    /// Begins this session's row in the database. Rows of sessions that died are ended.
    pub(super) fn begin_row(&self, context: &Context, kind: SessionKind) -> SessionRow<'_> {
        let (instance, at) = (context.arguments.instance.as_str(), context.clock.now());
        let row = self.catalog.begin_session(&NewSession { instance, kind, log_file: &self.log_file, at });
        self.note_policy(context, row.stamp(at));
        row
    }

    /// Writes down the default policy, and that it has changed since the last session.
    fn note_policy(&self, context: &Context, by: Stamp) {
        const SETTING: &str = "BACKUP_ROTATION_POLICY";
        let (settings, sources) = (&context.loaded.settings, &context.loaded.sources);
        let (key, policy) = match settings.backup_rotation_policy {
            Some(policy) => (SETTING, policy),
            None => ("DEFAULT_ROTATION_POLICY", settings.default_rotation_policy),
        };
        // A default is what the main file did not change.
        let source = match sources.get(key) {
            Some(Source::File(place)) => place.file.to_path_buf(),
            _ => context.loaded.main_file.clone(),
        };
        let event = |kind, previous: String| ConfigEvent {
            source: source.clone(),
            previous,
            applied_to: "all_vms".to_owned(),
            triggered_by: "load_rotation_config".to_owned(),
            ..ConfigEvent::new(kind, SETTING, policy.as_str())
        };
        if let Ok(Some(before)) = self.catalog.last_setting(SETTING) {
            if before != policy.as_str() {
                self.catalog.event(by, &event(ConfigEventKind::Changed, before));
            }
        }
        self.catalog.event(by, &event(ConfigEventKind::Loaded, String::new()));
    }

    /// Fails when a Bash program took the same lock in the same moment. To be asked before anything is touched.
    pub(super) fn confirm_lock(&self) -> Result<(), Failed> {
        self.lock.as_ref().map_or(Ok(()), SessionLock::confirm).map_err(lock_error)
    }

    /// Removes what is too old, as `LOG_KEEP_DAYS` says.
    pub(super) fn remove_old_logs(&self, keep_days: u32) {
        if keep_days == 0 {
            return;
        }
        let (state, logs) = (self.state.path().to_owned(), self.log_dir.clone());
        self.log.work(move || {
            let (removed, failed) = log::remove_old(&state, &logs, keep_days, SystemTime::now());
            if removed > 0 {
                tracing::info!(file_only = true, "{removed} log(s) older than {keep_days} days removed");
            }
            failed.iter().for_each(|what| tracing::warn!("An old log cannot be removed: {what}"));
        });
    }

    /// Copies the state folder once a day, and removes old copies. What fails is said, and stops nothing.
    pub(super) fn save_state(&self, keep_days: u32, clock: Clock, session: Option<SessionId>) {
        if keep_days == 0 {
            return;
        }
        let now = clock.local();
        match snapshot::take(&self.state, now.date(), |to| self.catalog.copy_to(to)) {
            Ok(None) => {}
            Ok(Some(copy)) => {
                tracing::info!(file_only = true, "The state folder was copied to {}", copy.display());
                let at = now.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
                let event = ConfigEvent {
                    detail: copy.display().to_string(),
                    source: copy,
                    triggered_by: "backup_state_files".to_owned(),
                    ..ConfigEvent::new(ConfigEventKind::StateBackup, "state_backup", &at)
                };
                self.catalog.event(Stamp { session, at: now.timestamp() }, &event);
            }
            Err(error) => {
                let path = self.state.path().display();
                tracing::warn!("{path} was not copied: {error}. Backups go on; the next session tries again");
            }
        }
        let (removed, failed) = snapshot::remove_old(&self.state, keep_days, now.date());
        if removed > 0 {
            tracing::info!(
                file_only = true,
                "{removed} copies of the state folder older than {keep_days} days removed"
            );
        }
        failed
            .iter()
            .for_each(|what| tracing::warn!("An old copy of the state folder cannot be removed: {what}"));
    }

    /// The last lines of a session: a marker, what else is to be said, and a block that nothing follows.
    pub(super) fn end(&self, marker: &str, more: &[String], results: &str) {
        tracing::info!(file_only = true, "===== {marker} =====");
        more.iter().for_each(|line| tracing::info!(file_only = true, "{line}"));
        let line = "=".repeat(HEADER_WIDTH);
        let now = Zoned::now().strftime("%Y-%m-%d %H:%M:%S");
        self.log.plain(&format!(
            "{line}\nVM Backup Session Ended: {now}\n{results}\nWhat deserves a look is marked WARN or ERROR above.\n{line}\n\n"
        ));
    }
}

/// What comes before a log file is opened, done by the thread of the log files, for it may hang: its folder is made, and a
/// file that has become old begins anew.
fn prepare_log(
    settings: &Settings,
    log_dir: PathBuf,
    log_file: PathBuf,
    begin_anew: bool,
) -> impl FnOnce() -> io::Result<()> + Send + 'static {
    let keep_days = settings.log_keep.get();
    let state = StateDir::of(settings.backup_path.as_path());
    move || {
        if begin_anew && keep_days > 0 {
            let today = Zoned::now().date();
            if let Err(error) = log::begin_anew_when_old(&log_file, keep_days, today) {
                tracing::warn!("Old log {} cannot be put aside: {error}", log_file.display());
            }
        }
        if log_dir.starts_with(state.path()) {
            // Never the backup path: an unmounted disk would be filled beside.
            state.make()?;
        }
        std::fs::create_dir_all(log_dir)
    }
}

/// Names the tree where nobody has, and says what was found.
fn settled(root: Root) -> Result<Root, Failed> {
    let path = root.place.clone();
    if root.standing == Standing::Emptied {
        tracing::warn!(
            "BACKUP_PATH was used before, on the same {path}, and has no _state/root.json now: it was emptied. Backups begin anew"
        );
    }
    let (root, failed) = root.settle().map_err(root_error)?;
    failed.iter().for_each(|what| tracing::warn!("Cannot note whose backups these are: {what}"));
    Ok(root)
}

fn head(log: &Log) {
    let line = "=".repeat(HEADER_WIDTH);
    let now = Zoned::now().strftime("%Y-%m-%d %H:%M:%S");
    log.plain(&format!(
        "\n{line}\nVM Backup Session Started: {now}\n{}{line}\n",
        help::version().replacen(' ', " v", 1)
    ));
}

/// Puts the owner of the backup path and of its state folder in order. What cannot be done is said, and stops nothing.
fn own(state: &StateDir, backup_path: &std::path::Path) -> Option<Ownership> {
    let closed = close_below(backup_path);
    if closed.changed > 0 {
        tracing::info!(
            "{} file(s) and folder(s) with keys could be read by others, and are root's alone now",
            closed.changed
        );
    }
    warn_of(closed.failed);
    let ownership = owner_on_host().map_err(|why| tracing::warn!("{why}")).ok()?;
    match ownership.bootstrap(backup_path) {
        Ok(Order::Ready) => {}
        Ok(Order::Given(swept)) => {
            let path = backup_path.display();
            tracing::info!("{path} and {} entries in it now belong to root:backup, mode 2750", swept.changed);
            warn_of(swept.failed);
        }
        Ok(Order::Shared { others, swept }) => {
            tracing::info!(
                "{} keeps its owner and mode, because it holds what is no backup: {}. {} entries of backups in it now belong \
                 to root:backup",
                backup_path.display(),
                few(&others, SHOWN_NAMES),
                swept.changed
            );
            warn_of(swept.failed);
        }
        // A file system without owners, such as a share.
        Err(error) => tracing::info!("{} keeps its owner: {error}", backup_path.display()),
    }
    warn_of(ownership.sweep(state.path()).failed);
    Some(ownership)
}

pub(super) fn warn_of(failed: Option<(String, u64)>) {
    if let Some((first, count)) = failed {
        tracing::warn!("The owner of {count} file(s) cannot be set, first of all {first}");
    }
}
