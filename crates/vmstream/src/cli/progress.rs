//! A progress bar on a terminal, nothing elsewhere.

use indicatif::{BinaryBytes, HumanDuration, ProgressBar, ProgressState, ProgressStyle};
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Before that, and before a hundredth, a guess would jump.
const GUESS_AFTER: Duration = Duration::from_secs(3);

/// At most 77 columns: behind it a terminal shows `^C`, which must not begin another line.
const STYLE: &str = "{bar:18} {percent:>3}%  {binary_bytes:>11} of {binary_total_bytes:11}  {left}";

/// What is shown now, so that it goes when somebody ends the program.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Takes what is shown off the screen.
pub(super) fn leave() {
    if let Some(bar) = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).take() {
        bar.finish_and_clear();
    }
}

/// How far a command has come.
pub(crate) struct Bar {
    bar: ProgressBar,
    /// It counts bytes that were read, so there is a rate; a place on a disk may be reached without reading.
    counts_reads: Arc<AtomicBool>,
}

impl Bar {
    /// A bar over so many bytes; hidden when nobody looks.
    pub(crate) fn new(total: u64) -> Self {
        let counts_reads = Arc::new(AtomicBool::new(false));
        if !std::io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden(), counts_reads };
        }
        let bar = ProgressBar::new(total);
        if let Ok(style) = ProgressStyle::with_template(STYLE) {
            let reads = Arc::clone(&counts_reads);
            let left = move |state: &ProgressState, out: &mut dyn Write| {
                if state.elapsed() < GUESS_AFTER || state.fraction() < 0.01 {
                    return;
                }
                if reads.load(Ordering::Relaxed) {
                    let _ = write!(out, "{}/s, ", BinaryBytes(state.per_sec() as u64));
                }
                let _ = write!(out, "{:#} left", HumanDuration(state.eta()));
            };
            bar.set_style(style.with_key("left", left));
        }
        *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
        Self { bar, counts_reads }
    }

    /// Says over how many bytes, where that was not known before.
    pub(crate) fn set_total(&self, total: u64) {
        self.bar.set_length(total);
    }

    /// Takes the bar off the screen.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl vmstream::verify::Watch for Bar {
    fn read(&self, bytes: u64) {
        self.counts_reads.store(true, Ordering::Relaxed);
        self.bar.inc(bytes);
    }
}

impl vmstream::restore::Watch for Bar {
    fn progress(&self, at: u64, size: u64) {
        self.bar.set_length(size);
        self.bar.set_position(at);
    }

    fn warning(&self, text: &str) {
        self.bar.suspend(|| super::output::warn(text));
    }
}
