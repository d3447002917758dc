//! Where each layer has what: 32 bytes for each block, found by a place on the disk.
//!
//! A sidecar is read where it is asked, a page of it at a time; the headers of a stream without one are walked once, and
//! what they say is held.

use super::known::{Known, RunShelf};
use super::shelf::Shelf;
use crate::restore::map::{Layer, MapError, Span, Spans, sum_of};
use crate::sidecar::{Block, Directory, Sidecar, SidecarError, Value};
use crate::stream::{Coding, FrameKind, Piece, Stored, StreamError};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// Entries of a page that is held.
const PAGE_LEN: usize = 2048;

/// A range of the disk that a layer decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where it begins on the disk.
    start: u64,
    /// Its bytes.
    len: u64,
    /// Where its bytes begin in the file; 0 for a range of zeros, as no content lies there.
    stored_at: u64,
    /// Bytes stored; 0 for an uncompressed frame, of any length.
    stored_len: u32,
    /// CRC-32 of the content, where [`Index::summed`].
    plain_crc32: u32,
}

const _: () = assert!(size_of::<Entry>() == 32);

impl Entry {
    fn end(&self) -> u64 {
        self.start + self.len
    }

    fn of_block(block: &Block) -> Self {
        Self {
            start: block.start,
            len: block.plain_len.into(),
            stored_at: block.stored_at,
            stored_len: block.stored_len,
            plain_crc32: block.plain_crc32,
        }
    }
}

type Page = Arc<[Entry]>;

/// Pages of sidecars that are kept: by layer, and number of the page.
pub(super) type PageShelf = Shelf<(u32, u32), Page>;

/// What one layer has.
#[derive(Debug)]
pub(super) struct Index {
    pages: Pages,
    /// Entries know their content's checksum.
    summed: bool,
    coding: Coding,
    /// Nothing behind it counts: the disk shrank later.
    limit: u64,
}

#[derive(Debug)]
enum Pages {
    Held(Vec<Page>),
    /// In a sidecar, whose path is for messages.
    Sidecar {
        directory: Box<Directory<Block>>,
        path: PathBuf,
        /// Opened by who asks first; `None` when it cannot be.
        known: OnceLock<Option<Known>>,
    },
}

impl Index {
    /// The index of a layer by its sidecar, which was checked and is of its stream: it lists all data. Zeros that count
    /// are in the stream alone, so the layer must be an increment, or have nothing beneath it.
    pub(super) fn of_sidecar(
        layer: &Layer,
        (sidecar, path): (Sidecar, PathBuf),
        limit: u64,
    ) -> Result<Self, MapError> {
        let failed = |error| cannot_read(&path, error);
        let directory = Box::new(Directory::of(Arc::new(sidecar)).map_err(failed)?);
        let coding = layer.stream.coding();
        let pages = Pages::Sidecar { directory, path, known: OnceLock::new() };
        Ok(Self { pages, summed: true, coding, limit })
    }

    /// The index of a layer by its frames' headers, all of which are walked. The sidecar, if there is one, knows the content.
    pub(super) fn of_frames(layer: &Layer, sidecar: Option<&Sidecar>, limit: u64) -> Result<Self, MapError> {
        let entries = held(layer, sidecar).map_err(|source| MapError { path: layer.path.clone(), source })?;
        let (summed, coding) = (sidecar.is_some(), layer.stream.coding());
        Ok(Self { pages: Pages::Held(entries), summed, coding, limit })
    }

    fn page_count(&self) -> usize {
        match &self.pages {
            Pages::Held(pages) => pages.len(),
            Pages::Sidecar { directory, .. } => directory.len(),
        }
    }

    /// The last page that begins at or before `at`, or the first one.
    fn page_at(&self, at: u64) -> usize {
        let found = match &self.pages {
            Pages::Held(pages) => {
                let begins = |page: &Page| page.first().is_some_and(|entry| entry.start <= at);
                pages.partition_point(begins).checked_sub(1)
            }
            Pages::Sidecar { directory, .. } => directory.chunk_of(at),
        };
        found.unwrap_or_default()
    }

    fn page(&self, layer: u32, number: usize, shelf: &PageShelf) -> Result<Page, MapError> {
        let (directory, path) = match &self.pages {
            Pages::Held(pages) => return Ok(pages[number].clone()),
            Pages::Sidecar { directory, path, .. } => (directory, path),
        };
        shelf.or_read((layer, number as u32), || {
            let blocks = directory.records(number).map_err(|error| cannot_read(path, error))?;
            let page: Page = blocks.iter().map(Entry::of_block).collect();
            let bytes = size_of_val(&page[..]);
            Ok((page, bytes))
        })
    }

    /// The granules that a range of the disk touches at the layer's point, with their checksums. `None` where its sidecar does
    /// not know all of them.
    pub(super) fn granules(
        &self,
        layer: u32,
        disk: &Range<u64>,
        shelf: &RunShelf,
    ) -> Option<Vec<(Range<u64>, u32)>> {
        let Pages::Sidecar { directory, known, .. } = &self.pages else { return None };
        let known = known.get_or_init(|| Known::of(layer, directory.sidecar().clone()).ok()).as_ref()?;
        let sum = |granule: Result<(Range<u64>, Value), SidecarError>| match granule.ok()? {
            (range, Value::Known(sum)) => Some((range, sum)),
            (_, Value::Unknown) => None,
        };
        known.touched(disk, shelf).map(sum).collect()
    }

