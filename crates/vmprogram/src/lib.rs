//! Other programs: how they are started, bounded in time, output and memory, and left behind when they hang.
//!
//! Lives here: the one way in which vmbackup runs another program, and looks at files on storage that may be dead
//! ([`look`], [`writers`]).
//! Must not live here: what those programs are told (`vmstore` and the engine say that), libvirt.
//! Layer: above `vmstream`, below `vmstore` and `vmhost`. A crate of its own because both of these run programs, and
//! `vmstore` must not get libvirt with them.
//!
//! A program that waits for storage that is dead sleeps in the kernel, and no signal ends it. Nobody here waits for such
//! a one: it is killed, given up, and collected whenever it ends. It holds nothing of ours but pipes. The same look at
//! the same file from a thread of ours would keep this process, with all its locks, from ending.
#![forbid(unsafe_code)]

mod look;
mod start;
mod writers;

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use zeroize::Zeroizing;

pub use look::{LOOK_ARGUMENT, Look, answer_look, look};
pub use start::thread_id;
pub use writers::{Used, WRITERS_ARGUMENT, Writers, Written, answer_writers, writers};

/// How often to look for a stop while a program says nothing.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a program may print, unless it is said otherwise.
const OUTPUT_BYTES: usize = 64 << 20;

/// What is kept of its messages.
const MESSAGE_BYTES: usize = 64 << 10;

/// What a pipe takes without a reader (pipe(7)). More than that is never given to a program.
const INPUT_BYTES: usize = 64 << 10;

/// How long a program that was killed may take to end, before it is left to the collector.
const KILL_PATIENCE: Duration = Duration::from_millis(200);

/// Whether whoever waits was asked to stop.
pub type Stopped<'a> = &'a dyn Fn() -> bool;

/// Nobody asks for a stop: what is undone is undone to its end, or to the limit.
pub const NEVER: Stopped<'static> = &|| false;

/// A program did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// Not installed, or not to be run.
    #[error("cannot be started: {source}")]
    Start {
        /// What the system said.
        source: io::Error,
    },
    /// It took too long. It was killed, and left behind if that did not end it.
    #[error("did not end within {seconds} s and was given up: the storage of its files may hang")]
    TimedOut {
        /// The limit.
        seconds: u64,
    },
    /// Whoever waited was asked to stop.
    #[error("was ended because a stop was asked for")]
    Stopped,
    /// It printed more than any sound answer has.
    #[error("printed more than {bytes} bytes and was ended")]
    TooMuch {
        /// The limit.
        bytes: usize,
    },
}

/// A program that has ended.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Output {
    /// Its messages as text, without space around.
    pub fn message(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }
}

/// A program that is to be run. It dies with this process.
pub struct Program {
    name: OsString,
    arguments: Vec<OsString>,
    input: Option<Zeroizing<Vec<u8>>>,
    memory_bytes: Option<u64>,
}

impl Program {
    /// By its name in `PATH`, or its path.
    pub fn new(name: impl AsRef<OsStr>) -> Self {
        let name = name.as_ref().to_owned();
        Self { name, arguments: vec![], input: None, memory_bytes: None }
    }

    /// This very program, also when its file was replaced since. `argument` says what it is to be. Not by `/proc/self`,
    /// which whoever starts it would be.
    pub fn itself(argument: &str) -> Self {
        Self::new(format!("/proc/{}/exe", std::process::id())).arg(argument)
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// What it reads from its standard input: a secret, which nobody sees there. At most 64 KiB.
    pub fn input(mut self, bytes: &[u8]) -> Self {
        debug_assert!(bytes.len() <= INPUT_BYTES);
        self.input = Some(Zeroizing::new(bytes.to_owned()));
        self
    }

    /// The most memory it may take, as address space (`RLIMIT_AS`).
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory_bytes = Some(bytes);
        self
    }

    /// Runs it to its end, and no longer than `limit`.
    pub fn run(self, limit: Duration, stopped: Stopped<'_>) -> Result<Output, ProgramError> {
        let name = self.name.clone();
        let running = self.start()?;
        let output = running.wait(limit, stopped)?;
        match output.status.code() {
            Some(start::NOT_FOUND) => Err(not_run(io::ErrorKind::NotFound, &name)),
            Some(start::NOT_EXECUTABLE) => Err(not_run(io::ErrorKind::PermissionDenied, &name)),
            _ => Ok(output),
        }
    }

    /// Starts it. It is ended when what is returned is dropped.
    pub fn start(self) -> Result<Running, ProgramError> {
        let input = self.input.clone();
        let mut child = start::start(self).map_err(|source| ProgramError::Start { source })?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            // Not taken: then it ends, and says why. It cannot block: a pipe holds so much.
            let _ = stdin.write_all(&input);
        }
        Ok(Running { child: Some(child), printed: Gathered::default() })
    }
}

