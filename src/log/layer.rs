//! Takes events and brings each to the places that are to have it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crossbeam_channel::bounded;
use jiff::Zoned;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use super::file::{self, ForFiles, Opening};
use super::line::Line;
use super::queue::Queue;
use super::stderr::{self, ForStderr, Place, Printer};

/// How standard error is served.
pub struct LogSetup {
    /// Lines below it do not go there. Files get all.
    pub level: Level,
    /// What reads it.
    pub place: Place,
    /// Writes to it.
    pub printer: Printer,
}

/// The logs of this process. Cheap to clone. What is logged waits for no file and no terminal.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    level: Level,
    place: Place,
    files: Queue<ForFiles>,
    /// Their thread has not opened a file in time, and has not gone on since.
    is_late: Arc<AtomicBool>,
    stderr: Arc<Queue<ForStderr>>,
    /// The log of each VM that has one.
    vm_files: Mutex<BTreeMap<String, PathBuf>>,
    /// What deserves a look and is about no VM.
    warnings: Mutex<Vec<String>>,
}

/// So many warnings are remembered, for memory's sake. The log file has all.
const WARNINGS: usize = 1000;

/// How long whoever opens a file waits for that. Lines are kept for it longer.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

static STARTED: OnceLock<Log> = OnceLock::new();

/// Waits until what was logged is written, up to `limit` for files and for standard error each.
pub fn flush(limit: Duration) {
    if let Some(log) = STARTED.get() {
        log.flush(limit);
    }
}

/// What deserved a look since this process began and is about no VM, whatever level is shown: the first ones, in order.
pub fn warnings() -> Vec<String> {
    STARTED.get().map(|log| log.warnings().clone()).unwrap_or_default()
}

impl Log {
    /// Takes all events of this process from now on. Once in a process: later calls leave the first in force.
    pub fn start(setup: LogSetup) -> Self {
        let log = Self::new(setup);
        let subscriber = tracing_subscriber::registry().with(Collect(log.clone()));
        let _ = tracing::subscriber::set_global_default(subscriber);
        let _ = STARTED.set(log.clone());
        log
    }

    fn new(setup: LogSetup) -> Self {
        let LogSetup { level, place, printer } = setup;
        let stderr = Arc::new(stderr::serve(place, printer));
        let is_late = Arc::new(AtomicBool::new(false));
        let files = file::serve(place, Arc::clone(&stderr), Arc::clone(&is_late));
        let (vm_files, warnings) = (Mutex::default(), Mutex::default());
        Self { shared: Arc::new(Shared { level, place, files, is_late, stderr, vm_files, warnings }) }
    }

    /// From now on every line also goes to this file. `prepare` makes its folder, in the thread of the log files.
    ///
    /// # Errors
    /// Why it cannot be opened, or that it hangs: then it gets the lines once it is open.
    pub fn open_session(
        &self,
        path: &Path,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        self.open(None, vec![path.to_owned()], Box::new(prepare)).map(drop)
    }

    /// From now on the lines of this VM also go to the first of these files that can be opened.
    ///
    /// # Errors
    /// As those of [`Log::open_session`].
    pub fn open_vm(&self, vm: &str, paths: Vec<PathBuf>) -> io::Result<()> {
        let path = self.open(Some(vm.to_owned()), paths, Box::new(|| Ok(())))?;
        self.vm_files().insert(vm.to_owned(), path);
        Ok(())
    }

    /// Waits for what hangs once, and for nothing more until that goes on.
    fn open(
        &self,
        vm: Option<String>,
        paths: Vec<PathBuf>,
        prepare: Box<dyn FnOnce() -> io::Result<()> + Send>,
    ) -> io::Result<PathBuf> {
        let shared = &self.shared;
        let limit = if shared.is_late.load(Ordering::Acquire) { Duration::ZERO } else { OPEN_LIMIT };
        let (answer, answered) = bounded(1);
        let is_asked = shared.files.put_within(ForFiles::Open(Opening { vm, paths, prepare, answer }), limit);
        let opened = if is_asked { answered.recv_timeout(limit).ok() } else { None };
        opened.unwrap_or_else(|| {
            shared.is_late.store(true, Ordering::Release);
            let said =
                "its storage hangs. Nobody waits for it; it gets what was said, should it come back in time";
            Err(io::Error::new(io::ErrorKind::TimedOut, said))
        })
    }

