//! A bar for one thing at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::{Bar, Drawing, Pace, Screen, size};

/// How far one thing has come. Whoever works leaves numbers here, and waits for nothing.
pub struct Come {
    name: String,
    begun: Instant,
    total: AtomicU64,
    position: AtomicU64,
    /// A place on a disk may be reached without reading, so there is a rate of what was read alone.
    read_bytes: AtomicU64,
}

impl Come {
    /// Nothing of so many bytes is done. Where these are none, nothing is shown until it is known how many. `name` may be empty.
    pub fn new(name: &str, total: u64) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            begun: Instant::now(),
            total: AtomicU64::new(total),
            position: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
        })
    }

    /// Says over how many bytes, where that was not known before.
    pub fn set_total(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// So many bytes more were read, and so much more is done.
    pub fn read(&self, bytes: u64) {
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.position.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It has come so far.
    pub fn reach(&self, position: u64) {
        self.position.store(position, Ordering::Relaxed);
    }
}

/// What is shown: one thing, or nothing.
pub struct OneBar {
    /// `None` where nobody looks.
    drawing: Option<Drawing>,
    shown: Arc<Mutex<Option<Arc<Come>>>>,
}

impl OneBar {
    /// Draws there; `None`: nowhere.
    pub fn on(screen: Option<Screen>) -> Self {
        let shown: Arc<Mutex<Option<Arc<Come>>>> = Arc::default();
        let (sees, mut seen) = (Arc::clone(&shown), None);
        let now = move || sees.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let lines = move || now().into_iter().filter_map(|come| line(&come, &mut seen)).collect();
        Self { drawing: screen.and_then(|screen| Drawing::start(screen, lines)), shown }
    }

    /// Shows this, and what was shown before no more.
    pub fn show(&self, come: &Arc<Come>) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(come));
        self.drawing.iter().for_each(Drawing::begin);
    }

    /// Takes it off the screen.
    pub fn clear(&self) {
        self.drawing.iter().for_each(Drawing::clear);
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
    let bar = Bar {
        name: come.name.clone(),
        size_bytes,
        position: come.position.load(Ordering::Relaxed),
        rate: pace.rate(now, come.read_bytes.load(Ordering::Relaxed)),
        elapsed: now.duration_since(come.begun),
    };
    Some(bar.line(size().0))
}
