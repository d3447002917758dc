//! The thread that starts programs, and collects those that nobody waits for any more.
//!
//! The kernel sends a program the signal it asked for when the *thread* ends that started it (prctl(2),
//! PR_SET_PDEATHSIG). So one thread starts them all, and lives as long as this process.

use std::io;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread;
use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::gettid;

/// How `setpriv`, and `prlimit` behind it, end when there is no such program (sysexits of util-linux: 127 not found, 126 not executable).
pub(super) const NOT_FOUND: i32 = 127;
pub(super) const NOT_EXECUTABLE: i32 = 126;

/// How often programs are looked at that were given up.
const COLLECT_EVERY: Duration = Duration::from_secs(1);

/// How long a start may take: what is to be started may itself be on dead storage.
const START_LIMIT: Duration = Duration::from_secs(30);

enum Request {
    Start(Box<Command>, SyncSender<io::Result<Child>>),
    Collect(Child),
}

struct Starter {
    requests: Sender<Request>,
    thread: Pid,
}

/// The thread, which is started at its first use.
fn starter() -> io::Result<&'static Starter> {
    static STARTER: OnceLock<Option<Starter>> = OnceLock::new();
    let begin = || {
        let (requests, queue) = mpsc::channel();
        let (told, thread) = mpsc::sync_channel(1);
        let body = move || {
            let _ = told.send(gettid());
            serve(&queue);
        };
        thread::Builder::new().name("programs".to_owned()).spawn(body).ok()?;
        Some(Starter { requests, thread: thread.recv().ok()? })
    };
    STARTER.get_or_init(begin).as_ref().ok_or_else(|| io::Error::other("there is no thread to start it"))
}

/// The thread that starts programs: they inherit its priorities.
pub fn thread_id() -> Option<u32> {
    let starter = starter().ok()?;
    u32::try_from(starter.thread.as_raw_nonzero().get()).ok()
}

/// Starts what is `setpriv` first.
pub(super) fn start(command: Command) -> io::Result<Child> {
    let (started, child) = mpsc::sync_channel(1);
    let gone = || io::Error::other("the thread that starts programs is gone");
    let request = Request::Start(Box::new(command), started);
    starter()?.requests.send(request).map_err(|_| gone())?;
    match child.recv_timeout(START_LIMIT) {
        Ok(child) => child.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => io::Error::new(e.kind(), "setpriv is missing (package util-linux)"),
            _ => e,
        }),
        Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
        Err(RecvTimeoutError::Disconnected) => Err(gone()),
    }
}

/// Takes over a program that was killed and has not ended.
pub(super) fn collect(child: Child) {
    if let Ok(starter) = starter() {
        let _ = starter.requests.send(Request::Collect(child));
    }
}

fn serve(queue: &Receiver<Request>) {
    let mut given_up: Vec<Child> = Vec::new();
    loop {
        let request = if given_up.is_empty() {
            queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            queue.recv_timeout(COLLECT_EVERY)
        };
        match request {
            Ok(Request::Start(mut command, started)) => {
                let child = command.spawn();
                // Nobody waits any more: it took too long.
                if let Err(mpsc::SendError(Ok(mut late))) = started.send(child) {
                    let _ = late.kill();
                    given_up.push(late);
                }
            }
            Ok(Request::Collect(child)) => given_up.push(child),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        given_up.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }
}
