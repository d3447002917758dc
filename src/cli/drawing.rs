//! Lines on a terminal, drawn by a thread of its own: a terminal that is held (Ctrl-S, an ssh that stalls) holds nobody else.
//!
//! Must not live here: what the lines say (`progress_lines`), what is said of a backup (`progress`). Whoever copies only leaves
//! numbers here.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::progress_lines::{DiskLine, RunLine, lines};
use super::screen::Screen;
use crate::engine::watch::Watch;

/// How often the lines are drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// How long the terminal may take to be clean.
const CLEAR_LIMIT: Duration = Duration::from_millis(500);

/// A rate is that of so long.
const RATE_OVER: Duration = Duration::from_secs(10);

/// A rate of less would jump.
const RATE_AFTER: Duration = Duration::from_secs(1);

/// The terminal and what is drawn on it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Drawing {
    screen: Screen,
    board: Arc<Board>,
    draws: Thread,
}

/// What the thread that draws is told.
#[derive(Default)]
struct Board {
    /// Disks that are copied.
    disks: Mutex<Vec<Arc<Disk>>>,
    /// Of the run.
    vms: AtomicUsize,
    ended_vms: AtomicUsize,
    read_bytes: AtomicU64,
    /// Between the begin of the run and the moment from which on the terminal is somebody else's.
    is_on: AtomicBool,
    is_clean: AtomicBool,
}

/// One disk, as far as its copy has come.
struct Disk {
    vm: String,
    target: String,
    size_bytes: u64,
    begun: Instant,
    position: AtomicU64,
    read_bytes: AtomicU64,
}

impl Drawing {
    /// Draws in a thread that ends with the process; nothing when there can be none. `size` tells columns and rows.
    pub(super) fn start(screen: Screen, size: impl Fn() -> (usize, usize) + Send + 'static) -> Option<Self> {
        let board = Arc::new(Board::default());
        let (sees, draws_on) = (Arc::clone(&board), screen.clone());
        let work = move || draw(&sees, &draws_on, size);
        let thread = thread::Builder::new().name("bars".into()).spawn(work).ok()?;
        Some(Self { screen, board, draws: thread.thread().clone() })
    }

    /// Where log lines go, so that they do not tear what is drawn. May block: not for a thread that copies.
    pub(super) fn screen(&self) -> Screen {
        self.screen.clone()
    }

    /// Begins to draw: a run of so many VMs.
    pub(super) fn begin(&self, vms: usize) {
        self.board.vms.store(vms, Ordering::Relaxed);
        self.board.is_clean.store(false, Ordering::Release);
        self.board.is_on.store(true, Ordering::Release);
        self.draws.unpark();
    }

    /// One more of its VMs has ended.
    pub(super) fn vm_end(&self) {
        self.board.ended_vms.fetch_add(1, Ordering::Relaxed);
    }

    /// The disks of one VM.
    pub(super) fn of_vm(&self, domain: &str) -> DiskBars {
        DiskBars { domain: domain.to_owned(), board: Arc::clone(&self.board), disks: Mutex::default() }
    }

