//! The thread that starts programs, and collects those that nobody waits for any more.
//!
//! The kernel sends a program the signal it asked for when the *thread* ends that started it (prctl(2),
//! PR_SET_PDEATHSIG). So one thread starts them all, and lives as long as this process.
//!
//! It has a table of open files of its own (unshare(2), CLONE_FILES), if that was asked for early enough
//! ([`keep_files_apart`]). A program begins with a copy of its starter's files and closes them when it is executed, and
//! closing a file asks its file system to flush it: one log or target that hangs would keep every program from starting.
//! The ends of a program's pipes are sent to the thread over a socket; nothing that it opens is seen by others.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitOptions};
use rustix::thread::{UnshareFlags, gettid};

use super::Program;

/// How `setpriv` ends when there is no such program (sysexits of util-linux: 127 not found, 126 not executable).
pub(super) const NOT_FOUND: i32 = 127;
pub(super) const NOT_EXECUTABLE: i32 = 126;

/// How often programs are looked at that were given up.
const COLLECT_EVERY: Duration = Duration::from_secs(1);

/// How long a start may take: what is to be started may itself be on dead storage.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The most ends of pipes that one program gets.
const PIPES: usize = 3;

enum Request {
    /// With the ends of its pipes, which are in the socket: standard output, error, and input if it has one.
    Start(Box<Command>, Option<u64>, SyncSender<io::Result<Pid>>),
    /// Without pipes.
    Collect(Started),
}

/// A program that was started, and our ends of its pipes.
pub(super) struct Started {
    pid: Pid,
    ended: Option<ExitStatus>,
    pub(super) stdin: Option<File>,
    pub(super) stdout: Option<File>,
    pub(super) stderr: Option<File>,
}

impl Started {
    /// How it ended, if it has.
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            let waited = rustix::process::waitpid(Some(self.pid), WaitOptions::NOHANG)?;
            self.ended = waited.map(|(_, status)| ExitStatus::from_raw(status.as_raw()));
        }
        Ok(self.ended)
    }

    /// Its number is its own until it was waited for.
    pub(super) fn kill(&mut self) {
        if self.ended.is_none() {
            let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        }
    }
}

struct Starter {
    requests: Sender<Request>,
    /// Locked for one request and its pipes at a time, so that they come in one order.
    pipes: Mutex<UnixStream>,
    thread: Pid,
}

/// The thread, which is started at its first use.
fn starter(own_files: bool) -> io::Result<&'static Starter> {
    static STARTER: OnceLock<Option<Starter>> = OnceLock::new();
    let begin = || {
        let (requests, queue) = mpsc::channel();
        let (told, thread) = mpsc::sync_channel(1);
        let (pipes, incoming) = UnixStream::pair().ok()?;
        let body = move || {
            if own_files {
                unshare_files();
            }
            let _ = told.send(gettid());
            serve(&queue, &incoming);
        };
        thread::Builder::new().name("programs".to_owned()).spawn(body).ok()?;
        Some(Starter { requests, pipes: Mutex::new(pipes), thread: thread.recv().ok()? })
    };
    STARTER.get_or_init(begin).as_ref().ok_or_else(|| io::Error::other("there is no thread to start it"))
}

/// Keeps the files that this process opens from now on apart from the programs that it starts. To be called before any is
/// open: what is open already stays open in that table, locks too.
pub fn keep_files_apart() {
    let _ = starter(true);
}

#[expect(deprecated, reason = "the thread that does this sees no file of others, and others none of its")]
fn unshare_files() {
    // Without it programs start all the same, while nothing hangs.
    let _ = rustix::thread::unshare(UnshareFlags::FILES);
}

/// The thread that starts programs: they inherit its priorities.
pub fn thread_id() -> Option<u32> {
    let starter = starter(false).ok()?;
    u32::try_from(starter.thread.as_raw_nonzero().get()).ok()
}

