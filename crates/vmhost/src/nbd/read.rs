//! Several reads in flight on one connection.

use std::time::Duration;

use super::connection::{Ticket, timeout};
use super::deadline::Deadline;
use super::handle::Done;
use super::{Connection, NbdError, Waiting};

/// A read that has ended, well or not.
#[derive(Debug)]
pub struct Completed {
    /// As given to [`Connection::start_read`].
    pub tag: u64,
    /// Where the read began, in bytes.
    pub offset: u64,
    /// The buffer given, filled if the result is good; otherwise its content means nothing.
    pub buf: Vec<u8>,
    /// Why it failed: [`NbdError::Read`].
    pub result: Result<(), NbdError>,
}

impl Connection {
    /// Sends a read of `buf.len()` bytes, or queues it behind those not sent yet; does not wait.
    ///
    /// The buffer belongs to the connection until [`Connection::wait`] gives it back. The tag is the
    /// caller's; nothing here looks at it. QEMU works on at most 16 requests of one connection at once.
    ///
    /// # Errors
    /// [`NbdError::ReadSize`] and, for a range outside the export or an ended connection,
    /// [`NbdError::Read`]. The buffer is freed then.
    pub fn start_read(&mut self, buf: Vec<u8>, offset: u64, tag: u64) -> Result<(), NbdError> {
        let (len, max) = (buf.len(), self.max_request());
        let fits = u32::try_from(len).is_ok_and(|len| (1..=max).contains(&len));
        if !fits {
            return Err(NbdError::ReadSize { export: self.export.clone(), offset, len, max });
        }
        let cookie = self
            .handle
            .start_read(buf, offset, self.whole_reads)
            .map_err(|source| NbdError::Read { export: self.export.clone(), offset, len, source })?;
        self.tickets.insert(cookie, Ticket { tag, offset });
        Ok(())
    }

    /// Waits until at least one read is done and gives back all that are, in the order they ended.
    ///
    /// Empty only when nothing is in flight. With no time it handles one event at most.
    /// When the connection ends, each read in flight comes back with an error of its own.
    ///
    /// # Errors
    /// [`NbdError::Timeout`] when none is done in time; the reads stay in flight and the connection usable.
    /// [`NbdError::Lost`] when nothing more can come.
    pub fn wait(&mut self, limit: Duration) -> Result<Vec<Completed>, NbdError> {
        let deadline = Deadline::after(limit);
        loop {
            let done = self.take_done();
            if !done.is_empty() || self.tickets.is_empty() {
                return Ok(done);
            }
            let polled = self.handle.poll(deadline.left());
            let done = self.take_done();
            if !done.is_empty() {
                return Ok(done);
            }
            polled.map_err(|source| NbdError::Lost { export: self.export.clone(), source })?;
            if deadline.left().is_zero() {
                let waiting = Waiting::Reads { in_flight: self.tickets.len() };
                return Err(timeout(&self.export, waiting, &deadline));
            }
        }
    }

    /// The error about a read that nothing came back of.
    pub fn silent(&self, limit: Duration) -> NbdError {
        timeout(&self.export, Waiting::Reads { in_flight: self.tickets.len() }, &Deadline::after(limit))
    }

    /// Reads started and not given back yet.
    pub fn in_flight(&self) -> usize {
        self.tickets.len()
    }

    fn take_done(&mut self) -> Vec<Completed> {
        let mut done = Vec::new();
        while let Some(Done { cookie, buf, result }) = self.handle.next_done() {
            // Neither: a block status that was given up and is answered now.
            let (Some(buf), Some(ticket)) = (buf, self.tickets.remove(&cookie)) else { continue };
            let result = result.map_err(|source| NbdError::Read {
                export: self.export.clone(),
                offset: ticket.offset,
                len: buf.len(),
                source,
            });
            done.push(Completed { tag: ticket.tag, offset: ticket.offset, buf, result });
        }
        done
    }
}