    /// Has the thread of the log files do something that touches their storage.
    pub fn work(&self, work: impl FnOnce() + Send + 'static) {
        self.shared.files.put(ForFiles::Work(Box::new(work)));
    }

    /// The file that the lines of this VM also go to.
    pub fn vm_file(&self, vm: &str) -> Option<PathBuf> {
        self.vm_files().get(vm).cloned()
    }

    /// The VM's log is complete.
    pub fn close_vm(&self, vm: &str) {
        self.vm_files().remove(vm);
        self.shared.files.put(ForFiles::Close(vm.to_owned()));
    }

    /// Writes to the session's file as it is, without time and level.
    pub fn plain(&self, text: &str) {
        self.shared.files.put(ForFiles::Line { vm: None, text: text.to_owned() });
    }

    fn write(&self, line: &Line<'_>, file_only: bool) {
        let shared = &self.shared;
        if !file_only && line.vm.is_none() && line.level <= Level::WARN {
            let mut warnings = self.warnings();
            if warnings.len() < WARNINGS {
                warnings.push(line.message.to_owned());
            }
        }
        if !file_only && line.level <= shared.level {
            shared.stderr.put(ForStderr::Text(shared.place.text(line)));
        }
        let vm = line.vm.map(str::to_owned);
        shared.files.put(ForFiles::Line { vm, text: line.for_file() });
    }

    fn flush(&self, limit: Duration) {
        // In this order: what files have to complain of goes to standard error.
        if !self.shared.files.flush(ForFiles::Flush, limit) {
            let message = format!(
                "about {} line(s) are not in the log files: their storage hangs",
                self.shared.files.undone()
            );
            let text = self.shared.place.text(&Line::of_log(&Zoned::now(), &message));
            self.shared.stderr.put(ForStderr::Text(text));
        }
        self.shared.stderr.flush(ForStderr::Flush, limit);
    }

    fn warnings(&self) -> MutexGuard<'_, Vec<String>> {
        self.shared.warnings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn vm_files(&self) -> MutexGuard<'_, BTreeMap<String, PathBuf>> {
        self.shared.vm_files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogSetup {
    /// Writes straight to standard error, as `place` needs it.
    pub fn direct(level: Level, place: Place) -> Self {
        Self { level, place, printer: Box::new(stderr::print) }
    }
}

/// The VM that a span is about.
struct OfVm(String);

/// Brings events to a [`Log`].
struct Collect(Log);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collect {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.level() <= &Level::DEBUG
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let (Some(vm), Some(span)) = (fields.vm, context.span(id)) {
            span.extensions_mut().insert(OfVm(vm));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut doing = "-";
        if let Some(span) = context.event_span(event) {
            doing = span.name();
            let of_span = |span: tracing_subscriber::registry::SpanRef<'_, S>| {
                span.extensions().get::<OfVm>().map(|vm| vm.0.clone())
            };
            fields.vm = fields.vm.or_else(|| span.scope().find_map(of_span));
        }
        let module = event.metadata().module_path().unwrap_or_default();
        let line = Line {
            at: &Zoned::now(),
            level: *event.metadata().level(),
            module: module.split_once("::").map_or(module, |(_, inner)| inner),
            doing,
            vm: fields.vm.as_deref(),
            disk: fields.disk.as_deref(),
            message: &fields.message,
        };
        self.0.write(&line, fields.file_only);
    }
}

