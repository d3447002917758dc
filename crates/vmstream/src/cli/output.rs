//! Where results, warnings and errors are written, and what is done when that fails.
//!
//! A result that nobody got is not success; a reader that has seen enough (`| head`) is no error.

use super::exit::Exit;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::os::fd::AsFd;
use std::sync::LazyLock;
use vmstream::terminal::Screen;
use vmstream::text;

/// Words that a person must not overlook.
const ALARMS: [&str; 4] = ["DAMAGED", "LOST", "WRONG", "DIFFERENT"];

const RED: &str = "\x1b[1;31m";
const PLAIN: &str = "\x1b[0m";

/// Standard output for the bytes of a disk, without a lock and its line buffer: whole windows go to a pipe as they are.
pub(super) fn raw_stdout() -> io::Result<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

/// Standard output, for a result that comes in parts.
pub(super) struct Out {
    out: BufWriter<Stdout>,
    coloured: bool,
    /// The first error; nothing is written after it.
    broken: Option<std::io::Error>,
}

impl Out {
    /// Plain text, with colours where a person looks.
    pub(super) fn text() -> Self {
        Self { coloured: wants_colour(), ..Self::json() }
    }

    /// For programs.
    pub(super) fn json() -> Self {
        Self { out: BufWriter::new(std::io::stdout()), coloured: false, broken: None }
    }

    /// Adds to the result.
    pub(super) fn say(&mut self, text: &str) {
        if self.broken.is_none() {
            let written = match self.coloured {
                true => self.out.write_all(coloured(text).as_bytes()),
                false => self.out.write_all(text.as_bytes()),
            };
            self.broken = written.err();
        }
    }

    /// Sends what was told so far on its way.
    pub(super) fn flush(&mut self) {
        if self.broken.is_none() {
            self.broken = self.out.flush().err();
        }
    }

    /// How the program ends when all of it was good.
    pub(super) fn finish(mut self) -> Exit {
        self.flush();
        // What could not be written is not tried again.
        let (_, _) = self.out.into_parts();
        match self.broken {
            Some(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                tell(&format!("error: Cannot write the result: {error}\n"));
                Exit::CannotTell
            }
            _ => Exit::Good,
        }
    }
}

/// Prints a whole result of text.
pub(super) fn say(text: &str) -> Exit {
    let mut out = Out::text();
    out.say(text);
    out.finish()
}

/// Prints a whole result as JSON.
pub(super) fn say_json(value: &serde_json::Value) -> Exit {
    let mut out = Out::json();
    out.say(&format!("{value:#}\n"));
    out.finish()
}

/// Prints a warning. Standard error may be closed or full: that is no reason to stop.
pub(super) fn warn(text: impl std::fmt::Display) {
    tell(&format!("warning: {text}\n"));
}

/// Writes to standard error, if that can be done, above what is drawn there. Whoever calls breaks a line only where another
/// statement begins: on a terminal the lines are wrapped here, for programs they stay as they are.
pub(super) fn tell(text: &str) {
    match io::stderr().is_terminal() {
        true => screen().print(&text::wrapped(text)),
        false => screen().print(text),
    }
}

/// What standard error shows.
pub(super) fn screen() -> Screen {
    static SCREEN: LazyLock<Screen> = LazyLock::new(|| Screen::new(io::stderr()));
    SCREEN.clone()
}

fn wants_colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && std::io::stdout().is_terminal()
}

fn coloured(text: &str) -> String {
    let mark = |text: String, word: &str| text.replace(word, &format!("{RED}{word}{PLAIN}"));
    ALARMS.into_iter().fold(text.to_owned(), mark)
}
