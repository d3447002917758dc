//! A program that runs: what it prints, how it ends, and how it is ended.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::error::{ProgramError, Stopped};
use super::start;

/// How often to look for a stop while a program says nothing.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a program may print, unless it is said otherwise.
const OUTPUT_BYTES: usize = 64 << 20;

/// What is kept of its messages.
pub(super) const MESSAGE_BYTES: usize = 64 << 10;

/// How long a program that was killed may take to end, before it is left to the collector.
const KILL_PATIENCE: Duration = Duration::from_millis(200);

/// A program that has ended.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

impl Output {
    /// Its messages as text, without space around.
    pub fn message(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }
}

/// A program that runs. Ended on drop.
pub struct Running {
    child: Option<Child>,
    /// What is not asked for yet.
    printed: Gathered,
}

impl Running {
    pub(super) fn of(child: Child) -> Self {
        Self { child: Some(child), printed: Gathered::default() }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    /// Asks one that listens, and waits for the line that it answers. `None`: it ends.
    ///
    /// # Errors
    /// When no whole line came in time. Then it must not be asked again: the answer may come late.
    pub(super) fn ask(
        &mut self,
        question: &[u8],
        limit: Duration,
        stopped: Stopped<'_>,
    ) -> Result<Option<Vec<u8>>, ProgramError> {
        let until = Instant::now() + limit;
        let Some(child) = self.child.as_mut() else { return Ok(None) };
        if child.stdin.as_mut().is_none_or(|stdin| stdin.write_all(question).is_err()) {
            return Ok(None);
        }
        loop {
            if let Some(end) = self.printed.stdout.iter().position(|byte| *byte == b'\n') {
                let line = self.printed.stdout.drain(..=end).take(end).collect();
                return Ok(Some(line));
            }
            if self.printed.stdout.len() > OUTPUT_BYTES {
                return Err(ProgramError::TooMuch { bytes: OUTPUT_BYTES });
            }
            if self.printed.stdout_ended {
                return Ok(None);
            }
            if stopped() {
                return Err(ProgramError::Stopped);
            }
            if Instant::now() >= until {
                return Err(ProgramError::TimedOut { seconds: limit.as_secs() });
            }
            self.printed.gather(child, LOOK_EVERY);
        }
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
    pub(super) fn wait(mut self, limit: Duration, stopped: Stopped<'_>) -> Result<Output, ProgramError> {
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
        let patience = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
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
