//! What is at the other end of standard error, and so how a line has to look there.

use std::io::{IsTerminal, Write};
use std::os::unix::fs::MetadataExt;

use crossbeam_channel::Sender;

use super::line::Line;
use super::queue::Queue;

/// Writes finished lines to standard error: around progress bars where there are any.
pub type Printer = Box<dyn Fn(&str) + Send + Sync>;

/// What reads standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Somebody at a terminal.
    Terminal {
        /// Whether it shows colours.
        colors: bool,
    },
    /// systemd-journald, which knows the time, and takes the level from a prefix.
    Journal,
    /// A file or a pipe: the same lines as in the log file.
    File,
    /// A program that reads JSON lines.
    Programs,
}

impl Place {
    /// Looks at standard error. `environment` gives a variable of the process.
    pub fn of_stderr(environment: impl Fn(&str) -> Option<String>) -> Self {
        if std::io::stderr().is_terminal() {
            return Self::Terminal { colors: environment("NO_COLOR").is_none_or(|value| value.is_empty()) };
        }
        let stream = environment("JOURNAL_STREAM");
        if stream.is_some_and(|stream| is_stderr(&stream)) { Self::Journal } else { Self::File }
    }

    pub(super) fn text(self, line: &Line<'_>) -> String {
        match self {
            Self::Terminal { colors } => line.for_terminal(colors),
            Self::Journal => line.for_journal(),
            Self::File => line.for_file(),
            Self::Programs => line.for_programs(),
        }
    }
}

/// Whether `JOURNAL_STREAM` still speaks of our standard error, which may have been redirected since.
///
/// Source: systemd.exec(5): device and inode number in decimal, with a colon between.
fn is_stderr(stream: &str) -> bool {
    let ours = std::fs::metadata("/proc/self/fd/2");
    ours.is_ok_and(|ours| stream == format!("{}:{}", ours.dev(), ours.ino()))
}

/// What the thread of standard error is to do.
pub(super) enum ForStderr {
    Text(String),
    /// Dropped when all before is written.
    Flush(#[expect(dead_code, reason = "dropping it is the answer")] Sender<()>),
}

/// Starts the thread that writes to standard error: it may be a terminal that is held, or a file on a target that hangs.
pub(super) fn serve(place: Place, printer: Printer) -> Queue<ForStderr> {
    Queue::start("log-stderr", move |job, dropped| {
        if dropped > 0 {
            let message = format!("{dropped} line(s) are missing here: they came faster than they were read");
            printer(&place.text(&Line::of_log(&jiff::Zoned::now(), &message)));
        }
        if let ForStderr::Text(text) = job {
            printer(&text);
        }
    })
}

/// Writes to standard error itself. One that is closed is no reason to stop a backup.
pub(super) fn print(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
