//! A progress bar on a terminal, with rate and time left; nothing elsewhere.

use std::io::IsTerminal;
use std::sync::{Arc, OnceLock};

use vmstream::terminal::{Come, OneBar};

use super::say::screen;

/// What is drawn on: nothing where nobody looks.
static SHOWN: OnceLock<OneBar> = OnceLock::new();

/// Takes what is shown off the screen.
pub(super) fn leave() {
    SHOWN.get().into_iter().for_each(OneBar::clear);
}

/// How far one thing has come: a set that is read. There is one bar at a time; it goes when this is dropped.
pub(super) struct Bar {
    come: Arc<Come>,
}

impl Bar {
    pub(super) fn new(name: &str, bytes: u64) -> Self {
        let come = Come::new(name, bytes);
        let is_terminal = std::io::stderr().is_terminal();
        SHOWN.get_or_init(|| OneBar::on(is_terminal.then(screen))).show(&come);
        Self { come }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        leave();
    }
}

impl vmstream::verify::Watch for Bar {
    fn read(&self, bytes: u64) {
        self.come.read(bytes);
    }
}
