//! A progress bar on a terminal, nothing elsewhere.

use std::io::IsTerminal;
use std::sync::{Arc, OnceLock};
use vmstream::terminal::{Come, OneBar};

/// What is drawn on: nothing where nobody looks.
static SHOWN: OnceLock<OneBar> = OnceLock::new();

/// Takes what is shown off the screen.
pub(super) fn leave() {
    SHOWN.get().into_iter().for_each(OneBar::clear);
}

/// How far a command has come. There is one bar at a time.
pub(crate) struct Bar {
    come: Arc<Come>,
}

impl Bar {
    /// A bar over so many bytes; hidden while these are none, and where nobody looks.
    pub(crate) fn new(total: u64) -> Self {
        let come = Come::new("", total);
        let is_terminal = std::io::stderr().is_terminal();
        SHOWN.get_or_init(|| OneBar::on(is_terminal.then(super::output::screen))).show(&come);
        Self { come }
    }

    /// Says over how many bytes, where that was not known before.
    pub(crate) fn set_total(&self, total: u64) {
        self.come.set_total(total);
    }

    /// Takes the bar off the screen.
    pub(crate) fn clear(&self) {
        leave();
    }
}

impl vmstream::verify::Watch for Bar {
    fn read(&self, bytes: u64) {
        self.come.read(bytes);
    }
}

impl vmstream::restore::Watch for Bar {
    fn progress(&self, at: u64, size: u64) {
        self.come.set_total(size);
        self.come.reach(at);
    }

    fn warning(&self, text: &str) {
        super::output::warn(text);
    }
}
