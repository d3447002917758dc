//! A progress bar on a terminal, nothing elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;

/// How far a command has come.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar over so many bytes; hidden when nobody looks.
    pub(crate) fn new(total: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(total);
        let style =
            "{bar:30} {percent:>3}%  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Says over how many bytes, where that was not known before.
    pub(crate) fn set_total(&self, total: u64) {
        self.0.set_length(total);
    }

    /// Takes the bar off the screen.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

impl vmstream::verify::Watch for Bar {
    fn read(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl vmstream::restore::Watch for Bar {
    fn progress(&self, at: u64, size: u64) {
        self.0.set_length(size);
        self.0.set_position(at);
    }

    fn warning(&self, text: &str) {
        self.0.suspend(|| super::output::warn(text));
    }
}