    /// The part of an entry that is decoded together and has the disk's byte `at`, or the first part behind it.
    fn span(&self, entry: &Entry, at: u64) -> Option<Span> {
        let (start, stored_at, len, stored_len) = match (entry.stored_at, entry.stored_len) {
            (0, _) => (entry.start, 0, entry.len, 0),
            // An uncompressed frame, which is cut as its walk cuts it.
            (stored_at, 0) => {
                let skipped = at.saturating_sub(entry.start) / Piece::PLAIN_LEN * Piece::PLAIN_LEN;
                let len = Piece::PLAIN_LEN.min(entry.len - skipped);
                (entry.start + skipped, stored_at + skipped, len, len)
            }
            (stored_at, stored_len) => (entry.start, stored_at, entry.len, stored_len.into()),
        };
        let disk = start..start + len;
        let piece = (stored_at > 0).then(|| Piece {
            frame: None,
            disk: disk.clone(),
            stored_at,
            stored_len,
            coding: self.coding,
            plain_crc32: self.summed.then_some(entry.plain_crc32),
        });
        let end = disk.end.min(self.limit);
        (disk.start < end).then_some(Span { disk: disk.start..end, piece })
    }
}

/// What the frames of a layer say, in pages.
fn held(layer: &Layer, sidecar: Option<&Sidecar>) -> Result<Vec<Page>, StreamError> {
    let zeros_count = !layer.stream.meta().incremental;
    let mut blocks = sidecar.map(Sidecar::blocks);
    let (mut pages, mut page) = (Vec::new(), Vec::with_capacity(PAGE_LEN));
    let mut add = |entry: Entry| {
        page.push(entry);
        if page.len() == PAGE_LEN {
            pages.push(Page::from(&page[..]));
            page.clear();
        }
    };
    for frame in layer.stream.frames() {
        let frame = frame?;
        let (start, len) = (frame.header.start, frame.header.len);
        match (frame.header.kind, &frame.stored) {
            (FrameKind::Data, Stored::Plain) if sidecar.is_none() => {
                add(Entry { start, len, stored_at: frame.stored_at, stored_len: 0, plain_crc32: 0 });
            }
            (FrameKind::Data, _) => {
                for piece in frame.pieces() {
                    let sum = sum_of(&mut blocks, &piece)?;
                    if sidecar.is_some() && sum.is_none() {
                        // It could be read before.
                        let source = io::Error::other("its sidecar cannot be read any more");
                        return Err(StreamError::Read { at: piece.stored_at, len: piece.stored_len, source });
                    }
                    add(Entry {
                        start: piece.disk.start,
                        len: piece.disk.end - piece.disk.start,
                        stored_at: piece.stored_at,
                        // A piece is of 32 MiB at most, and a bit.
                        stored_len: piece.stored_len as u32,
                        plain_crc32: sum.unwrap_or_default(),
                    });
                }
            }
            _ if zeros_count => add(Entry { start, len, stored_at: 0, stored_len: 0, plain_crc32: 0 }),
            _ => {}
        }
    }
    if !page.is_empty() {
        pages.push(page.into());
    }
    Ok(pages)
}

fn cannot_read(path: &std::path::Path, error: SidecarError) -> MapError {
    let source = match error {
        SidecarError::Read(source) => source,
        other => io::Error::other(other),
    };
    MapError { path: path.to_owned(), source: StreamError::Read { at: 0, len: 0, source } }
}

/// One layer's place in a sweep over a part of the disk.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    layer: u32,
    index: &'a Index,
    shelf: &'a PageShelf,
    page: Option<(usize, Page)>,
    /// Of the entry that the span is of.
    place: usize,
    span: Option<Span>,
    ended: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(layer: usize, index: &'a Index, shelf: &'a PageShelf) -> Self {
        Self { layer: layer as u32, index, shelf, page: None, place: 0, span: None, ended: false }
    }

    /// The first entry that ends behind `at`.
    fn entry(&mut self, at: u64) -> Result<Option<Entry>, MapError> {
        let mut number = match &self.page {
            Some((number, page)) if page.last().is_some_and(|last| last.end() > at) => *number,
            _ => self.index.page_at(at).max(self.page.as_ref().map_or(0, |(number, _)| number + 1)),
        };
        while number < self.index.page_count() {
            if self.page.as_ref().is_none_or(|(loaded, _)| *loaded != number) {
                self.page = Some((number, self.index.page(self.layer, number, self.shelf)?));
                self.place = 0;
            }
            let Some((_, page)) = &self.page else { break };
            // Mostly it is the next one.
            let near = page[self.place..].iter().take(2).position(|entry| entry.end() > at);
            self.place +=
                near.unwrap_or_else(|| page[self.place..].partition_point(|entry| entry.end() <= at));
            if let Some(entry) = page.get(self.place) {
                return Ok(Some(*entry));
            }
            number += 1;
        }
        Ok(None)
    }
}

impl Spans for Cursor<'_> {
    fn seek(&mut self, at: u64) -> Result<Option<&Span>, MapError> {
        if !self.ended && self.span.as_ref().is_none_or(|span| span.disk.end <= at) {
            // What the disk lost when it shrank is at the end.
            let entry = if at < self.index.limit { self.entry(at)? } else { None };
            self.span = entry.and_then(|entry| self.index.span(&entry, at));
            self.ended = self.span.is_none();
        }
        Ok(self.span.as_ref())
    }
}