/// The fields that mean something here; others stand behind the message.
#[derive(Default)]
struct Fields {
    message: String,
    vm: Option<String>,
    disk: Option<String>,
    file_only: bool,
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "file_only" { self.file_only = value } else { self.record_debug(field, &value) }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "vm" => self.vm = Some(value.to_owned()),
            "disk" => self.disk = Some(value.to_owned()),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message.insert_str(0, &format!("{value:?}"));
        } else {
            self.message += &format!(" {}={value:?}", field.name());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_goes_where_it_belongs() {
        let dir = tempfile::tempdir().unwrap();
        let shown = Arc::new(Mutex::new(String::new()));
        let printer = {
            let shown = Arc::clone(&shown);
            Box::new(move |text: &str| shown.lock().unwrap().push_str(text))
        };
        let place = Place::Terminal { colors: false };
        let setup = LogSetup { level: Level::INFO, place, printer };
        let log = Log::new(setup);
        let subscriber = tracing_subscriber::registry().with(Collect(log.clone()));
        let name = |name: &str| dir.path().join(name);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("before any file");
            log.open_session(&name("vmbackup.log"), || Ok(())).unwrap();
            log.open_vm("web", vec![dir.path().join("none/web.log"), name("web.log")]).unwrap();
            assert_eq!(log.vm_file("web"), Some(name("web.log")));
            log.plain("====\n");
            tracing::debug!(number = 7, "detail");
            tracing::info!(file_only = true, "║ box");
            {
                let _span = tracing::info_span!("back_up", vm = "web").entered();
                tracing::warn!(disk = "vda", "slow");
                let _inner = tracing::info_span!("copy").entered();
                tracing::info!("copied");
            }
            let other = String::from("db");
            tracing::error!(vm = other, "failed");
            log.close_vm("web");
            tracing::info!(vm = "web", "after");
            tracing::warn!("about no VM");
            tracing::warn!(file_only = true, "for the file");
        });
        assert_eq!(*log.warnings(), ["about no VM"]);
        log.flush(Duration::from_secs(60));
        let shown = shown.lock().unwrap().clone();
        assert_eq!(
            shown,
            " INFO before any file\n WARN web vda: slow\n INFO web: copied\nERROR db: failed\n INFO web: after\n WARN about no VM\n"
        );
        let without_time = |file: &str| {
            let text = std::fs::read_to_string(name(file)).unwrap();
            let line = |line: &str| line.split_once("] ").map_or(line, |(_, rest)| rest).to_owned() + "\n";
            text.lines().map(line).collect::<String>()
        };
        let at = "[log::layer::tests]";
        let of_web = format!("[WARN] {at} [back_up] web vda: slow\n[INFO] {at} [copy] web: copied\n");
        assert_eq!(without_time("web.log"), of_web);
        let all = format!(
            "====\n[DEBUG] {at} [-] detail number=7\n[INFO] {at} [-] ║ box\n{of_web}[ERROR] {at} [-] db: failed\n[INFO] {at} [-] web: after\n[WARN] {at} [-] about no VM\n[WARN] {at} [-] for the file\n"
        );
        assert_eq!(without_time("vmbackup.log"), all);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_said_once_and_stops_nothing() {
        let shown = Arc::new(Mutex::new(String::new()));
        let printer = {
            let shown = Arc::clone(&shown);
            Box::new(move |text: &str| shown.lock().unwrap().push_str(text))
        };
        let setup = LogSetup { level: Level::ERROR, place: Place::Journal, printer };
        let log = Log::new(setup);
        log.open_session(Path::new("/dev/full"), || Ok(())).unwrap();
        let subscriber = tracing_subscriber::registry().with(Collect(log.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("one");
            tracing::info!("two");
        });
        log.flush(Duration::from_secs(60));
        let shown = shown.lock().unwrap().clone();
        assert!(shown.starts_with("<4>Log file /dev/full cannot be written"), "{shown}");
        assert_eq!(shown.lines().count(), 1, "{shown}");
    }

    #[test]
    fn a_log_is_not_written_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("vmbackup.log");
        std::os::unix::fs::symlink(dir.path().join("precious"), &link).unwrap();
        let setup = LogSetup::direct(Level::ERROR, Place::File);
        let log = Log::new(setup);
        assert!(log.open_session(&link, || Ok(())).is_err());
        assert!(!dir.path().join("precious").exists());
    }
}
