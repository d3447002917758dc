//! The last lines of a terminal: what is drawn there is drawn anew, and what is printed comes above it.
//!
//! Own code, for a reason: between two drawings the cursor stands right behind the last line, so that the `^C` a terminal shows is
//! part of what is cleared. Libraries fill lines up to the edge, where it begins another one.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A terminal. Cheap to clone.
#[derive(Clone)]
pub struct Screen {
    state: Arc<Mutex<State>>,
}

struct State {
    terminal: Box<dyn Write + Send>,
    /// What is drawn now; each line is shorter than the terminal is wide.
    drawn: Vec<String>,
}

impl Screen {
    /// With nothing drawn.
    pub fn new(terminal: impl Write + Send + 'static) -> Self {
        Self { state: Arc::new(Mutex::new(State { terminal: Box::new(terminal), drawn: vec![] })) }
    }

    /// Draws these lines in the place of those that are drawn; none: nothing stays. A terminal that is gone is no error of ours.
    pub fn draw(&self, lines: Vec<String>) {
        let mut state = self.lock();
        if state.drawn != lines {
            let _ = state.replace("", lines);
        }
    }

    /// Prints above what is drawn.
    pub fn print(&self, text: &str) {
        let mut state = self.lock();
        let drawn = state.drawn.clone();
        let _ = state.replace(&format!("{}\n", text.trim_end()), drawn);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// In one write, so that nothing comes in between.
    fn replace(&mut self, text: &str, lines: Vec<String>) -> io::Result<()> {
        let up = match self.drawn.len() {
            0 | 1 => String::new(),
            count => format!("\x1b[{}A", count - 1),
        };
        // Only where something is drawn may a line be cleared.
        let clear = if self.drawn.is_empty() { String::new() } else { format!("{up}\r\x1b[J") };
        let shown = lines.join("\n");
        self.drawn = lines;
        self.terminal.write_all(format!("{clear}{text}{shown}").as_bytes())?;
        self.terminal.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_printed_comes_above_what_is_drawn_and_nothing_stays() {
        let written = Written::default();
        let screen = Screen::new(written.clone());
        let said = || String::from_utf8(std::mem::take(&mut *written.0.lock().unwrap())).unwrap();
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        screen.print("before\n");
        assert_eq!(said(), "before\n");
        screen.draw(lines(&["one", "two"]));
        assert_eq!(said(), "one\ntwo");
        screen.draw(lines(&["one", "two"]));
        assert_eq!(said(), "", "nothing has changed");
        screen.print("a line");
        assert_eq!(said(), "\x1b[1A\r\x1b[Ja line\none\ntwo");
        screen.draw(lines(&["three"]));
        assert_eq!(said(), "\x1b[1A\r\x1b[Jthree");
        screen.draw(vec![]);
        assert_eq!(said(), "\r\x1b[J");
        screen.print("after");
        assert_eq!(said(), "after\n");
    }
}