fn not_run(kind: io::ErrorKind, name: &OsStr) -> ProgramError {
    let source = io::Error::new(kind, format!("{}: {}", name.to_string_lossy(), io::Error::from(kind)));
    ProgramError::Start { source }
}

/// A program that runs. Ended on drop.
pub struct Running {
    child: Option<Child>,
    /// What is not asked for yet.
    printed: Gathered,
}

impl Running {
    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    /// The newest line that it has printed, waiting up to `patience` (less than a second) for one.
    pub fn newest_line(&mut self, patience: Duration) -> Option<String> {
        let child = self.child.as_mut()?;
        if self.printed.gather(child, patience) {
            while self.printed.gather(child, Duration::ZERO) {}
        }
        let end = self.printed.stdout.iter().rposition(|byte| *byte == b'\n')?;
        let whole: Vec<u8> = self.printed.stdout.drain(..=end).collect();
        Some(String::from_utf8_lossy(&whole).lines().last()?.to_owned())
    }

    /// Ends it, and returns what it said.
    pub fn end(mut self) -> String {
        let Some(mut child) = self.child.take() else { return String::new() };
        let _ = child.kill();
        let mut said = std::mem::take(&mut self.printed);
        let until = Instant::now() + KILL_PATIENCE;
        while !said.ended() && Instant::now() < until {
            said.gather(&mut child, KILL_PATIENCE);
        }
        start::collect(child);
        String::from_utf8_lossy(&said.stderr).trim().to_owned()
    }

    /// Waits for its end, and gathers what it prints.
    fn wait(mut self, limit: Duration, stopped: Stopped<'_>) -> Result<Output, ProgramError> {
        let until = Instant::now() + limit;
        let mut printed = Gathered::default();
        let mut pause = Duration::from_micros(100);
        // `drop` ends it on every way out.
        while let Some(child) = self.child.as_mut() {
            if printed.stdout.len() > OUTPUT_BYTES {
                return Err(ProgramError::TooMuch { bytes: OUTPUT_BYTES });
            }
            if printed.ended() {
                // It is about to end: it closed its pipes.
                std::thread::sleep(pause);
                pause = (pause * 2).min(LOOK_EVERY);
            } else {
                printed.gather(child, LOOK_EVERY);
            }
            if let Ok(Some(status)) = child.try_wait() {
                // What is in the pipes still. Not what somebody prints who inherited them.
                printed.gather(child, Duration::ZERO);
                while printed.gather(child, Duration::ZERO) {}
                self.child = None;
                return Ok(Output { status, stdout: printed.stdout, stderr: printed.stderr });
            }
            if stopped() {
                return Err(ProgramError::Stopped);
            }
            if Instant::now() >= until {
                return Err(ProgramError::TimedOut { seconds: limit.as_secs() });
            }
        }
        Err(ProgramError::Stopped)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let _ = child.kill();
        let until = Instant::now() + KILL_PATIENCE;
        let mut pause = Duration::from_micros(200);
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() >= until {
                return start::collect(child);
            }
            std::thread::sleep(pause);
            pause *= 2;
        }
    }
}

/// What a program has printed so far.
#[derive(Default)]
struct Gathered {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    stdout_ended: bool,
    stderr_ended: bool,
}

impl Gathered {
    fn ended(&self) -> bool {
        self.stdout_ended && self.stderr_ended
    }

    /// Waits up to `patience` for something, and takes it. False when there was nothing.
    fn gather(&mut self, child: &mut Child, patience: Duration) -> bool {
        let (out, err) = (child.stdout.as_mut(), child.stderr.as_mut());
        self.stdout_ended |= out.is_none();
        self.stderr_ended |= err.is_none();
        let (out, err) = (out.filter(|_| !self.stdout_ended), err.filter(|_| !self.stderr_ended));
        let fds: Vec<BorrowedFd<'_>> =
            out.iter().map(|pipe| pipe.as_fd()).chain(err.iter().map(|pipe| pipe.as_fd())).collect();
        let mut polled: Vec<_> = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        let patience = Timespec { tv_sec: 0, tv_nsec: i64::from(patience.subsec_nanos()) };
        if polled.is_empty()
            || !rustix::event::poll(&mut polled, Some(&patience)).is_ok_and(|ready| ready > 0)
        {
            return false;
        }
        let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        let (has_out, mut ready) = (out.is_some(), ready.into_iter());
        if let (Some(out), Some(true)) = (out, if has_out { ready.next() } else { None }) {
            self.stdout_ended = !take(out, OUTPUT_BYTES + 1, &mut self.stdout);
        }
        if let (Some(err), Some(true)) = (err, ready.next()) {
            self.stderr_ended = !take(err, MESSAGE_BYTES, &mut self.stderr);
        }
        true
    }
}

