//! Bars on a terminal, drawn by a thread of its own: a terminal that is held (Ctrl-S, an ssh that stalls) holds nobody else.
//!
//! Must not live here: what is said of a backup (`progress`, `summary`). Whoever copies only leaves numbers here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::engine::watch::Watch;
use vmstream::text::size;

/// How often the bars are drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// How long the terminal may take to show that no disk is copied any more.
const CLEAR_LIMIT: Duration = Duration::from_millis(500);

/// The terminal and its bars.
pub(super) struct Drawing {
    bars: MultiProgress,
    board: Arc<Board>,
    draws: Thread,
}

/// What the thread that draws is told.
#[derive(Default)]
struct Board {
    /// Disks that have no bar yet.
    new: Mutex<Vec<Arc<Disk>>>,
    /// How many disks have begun and are not cleared away yet.
    shown: AtomicUsize,
}

/// One disk, as far as its copy has come.
struct Disk {
    label: String,
    size_bytes: u64,
    position: AtomicU64,
    has_data: AtomicBool,
    has_ended: AtomicBool,
}

impl Drawing {
    /// Draws in a thread that ends with the process; without bars when there can be none.
    pub(super) fn start(bars: MultiProgress) -> Option<Self> {
        let board = Arc::new(Board::default());
        let (sees, draws_on) = (Arc::clone(&board), bars.clone());
        let thread = thread::Builder::new().name("bars".into()).spawn(move || draw(&sees, &draws_on)).ok()?;
        Some(Self { bars, board, draws: thread.thread().clone() })
    }

    /// Where log lines go, so that they do not tear the bars. May block: not for a thread that copies.
    pub(super) fn bars(&self) -> MultiProgress {
        self.bars.clone()
    }

    /// The bars of one VM.
    pub(super) fn of_vm(&self, domain: &str) -> DiskBars {
        DiskBars {
            domain: domain.to_owned(),
            board: Arc::clone(&self.board),
            draws: self.draws.clone(),
            disks: Mutex::default(),
        }
    }

    /// Waits until no bar is left, but not for a terminal that is held.
    pub(super) fn clear(&self) {
        let until = Instant::now() + CLEAR_LIMIT;
        while self.board.shown.load(Ordering::Acquire) > 0 && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Board {
    fn begun(&self) -> MutexGuard<'_, Vec<Arc<Disk>>> {
        self.new.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes what comes of the disks of one VM. Never waits for the terminal.
pub(super) struct DiskBars {
    domain: String,
    board: Arc<Board>,
    draws: Thread,
    disks: Mutex<HashMap<String, Arc<Disk>>>,
}

impl DiskBars {
    fn disks(&self) -> MutexGuard<'_, HashMap<String, Arc<Disk>>> {
        self.disks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, disk: &Disk) {
        disk.has_ended.store(true, Ordering::Release);
        self.draws.unpark();
    }
}

impl Watch for DiskBars {
    fn disk_begin(&self, target: &str, size_bytes: u64) {
        let disk = Arc::new(Disk {
            label: format!("{} {target}", self.domain),
            size_bytes,
            position: AtomicU64::new(0),
            has_data: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
        });
        self.board.shown.fetch_add(1, Ordering::AcqRel);
        self.board.begun().push(Arc::clone(&disk));
        let before = self.disks().insert(target.to_owned(), disk);
        before.map_or_else(|| self.draws.unpark(), |before| self.end(&before));
    }

    fn disk_advance(&self, target: &str, position: u64, copied_bytes: u64) {
        if let Some(disk) = self.disks().get(target) {
            disk.position.store(position, Ordering::Relaxed);
            disk.has_data.fetch_or(copied_bytes > 0, Ordering::Relaxed);
        }
    }

    fn disk_end(&self, target: &str) {
        let ended = self.disks().remove(target);
        if let Some(disk) = ended {
            self.end(&disk);
        }
    }
}

/// Draws for ever. Holds no lock of the board while it does.
fn draw(board: &Board, bars: &MultiProgress) {
    let mut drawn: Vec<(Arc<Disk>, ProgressBar)> = Vec::new();
    loop {
        if drawn.is_empty() {
            thread::park();
        } else {
            thread::park_timeout(DRAW_EVERY);
        }
        let new = std::mem::take(&mut *board.begun());
        drawn.extend(new.into_iter().map(|disk| {
            let bar = bar_of(&disk, bars);
            (disk, bar)
        }));
        drawn.retain(|(disk, bar)| {
            if disk.has_ended.load(Ordering::Acquire) {
                bar.finish_and_clear();
                board.shown.fetch_sub(1, Ordering::AcqRel);
                return false;
            }
            bar.set_position(disk.position.load(Ordering::Relaxed));
            if disk.has_data.load(Ordering::Relaxed) {
                bar.set_message(format!("{}/s", size(bar.per_sec() as u64)));
            }
            true
        });
    }
}

fn bar_of(disk: &Disk, bars: &MultiProgress) -> ProgressBar {
    let style = "{prefix:24!} [{bar:24}] {percent:>3}% {bytes:>11} of {total_bytes:<11} {msg} {eta:>4} left";
    let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = bars.add(ProgressBar::new(disk.size_bytes).with_style(style.progress_chars("=> ")));
    bar.set_prefix(disk.label.clone());
    bar
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc;

    use indicatif::{ProgressDrawTarget, TermLike};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Keeps what is written; does not come back while somebody holds it.
    #[derive(Clone, Debug, Default)]
    struct Terminal(Arc<Mutex<String>>);

    impl Terminal {
        fn shows(&self, words: &str) -> bool {
            self.0.lock().unwrap().contains(words)
        }
    }

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            120
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            self.write_str("")
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn wait_until(what: &str, is_so: impl Fn() -> bool) {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < LONG, "{what}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_terminal_that_is_held_holds_no_copy_and_shows_it_afterwards() {
        let terminal = Terminal::default();
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let drawing = Drawing::start(MultiProgress::with_draw_target(target)).unwrap();
        let web = drawing.of_vm("web");
        web.disk_begin("vda", 1000);
        wait_until("the bar is not drawn", || terminal.shows("web vda"));

        let held = terminal.0.lock().unwrap();
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                for position in 0..100 {
                    web.disk_advance("vda", position * 10, 10);
                    thread::sleep(Duration::from_millis(5));
                }
                web.disk_end("vda");
                web.disk_begin("vdb", 1000);
                web.disk_advance("vdb", 500, 500);
                drawing.clear();
                tell.send(()).unwrap();
            });
            let ended = told.recv_timeout(LONG);
            drop(held);
            assert!(ended.is_ok(), "the terminal holds the copy");
        });
        wait_until("the next bar is not drawn", || terminal.shows("web vdb"));
        wait_until("it does not advance", || terminal.shows(" 50%"));
        web.disk_end("vdb");
        wait_until("a bar stays", || drawing.board.shown.load(Ordering::Acquire) == 0);
    }
}
