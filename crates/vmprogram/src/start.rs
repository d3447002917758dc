//! The thread that starts programs, and collects those that nobody waits for any more.
//!
//! The kernel sends a program the signal it asked for when the *thread* ends that started it (prctl(2),
//! PR_SET_PDEATHSIG). So one thread starts them all, and lives as long as this process.
//!
//! A program closes, as it begins, each file that was open in the thread that started it, and so waits for the storage of
//! each: a log or a target that hangs would hold up every program. So the thread has a table of open files of its own, with
//! nothing in it but what was there when it began ([`begin`]).

use std::io;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::gettid;

use super::pipes::{self, Giver, Pipes, Taker};

/// How `setpriv`, and `prlimit` behind it, end when there is no such program (sysexits of util-linux: 127 not found, 126 not executable).
pub(super) const NOT_FOUND: i32 = 127;
pub(super) const NOT_EXECUTABLE: i32 = 126;

/// How often programs are looked at that were given up.
const COLLECT_EVERY: Duration = Duration::from_secs(1);

/// How long a start may take: what is to be started may itself be on dead storage.
const START_LIMIT: Duration = Duration::from_secs(30);

enum Request {
    Start { number: u64, command: Box<Command>, started: SyncSender<io::Result<Child>> },
    Collect(Child),
}

struct Starter {
    requests: Sender<Request>,
    thread: Pid,
    count: AtomicU64,
    pipes: Mutex<Taker>,
}

/// `None` when there can be none.
static STARTER: OnceLock<Option<Starter>> = OnceLock::new();

/// Starts the thread. `first` is what it does before anything else: it may give it files of its own. To be called before
/// this process opens any file; a thread that is started at its first use shares the files of all others.
pub fn begin(first: impl FnOnce() + Send + 'static) {
    STARTER.get_or_init(|| make(first).ok());
}

fn make(first: impl FnOnce() + Send + 'static) -> io::Result<Starter> {
    let (requests, queue) = mpsc::channel();
    let (told, thread) = mpsc::sync_channel(1);
    let (giver, taker) = pipes::ends()?;
    let body = move || {
        first();
        let _ = told.send(gettid());
        serve(&queue, &giver);
    };
    thread::Builder::new().name("programs".to_owned()).spawn(body)?;
    let thread = thread.recv().map_err(io::Error::other)?;
    Ok(Starter { requests, thread, count: AtomicU64::new(0), pipes: Mutex::new(taker) })
}

fn starter() -> io::Result<&'static Starter> {
    let starter = STARTER.get_or_init(|| make(|| {}).ok());
    starter.as_ref().ok_or_else(|| io::Error::other("there is no thread to start it"))
}

/// The thread that starts programs: they inherit its priorities.
pub fn thread_id() -> Option<u32> {
    let starter = starter().ok()?;
    u32::try_from(starter.thread.as_raw_nonzero().get()).ok()
}

/// Starts a program. Of its pipes it may say that they are to be made, and nothing else: an open file of ours is none of
/// the thread that starts it.
pub fn start(command: Command) -> io::Result<Child> {
    let starter = starter()?;
    let (started, child) = mpsc::sync_channel(1);
    let gone = || io::Error::other("the thread that starts programs is gone");
    let number = starter.count.fetch_add(1, Ordering::Relaxed);
    let request = Request::Start { number, command: Box::new(command), started };
    starter.requests.send(request).map_err(|_| gone())?;
    let mut child = match child.recv_timeout(START_LIMIT) {
        Ok(child) => child?,
        Err(RecvTimeoutError::Timeout) => return Err(io::ErrorKind::TimedOut.into()),
        Err(RecvTimeoutError::Disconnected) => return Err(gone()),
    };
    let pipes = starter.pipes.lock().unwrap_or_else(PoisonError::into_inner).take(number);
    match pipes {
        Ok(pipes) => pipes.put_into(&mut child),
        Err(error) => {
            let _ = child.kill();
            collect(child);
            return Err(error);
        }
    }
    Ok(child)
}

/// Takes over a program that was killed and has not ended. Not its pipes: in the thread's own table of files their numbers
/// are those of other files, or of none, and closing them there ends the process, or cuts the thread off.
pub(super) fn collect(mut child: Child) {
    drop((child.stdin.take(), child.stdout.take(), child.stderr.take()));
    if let Ok(starter) = starter() {
        let _ = starter.requests.send(Request::Collect(child));
    }
}

fn serve(queue: &Receiver<Request>, giver: &Giver) {
    let mut given_up: Vec<Child> = Vec::new();
    loop {
        let request = if given_up.is_empty() {
            queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            queue.recv_timeout(COLLECT_EVERY)
        };
        match request {
            Ok(Request::Start { number, mut command, started }) => {
                let mut child = command.spawn();
                let pipes = child.as_mut().map(Pipes::out_of).unwrap_or_default();
                match started.send(child) {
                    // Whoever gets none kills the program.
                    Ok(()) => drop(giver.give(number, &pipes)),
                    // Nobody waits any more: it took too long.
                    Err(mpsc::SendError(child)) => {
                        if let Ok(mut late) = child {
                            let _ = late.kill();
                            given_up.push(late);
                        }
                    }
                }
            }
            Ok(Request::Collect(child)) => given_up.push(child),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        given_up.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Stdio;
    use std::time::Instant;

    use super::*;

    #[test]
    fn of_a_program_that_is_given_up_the_pipes_are_closed_here_and_at_once() {
        let mut yes = Command::new("yes");
        yes.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = start(yes).expect("a program");
        let running = PathBuf::from(format!("/proc/{}", child.id()));
        collect(child);
        // It ends when nobody can read what it writes, and waits for ever where somebody could.
        let began = Instant::now();
        while running.exists() {
            assert!(began.elapsed() < Duration::from_secs(20), "a pipe of it is open still");
            thread::sleep(Duration::from_millis(20));
        }
    }
}
