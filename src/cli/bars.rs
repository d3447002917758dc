//! A run as it is drawn on a terminal. Whoever copies only leaves numbers here, and never waits.
//!
//! Must not live here: what the lines say (`progress_lines`), what is said of a backup (`progress`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use vmstream::terminal::{Drawing, Pace, Screen};

use super::progress_lines::{DiskLine, RunLine, lines};
use crate::engine::watch::Watch;

/// What is drawn of a run. Cheap to clone.
#[derive(Clone)]
pub(super) struct Bars {
    drawing: Drawing,
    board: Arc<Board>,
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

impl Bars {
    /// Draws on this screen; nothing when there can be no thread for it. `size` tells columns and rows.
    pub(super) fn on(screen: Screen, size: impl Fn() -> (usize, usize) + Send + 'static) -> Option<Self> {
        let board = Arc::new(Board::default());
        let mut seen = SeenRun::of(Arc::clone(&board));
        let drawing = Drawing::start(screen, move || seen.lines(size()))?;
        Some(Self { drawing, board })
    }

    /// Where log lines go, so that they do not tear what is drawn. May block: not for a thread that copies.
    pub(super) fn screen(&self) -> Screen {
        self.drawing.screen()
    }

    /// Begins to draw: a run of so many VMs.
    pub(super) fn begin(&self, vms: usize) {
        self.board.vms.store(vms, Ordering::Relaxed);
        self.drawing.begin();
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
        self.drawing.clear();
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

/// The board, as it was seen for a while.
struct SeenRun {
    board: Arc<Board>,
    /// The disks that are copied still, in the order in which they began.
    disks: Vec<(Arc<Disk>, Pace)>,
    pace: Pace,
}

impl SeenRun {
    fn of(board: Arc<Board>) -> Self {
        Self { board, disks: vec![], pace: Pace::default() }
    }

    fn lines(&mut self, (columns, rows): (usize, usize)) -> Vec<String> {
        let on_board = self.board.disks().clone();
        self.follow(on_board);
        let now = Instant::now();
        let disks: Vec<_> = self.disks.iter_mut().map(|(disk, pace)| disk_line(disk, pace, now)).collect();
        let read_bytes = self.board.read_bytes.load(Ordering::Relaxed);
        let run = RunLine {
            vms: self.board.vms.load(Ordering::Relaxed),
            ended_vms: self.board.ended_vms.load(Ordering::Relaxed),
            disks: disks.len(),
            read_bytes,
            rate: self.pace.rate(now, read_bytes),
        };
        lines(&disks, &run, columns, rows)
    }

    fn follow(&mut self, disks: Vec<Arc<Disk>>) {
        self.disks.retain(|(known, _)| disks.iter().any(|disk| Arc::ptr_eq(known, disk)));
        for disk in disks {
            if !self.disks.iter().any(|(known, _)| Arc::ptr_eq(known, &disk)) {
                self.disks.push((disk, Pace::default()));
            }
        }
    }
}

fn disk_line<'a>(disk: &'a Disk, pace: &mut Pace, now: Instant) -> DiskLine<'a> {
    DiskLine {
        vm: &disk.vm,
        target: &disk.target,
        size_bytes: disk.size_bytes,
        position: disk.position.load(Ordering::Relaxed),
        rate: pace.rate(now, disk.read_bytes.load(Ordering::Relaxed)),
        elapsed: now.duration_since(disk.begun),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

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
        let bars = Bars::on(Screen::new(terminal.clone()), || (120, 24)).unwrap();
        bars.begin(1);
        let web = bars.of_vm("web");
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
        bars.vm_end();
        wait_until("the VM does not end", || {
            terminal.shows("VMs done: 1 of 1, disks under way: 0, read: 1.46 KiB")
        });

        let held = terminal.0.lock().unwrap();
        bars.clear();
        drop(held);
        wait_until("something stays", || terminal.0.lock().unwrap().ends_with("\r\x1b[J"));
    }
}