/// Takes what a pipe has, and keeps up to `limit` bytes of all of it. False at its end.
fn take(pipe: &mut impl Read, limit: usize, kept: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 16 << 10];
    match pipe.read(&mut buffer) {
        Ok(0) => false,
        Ok(count) => {
            let room = limit.saturating_sub(kept.len());
            kept.extend_from_slice(&buffer[..count.min(room)]);
            true
        }
        Err(error) => error.kind() == io::ErrorKind::Interrupted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Program {
        Program::new("sh").args(["-c", script])
    }

    /// Whether a process runs whose command line holds this word.
    fn is_there(word: &str) -> bool {
        let processes = std::fs::read_dir("/proc").expect("there are processes").flatten();
        let mut lines = processes.filter_map(|one| std::fs::read(one.path().join("cmdline")).ok());
        lines.any(|line| String::from_utf8_lossy(&line).contains(word))
    }

    #[test]
    fn gives_what_was_printed_and_how_it_ended() {
        let ended = shell("cat; echo heard >&2; exit 3").input(b"said").run(LONG, NEVER).unwrap();
        assert_eq!((ended.stdout.as_slice(), ended.message().as_str()), (&b"said"[..], "heard"));
        assert_eq!(ended.status.code(), Some(3));
        // More than the pipes hold, on both.
        let script = "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; head -c 10 /dev/zero";
        let ended = shell(script).run(LONG, NEVER).unwrap();
        assert_eq!((ended.stdout.len(), ended.stderr.len()), (3_000_010, MESSAGE_BYTES));
    }

    #[test]
    fn what_is_not_installed_says_so() {
        let missing = Program::new("no-such-program-here").run(LONG, NEVER).unwrap_err();
        assert!(
            matches!(&missing, ProgramError::Start { source } if source.kind() == io::ErrorKind::NotFound)
        );
        assert!(missing.to_string().contains("no-such-program-here"), "{missing}");
    }

    #[test]
    fn one_that_hangs_is_given_up_and_dies() {
        let began = Instant::now();
        let hung = Program::new("sleep").arg("4001.1").run(Duration::from_millis(300), NEVER);
        assert!(matches!(hung, Err(ProgramError::TimedOut { .. })), "{hung:?}");
        let stopped =
            Program::new("sleep").arg("4001.2").run(LONG, &|| began.elapsed() > Duration::from_secs(1));
        assert!(matches!(stopped, Err(ProgramError::Stopped)), "{stopped:?}");
        // It closes its pipes, and stays.
        let silent = shell("exec >&- 2>&-; exec sleep 4001.3").run(Duration::from_millis(300), NEVER);
        assert!(matches!(silent, Err(ProgramError::TimedOut { .. })), "{silent:?}");
        assert!(began.elapsed() < LONG);
        ["4001.1", "4001.2", "4001.3"].iter().for_each(|sleep| assert!(!is_there(sleep), "{sleep}"));
    }

    #[test]
    fn output_and_memory_have_ends() {
        let endless = Program::new("cat").arg("/dev/zero").run(LONG, NEVER);
        assert!(matches!(endless, Err(ProgramError::TooMuch { .. })), "{endless:?}");
        let greedy = || Program::new("dd").args(["if=/dev/zero", "of=/dev/null", "bs=800M", "count=1"]);
        assert!(greedy().run(LONG, NEVER).unwrap().status.success());
        assert!(!greedy().memory(400 << 20).run(LONG, NEVER).unwrap().status.success());
    }

    #[test]
    fn tells_the_newest_line() {
        let mut running = shell("echo one; echo two; printf half; exec sleep 4001.5").start().unwrap();
        let began = Instant::now();
        let mut line = None;
        while line.as_deref() != Some("two") && began.elapsed() < LONG {
            line = running.newest_line(Duration::from_millis(100)).or(line);
        }
        assert_eq!(line.as_deref(), Some("two"));
        assert_eq!(running.newest_line(Duration::from_millis(100)), None, "half a line is none");
        drop(running);
        assert!(!is_there("4001.5"));
    }

    #[test]
    fn a_thread_that_started_one_may_end() {
        let started = || Program::new("sleep").arg("4001.4").start().unwrap();
        let mut running = std::thread::spawn(started).join().unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert!(running.ended().is_none(), "it dies with the process, not with the thread");
        drop(running);
        assert!(!is_there("4001.4"));
    }
}
