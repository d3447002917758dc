//! The checksum of a part of a stream's file whose payloads somebody else reads.

use super::{Adler32, Piece, StreamError, StreamFile};
use std::io::Read;

/// What the bytes of a part add to the stream's digest: what lies between the payloads as it is, each payload's own
/// digest.
pub(crate) type Feed = Vec<u8>;

/// The sums over a file whose payloads somebody else reads, in order.
pub(crate) struct RunningSum<'a> {
    stream: &'a StreamFile,
    sum: Adler32,
    at: u64,
    /// Filled when it is there.
    pub(crate) feed: Option<Feed>,
}

impl<'a> RunningSum<'a> {
    /// The sum of no bytes, from this place of the file on.
    pub(crate) fn new(stream: &'a StreamFile, at: u64) -> Self {
        Self { stream, sum: Adler32::new(), at, feed: None }
    }

    /// The sum so far.
    pub(crate) fn finish(&self) -> u32 {
        self.sum.finish()
    }

    /// Up to where bytes were added.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Adds everything up to a piece, then the piece, whose stored bytes are at hand.
    pub(crate) fn take(
        &mut self,
        piece: &Piece,
        stored: &[u8],
        read: &dyn Fn(u64),
    ) -> Result<(), StreamError> {
        self.upto(piece.stored_at, read)?;
        self.sum.update(stored);
        if let Some(feed) = &mut self.feed {
            feed.extend(blake3::hash(stored).as_bytes());
        }
        self.at += piece.stored_len;
        read(piece.stored_len);
        Ok(())
    }

    /// Reads and adds everything up to `end`, and leaves it in `bytes`.
    pub(crate) fn slab(
        &mut self,
        end: u64,
        bytes: &mut Vec<u8>,
        read: &dyn Fn(u64),
    ) -> Result<(), StreamError> {
        bytes.resize((end - self.at) as usize, 0);
        self.stream.input().fill(self.at, bytes)?;
        self.sum.update(bytes);
        self.at = end;
        read(bytes.len() as u64);
        Ok(())
    }

    /// Reads and adds what lies between payloads, and payloads that did not decode.
    pub(crate) fn upto(&mut self, end: u64, read: &dyn Fn(u64)) -> Result<(), StreamError> {
        if end <= self.at {
            return Ok(());
        }
        let mut input = self.stream.section(self.at, end - self.at);
        let mut buffer = vec![0; (end - self.at).min(1 << 20) as usize];
        while self.at < end {
            let len = input.read(&mut buffer).map_err(|source| StreamError::Read {
                at: self.at,
                len: end - self.at,
                source,
            })?;
            if len == 0 {
                let source = std::io::ErrorKind::UnexpectedEof.into();
                return Err(StreamError::Read { at: self.at, len: end - self.at, source });
            }
            self.sum.update(&buffer[..len]);
            if let Some(feed) = &mut self.feed {
                feed.extend(&buffer[..len]);
            }
            self.at += len as u64;
            read(len as u64);
        }
        Ok(())
    }
}