    /// Draws no more, and waits until the terminal is clean, but not for one that is held.
    pub(super) fn clear(&self) {
        if !self.board.is_on.swap(false, Ordering::AcqRel) {
            return;
        }
        self.draws.unpark();
        let until = Instant::now() + CLEAR_LIMIT;
        while !self.board.is_clean.load(Ordering::Acquire) && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Board {
    fn disks(&self) -> MutexGuard<'_, Vec<Arc<Disk>>> {
        self.disks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes what comes of the disks of one VM. Never waits for the terminal.
pub(super) struct DiskBars {
    domain: String,
    board: Arc<Board>,
    disks: Mutex<HashMap<String, Arc<Disk>>>,
}

impl DiskBars {
    fn own(&self) -> MutexGuard<'_, HashMap<String, Arc<Disk>>> {
        self.disks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for DiskBars {
    fn disk_begin(&self, target: &str, size_bytes: u64) {
        // One that is copied again.
        self.disk_end(target);
        let disk = Arc::new(Disk {
            vm: self.domain.clone(),
            target: target.to_owned(),
            size_bytes,
            begun: Instant::now(),
            position: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
        });
        self.own().insert(target.to_owned(), Arc::clone(&disk));
        self.board.disks().push(disk);
    }

    fn disk_advance(&self, target: &str, position: u64, copied_bytes: u64) {
        if let Some(disk) = self.own().get(target) {
            disk.position.store(position, Ordering::Relaxed);
            disk.read_bytes.fetch_add(copied_bytes, Ordering::Relaxed);
            self.board.read_bytes.fetch_add(copied_bytes, Ordering::Relaxed);
        }
    }

    fn disk_end(&self, target: &str) {
        if let Some(ended) = self.own().remove(target) {
            self.board.disks().retain(|disk| !Arc::ptr_eq(disk, &ended));
        }
    }
}

/// Bytes that were read, as they were seen for a while.
#[derive(Default)]
struct Seen(VecDeque<(Instant, u64)>);

impl Seen {
    /// Bytes a second of late; `None` while that cannot be told, and before anything was read.
    fn rate(&mut self, now: Instant, bytes: u64) -> Option<u64> {
        self.0.push_back((now, bytes));
        while self.0.len() > 2 && self.0.front().is_some_and(|(at, _)| now.duration_since(*at) > RATE_OVER) {
            self.0.pop_front();
        }
        let (since, before) = *self.0.front()?;
        let time = now.duration_since(since);
        (time >= RATE_AFTER && bytes > 0).then(|| ((bytes - before) as f64 / time.as_secs_f64()) as u64)
    }
}

/// Draws for ever. Holds no lock of the board while it does.
fn draw(board: &Board, screen: &Screen, size: impl Fn() -> (usize, usize)) {
    let (mut of_disks, mut of_run) = (Vec::new(), Seen::default());
    loop {
        if !board.is_on.load(Ordering::Acquire) {
            screen.draw(vec![]);
            board.is_clean.store(true, Ordering::Release);
            thread::park();
            continue;
        }
        follow(&mut of_disks, board.disks().clone());
        let now = Instant::now();
        let disk_lines: Vec<DiskLine<'_>> =
            of_disks.iter_mut().map(|(disk, seen)| disk_line(disk, seen, now)).collect();
        let read_bytes = board.read_bytes.load(Ordering::Relaxed);
        let run = RunLine {
            vms: board.vms.load(Ordering::Relaxed),
            ended_vms: board.ended_vms.load(Ordering::Relaxed),
            disks: disk_lines.len(),
            read_bytes,
            rate: of_run.rate(now, read_bytes),
        };
        let (columns, rows) = size();
        board.is_clean.store(false, Ordering::Release);
        screen.draw(lines(&disk_lines, &run, columns, rows));
        thread::park_timeout(DRAW_EVERY);
    }
}

/// Keeps what was seen of the disks that are copied still, in the order in which they began.
fn follow(of_disks: &mut Vec<(Arc<Disk>, Seen)>, disks: Vec<Arc<Disk>>) {
    of_disks.retain(|(known, _)| disks.iter().any(|disk| Arc::ptr_eq(known, disk)));
    for disk in disks {
        if !of_disks.iter().any(|(known, _)| Arc::ptr_eq(known, &disk)) {
            of_disks.push((disk, Seen::default()));
        }
    }
}

fn disk_line<'a>(disk: &'a Disk, seen: &mut Seen, now: Instant) -> DiskLine<'a> {
    DiskLine {
        vm: &disk.vm,
        target: &disk.target,
        size_bytes: disk.size_bytes,
        position: disk.position.load(Ordering::Relaxed),
        rate: seen.rate(now, disk.read_bytes.load(Ordering::Relaxed)),
        elapsed: now.duration_since(disk.begun),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::mpsc;

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

    impl Write for Terminal {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
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
        let drawing = Drawing::start(Screen::new(terminal.clone()), || (120, 24)).unwrap();
        drawing.begin(1);
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
                tell.send(()).unwrap();
            });
            let ended = told.recv_timeout(LONG);
            drop(held);
            assert!(ended.is_ok(), "the terminal holds the copy");
        });
        wait_until("the next disk is not drawn", || terminal.shows("web vdb"));
        wait_until("it does not advance", || terminal.shows(" 50%"));
        web.disk_end("vdb");
        drawing.vm_end();
        wait_until("the VM does not end", || {
            terminal.shows("VMs done: 1 of 1, disks under way: 0, read: 1.46 KiB")
        });

        let held = terminal.0.lock().unwrap();
        drawing.clear();
        drop(held);
        wait_until("something stays", || drawing.board.is_clean.load(Ordering::Acquire));
    }
}
