//! A stream's file, read by position: no length is believed before it fits into the file.

use super::error::{Problem, StreamError};
use super::piece::Coding;
use crate::blob::Blob;
use std::io::Read;

/// Where the trailer of a compressed stream lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TrailerPlace {
    pub(crate) at: u64,
    pub(crate) len: u64,
    /// What its entries are the lengths of.
    pub(crate) coding: Coding,
}

/// Reads by position that cannot pass the end of the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Positioned<'a> {
    pub(crate) file: &'a dyn Blob,
    pub(crate) file_len: u64,
}

impl<'a> Positioned<'a> {
    /// `len` again, once it is sure that so many bytes follow `at`.
    pub(crate) fn fits(&self, at: u64, len: u64) -> Result<u64, StreamError> {
        let have = self.file_len.saturating_sub(at);
        if len > have {
            return Err(StreamError::damaged(None, at, None, Problem::CutOff { want: len, have }));
        }
        Ok(len)
    }

    pub(crate) fn fill(&self, at: u64, out: &mut [u8]) -> Result<(), StreamError> {
        self.file.read_exact_at(at, out).map_err(|source| StreamError::Read {
            at,
            len: out.len() as u64,
            source,
        })
    }

    pub(crate) fn array<const N: usize>(&self, at: u64) -> Result<[u8; N], StreamError> {
        self.fits(at, N as u64)?;
        let mut bytes = [0; N];
        self.fill(at, &mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn section(self, at: u64, len: u64) -> Section<'a> {
        Section { input: self, at, end: at.saturating_add(len).min(self.file_len) }
    }
}

/// A part of a file as `Read`, with its own position.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    input: Positioned<'a>,
    at: u64,
    end: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let len = out.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        // An end before that of the file when it was opened is an error, not an end.
        self.input.file.read_exact_at(self.at, &mut out[..len])?;
        self.at += len as u64;
        Ok(len)
    }
}
