//! A progress bar on a terminal, nothing elsewhere.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;
use vmstream::terminal::{self, Drawing, Pace};

/// What is drawn on: nothing where nobody looks.
static DRAWING: OnceLock<Option<Drawing>> = OnceLock::new();

/// What is drawn now.
static SHOWN: Mutex<Option<Arc<Come>>> = Mutex::new(None);

/// Takes what is shown off the screen.
pub(super) fn leave() {
    if let Some(Some(drawing)) = DRAWING.get() {
        drawing.clear();
    }
}

fn drawing() -> Option<&'static Drawing> {
    let start = || {
        let mut seen = None;
        let lines = move || shown().into_iter().filter_map(|come| line(&come, &mut seen)).collect();
        let is_terminal = std::io::stderr().is_terminal();
        is_terminal.then(|| Drawing::start(super::output::screen(), lines)).flatten()
    };
    DRAWING.get_or_init(start).as_ref()
}

fn shown() -> Option<Arc<Come>> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// How far a command has come. There is one bar at a time.
pub(crate) struct Bar {
    come: Arc<Come>,
}

struct Come {
    begun: Instant,
    total: AtomicU64,
    position: AtomicU64,
    /// A place on a disk may be reached without reading, so there is a rate of what was read alone.
    read_bytes: AtomicU64,
}

impl Bar {
    /// A bar over so many bytes; hidden while these are none, and where nobody looks.
    pub(crate) fn new(total: u64) -> Self {
        let come = Arc::new(Come {
            begun: Instant::now(),
            total: AtomicU64::new(total),
            position: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
        });
        if let Some(drawing) = drawing() {
            *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&come));
            drawing.begin();
        }
        Self { come }
    }

    /// Says over how many bytes, where that was not known before.
    pub(crate) fn set_total(&self, total: u64) {
        self.come.total.store(total, Ordering::Relaxed);
    }

    /// Takes the bar off the screen.
    pub(crate) fn clear(&self) {
        leave();
    }
}

impl vmstream::verify::Watch for Bar {
    fn read(&self, bytes: u64) {
        self.come.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.come.position.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl vmstream::restore::Watch for Bar {
    fn progress(&self, at: u64, size: u64) {
        self.come.total.store(size, Ordering::Relaxed);
        self.come.position.store(at, Ordering::Relaxed);
    }

    fn warning(&self, text: &str) {
        super::output::warn(text);
    }
}

/// The line of what is shown; the pace of another is forgotten.
fn line(come: &Arc<Come>, seen: &mut Option<(Arc<Come>, Pace)>) -> Option<String> {
    let size_bytes = come.total.load(Ordering::Relaxed);
    if size_bytes == 0 {
        return None;
    }
    seen.take_if(|(seen, _)| !Arc::ptr_eq(seen, come));
    let (_, pace) = seen.get_or_insert_with(|| (Arc::clone(come), Pace::default()));
    let now = Instant::now();
    let bar = terminal::Bar {
        name: String::new(),
        size_bytes,
        position: come.position.load(Ordering::Relaxed),
        rate: pace.rate(now, come.read_bytes.load(Ordering::Relaxed)),
        elapsed: now.duration_since(come.begun),
    };
    Some(bar.line(terminal::size().0))
}