pub(super) fn start(program: Program) -> io::Result<Started> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(&program.name).args(&program.arguments);
    let (stdout, to_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, to_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    let input = program.input.as_ref().map(|_| pipe_with(PipeFlags::CLOEXEC)).transpose()?;
    let (from_stdin, stdin) = input.unzip();
    let (started, told) = mpsc::sync_channel(1);
    let gone = || io::Error::other("the thread that starts programs is gone");
    let starter = starter(false)?;
    {
        let pipes = starter.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let ends: Vec<_> = [&to_stdout, &to_stderr].into_iter().chain(&from_stdin).map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PIPES))];
        let mut buffer = SendAncillaryBuffer::new(&mut space);
        buffer.push(SendAncillaryMessage::ScmRights(&ends));
        // Full when the thread hangs: whatever it starts is on dead storage.
        rustix::net::sendmsg(&*pipes, &[IoSlice::new(&[0])], &mut buffer, SendFlags::DONTWAIT)?;
        let request = Request::Start(Box::new(command), program.memory_bytes, started);
        starter.requests.send(request).map_err(|_| gone())?;
    }
    match told.recv_timeout(START_LIMIT) {
        Ok(Ok(pid)) => {
            let [stdout, stderr] = [stdout, stderr].map(|pipe| Some(File::from(pipe)));
            Ok(Started { pid, ended: None, stdin: stdin.map(File::from), stdout, stderr })
        }
        Ok(Err(e)) if e.kind() == io::ErrorKind::NotFound => {
            Err(io::Error::new(e.kind(), "setpriv is missing (package util-linux)"))
        }
        Ok(Err(e)) => Err(e),
        Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
        Err(RecvTimeoutError::Disconnected) => Err(gone()),
    }
}

/// Takes over a program that was killed and has not ended.
pub(super) fn collect(mut program: Started) {
    // Here, where they were opened.
    (program.stdin, program.stdout, program.stderr) = (None, None, None);
    if let Ok(starter) = starter(false) {
        let _ = starter.requests.send(Request::Collect(program));
    }
}

fn serve(queue: &Receiver<Request>, pipes: &UnixStream) {
    let mut given_up: Vec<Started> = Vec::new();
    loop {
        let request = if given_up.is_empty() {
            queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            queue.recv_timeout(COLLECT_EVERY)
        };
        match request {
            Ok(Request::Start(command, memory, started)) => {
                let pid = take_pipes(pipes).and_then(|ends| spawn(*command, ends));
                if let (Ok(pid), Some(bytes)) = (&pid, memory) {
                    limit_memory(*pid, bytes);
                }
                // Nobody waits any more: it took too long.
                if let Err(mpsc::SendError(Ok(pid))) = started.send(pid) {
                    let mut late = Started { pid, ended: None, stdin: None, stdout: None, stderr: None };
                    late.kill();
                    given_up.push(late);
                }
            }
            Ok(Request::Collect(program)) => given_up.push(program),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        given_up.retain_mut(|program| matches!(program.try_wait(), Ok(None)));
    }
}

/// The ends of the pipes of the next program, in this thread's table.
fn take_pipes(socket: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PIPES))];
    let mut buffer = RecvAncillaryBuffer::new(&mut space);
    // One at a time: the kernel does not join what was sent with pipes (unix(7)).
    rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut [0])], &mut buffer, RecvFlags::CMSG_CLOEXEC)?;
    let mut ends = Vec::new();
    for message in buffer.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            ends.extend(fds);
        }
    }
    Ok(ends)
}

fn spawn(mut command: Command, ends: Vec<OwnedFd>) -> io::Result<Pid> {
    let mut ends = ends.into_iter().map(Stdio::from);
    let (Some(stdout), Some(stderr)) = (ends.next(), ends.next()) else {
        return Err(io::Error::other("its pipes got lost: too many files are open"));
    };
    command.stdin(ends.next().unwrap_or_else(Stdio::null)).stdout(stdout).stderr(stderr);
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::other("it has no number"))
}

/// Holds for what the program becomes too, so it does not matter that it has begun.
fn limit_memory(pid: Pid, bytes: u64) {
    let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
    // Refused only to those who are not root.
    let _ = rustix::process::prlimit(Some(pid), Resource::As, limit);
}
