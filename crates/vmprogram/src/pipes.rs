//! Hands the pipes of a started program to the thread that asked for it: the thread that starts programs has a table of open files of its own.
//!
//! A number of an open file means nothing in another table of files, so files go over a socket (unix(7), SCM_RIGHTS).

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Standard input, output, error.
const PIPES: usize = 3;

/// The number of a start, and a byte for each pipe: 1 where there is one.
const MESSAGE_BYTES: usize = 8 + PIPES;

/// The starting thread sends them right after it said that the program is there.
const TAKE_LIMIT: Duration = Duration::from_secs(10);

/// Our ends of the pipes of one program.
#[derive(Default)]
pub(super) struct Pipes([Option<OwnedFd>; PIPES]);

impl Pipes {
    /// Takes them from a program that has just been started.
    pub(super) fn out_of(child: &mut Child) -> Self {
        Self([
            child.stdin.take().map(OwnedFd::from),
            child.stdout.take().map(OwnedFd::from),
            child.stderr.take().map(OwnedFd::from),
        ])
    }

    /// Gives them back to it.
    pub(super) fn put_into(self, child: &mut Child) {
        let [stdin, stdout, stderr] = self.0;
        child.stdin = stdin.map(Into::into);
        child.stdout = stdout.map(Into::into);
        child.stderr = stderr.map(Into::into);
    }
}

/// The end of the thread that starts programs.
pub(super) struct Giver(UnixStream);

/// The end of the others.
pub(super) struct Taker {
    socket: UnixStream,
    /// What came for others who wait for it.
    came: BTreeMap<u64, Pipes>,
}

/// Both ends.
pub(super) fn ends() -> io::Result<(Giver, Taker)> {
    let (give, take) = UnixStream::pair()?;
    take.set_read_timeout(Some(TAKE_LIMIT))?;
    Ok((Giver(give), Taker { socket: take, came: BTreeMap::new() }))
}

impl Giver {
    /// Sends the pipes of a start.
    pub(super) fn give(&self, number: u64, pipes: &Pipes) -> io::Result<()> {
        let mut message = [0; MESSAGE_BYTES];
        message[..8].copy_from_slice(&number.to_ne_bytes());
        for (is_there, pipe) in message[8..].iter_mut().zip(&pipes.0) {
            *is_there = pipe.is_some().into();
        }
        let files: Vec<BorrowedFd<'_>> = pipes.0.iter().flatten().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PIPES))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(io::Error::other("there is no room for its pipes"));
        }
        sendmsg(&self.0, &[IoSlice::new(&message)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

impl Taker {
    /// Takes the pipes of a start, which its thread has said is done.
    pub(super) fn take(&mut self, number: u64) -> io::Result<Pipes> {
        loop {
            if let Some(pipes) = self.came.remove(&number) {
                return Ok(pipes);
            }
            let (number, pipes) = self.receive()?;
            self.came.insert(number, pipes);
        }
    }

    fn receive(&self) -> io::Result<(u64, Pipes)> {
        let mut message = [0; MESSAGE_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PIPES))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut message)];
        // Each message is taken whole: the kernel ends a read where the files of the next one begin.
        let got = recvmsg(&self.socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
        let mut files = Vec::new();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(come) = part {
                files.extend(come);
            }
        }
        let (number, are_there) = message.split_at(8);
        let wanted = are_there.iter().filter(|is_there| **is_there == 1).count();
        let (Ok(number), true) = (number.try_into(), got == MESSAGE_BYTES && files.len() == wanted) else {
            return Err(io::Error::other("its pipes did not come"));
        };
        let mut files = files.into_iter();
        let mut pipes = Pipes::default();
        for (pipe, is_there) in pipes.0.iter_mut().zip(are_there) {
            *pipe = if *is_there == 1 { files.next() } else { None };
        }
        Ok((u64::from_ne_bytes(number), pipes))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn each_start_gets_its_own_pipes() {
        let (giver, mut taker) = ends().unwrap();
        let start = |has_input: bool, text: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("cat; echo {text}")]).stdout(Stdio::piped()).stderr(Stdio::null());
            command.stdin(if has_input { Stdio::piped() } else { Stdio::null() });
            command.spawn().unwrap()
        };
        let mut children = [start(true, "one"), start(false, "two"), start(true, "three")];
        for (number, child) in (0..).zip(&mut children) {
            giver.give(number, &Pipes::out_of(child)).unwrap();
        }
        // Asked for in another order.
        for (number, has_input, want) in [(2, true, "in three\n"), (0, true, "in one\n"), (1, false, "two\n")]
        {
            let child = &mut children[number as usize];
            taker.take(number).unwrap().put_into(child);
            assert_eq!((child.stdin.is_some(), child.stderr.is_some()), (has_input, false));
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(b"in ").unwrap();
            }
            let mut said = String::new();
            child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
            assert_eq!(said, want);
            child.wait().unwrap();
        }
    }
}
