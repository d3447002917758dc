//! A disk made of streams: the pieces that a read needs, decoded as little as their form allows, and kept for the next one.

use super::error::DiskError;
use super::flights::Flights;
use super::index::{Cursor, Index, PageShelf};
use super::known::RunShelf;
use super::options::{DiskOptions, Proof};
use super::shelf::Shelf;
use crate::chain::PointId;
use crate::restore::map::{Layer, MapError, Source, Sweep};
use crate::stream::{Coding, Piece, Problem, StreamError, UNIT_LEN, Units};
use bytes::Bytes;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// A piece of which all is wanted is decoded into the caller's buffer, and not kept, when it is as large as this.
const DIRECT_LEN: u64 = 1 << 20;

/// Room for stored bytes is kept for the next piece up to this size.
const KEPT_ROOM: usize = 4 << 20;

/// A piece: number of its layer, and where it is stored.
type PieceKey = (u32, u64);

/// A unit of a piece, or where a granule begins in an uncompressed one; [`WHOLE`] for all of one.
type UnitKey = (PieceKey, u64);

/// Stands for all units of a piece that is decoded whole.
const WHOLE: u64 = u64::MAX;

/// The streams of a disk, and what was read of them.
#[derive(Debug)]
pub(super) struct Layered {
    pub(super) layers: Vec<Layer>,
    pub(super) indexes: Vec<Index>,
    /// Of each layer's stream.
    pub(super) points: Vec<PointId>,
    /// How far what comes from a layer is proven: it and all newer ones say that it does.
    proofs: Vec<Proof>,
    pages: PageShelf,
    runs: RunShelf,
    content: Shelf<UnitKey, Bytes>,
    flights: Flights<PieceKey>,
    rooms: Mutex<Vec<Vec<u8>>>,
    decoded: AtomicU64,
}

impl Layered {
    /// Of these layers, oldest first; `proven` tells which of them something proves.
    pub(super) fn new(
        (layers, indexes, points): (Vec<Layer>, Vec<Index>, Vec<PointId>),
        proven: &[bool],
        options: DiskOptions,
    ) -> Self {
        let mut all = true;
        let mut proofs: Vec<_> = proven
            .iter()
            .rev()
            .map(|proven| {
                all &= proven;
                if all { Proof::Proven } else { Proof::Unproven }
            })
            .collect();
        proofs.reverse();
        Self {
            layers,
            indexes,
            points,
            proofs,
            pages: Shelf::new(options.index_bytes),
            runs: Shelf::new(options.index_bytes),
            content: Shelf::new(options.content_bytes),
            flights: Flights::new(),
            rooms: Mutex::default(),
            decoded: AtomicU64::new(0),
        }
    }

    /// Which layer has what of a range.
    pub(super) fn sweep(&self, disk: Range<u64>) -> Sweep<Cursor<'_>> {
        let cursor = |(number, index)| Cursor::new(number, index, &self.pages);
        Sweep::new(self.indexes.iter().enumerate().map(cursor).collect(), disk)
    }

    pub(super) fn decoded(&self) -> u64 {
        self.decoded.load(Ordering::Relaxed)
    }

    /// Fills `out` with the bytes of the disk from `offset` on.
    pub(super) fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<Proof, DiskError> {
        let disk = offset..offset + out.len() as u64;
        let mut proof = Proof::Proven;
        for segment in self.sweep(disk.clone()) {
            let segment = segment.map_err(|source| self.unlisted(&disk, source))?;
            let out = &mut out[(segment.disk.start - offset) as usize..(segment.disk.end - offset) as usize];
            // Of zeros every layer says that it has nothing there.
            let decided_by = match &segment.source {
                Source::Zero => {
                    out.fill(0);
                    0
                }
                Source::Piece { layer, piece } => {
                    let read = self.copy(*layer, piece, &segment.disk, out);
                    read.map_err(|source| self.damaged(*layer, &segment.disk, source))?;
                    *layer
                }
            };
            proof = proof.min(self.proofs.get(decided_by).copied().unwrap_or(Proof::Proven));
        }
        Ok(proof)
    }

    /// Copies a part of a piece.
    fn copy(
        &self,
        layer: usize,
        piece: &Piece,
        disk: &Range<u64>,
        out: &mut [u8],
    ) -> Result<(), StreamError> {
        let stream = &self.layers[layer].stream;
        let want = disk.start - piece.disk.start..disk.end - piece.disk.start;
        if piece.coding == Coding::Plain && piece.plain_crc32.is_none() {
            return stream.read_plain(piece, want.start, out);
        }
        if *disk == piece.disk && want.end >= DIRECT_LEN {
            let mut room = self.rooms().pop().unwrap_or_default();
            let read = stream.read_piece_into(piece, &mut room, out);
            self.decoded.fetch_add(want.end, Ordering::Relaxed);
            if room.capacity() <= KEPT_ROOM {
                self.rooms().push(room);
            }
            return read;
        }
        let key = (layer as u32, piece.stored_at);
        match piece.coding {
            Coding::Lz4 => self.copy_units(key, piece, want, out),
            Coding::Plain if self.copy_granules(key, piece, disk, out)? => Ok(()),
            Coding::Plain | Coding::Zstd => self.copy_whole(key, piece, want, out),
        }
    }

    /// Of an uncompressed piece the granules that are wanted, where the layer's sidecar knows them and all of them lie in the
    /// piece; false where it is not so.
    fn copy_granules(
        &self,
        key: PieceKey,
        piece: &Piece,
        disk: &Range<u64>,
        out: &mut [u8],
    ) -> Result<bool, StreamError> {
        let layer = key.0 as usize;
        let within =
            |granule: &Range<u64>| piece.disk.start <= granule.start && granule.end <= piece.disk.end;
        let granules = self.indexes[layer].granules(key.0, disk, &self.runs);
        let Some(granules) = granules.filter(|all| all.iter().all(|(granule, _)| within(granule))) else {
            return Ok(false);
        };
        for (granule, sum) in granules {
            let from = granule.start - piece.disk.start;
            let bytes = self.content.or_read((key, from), || {
                let mut bytes = vec![0; (granule.end - granule.start) as usize];
                self.layers[layer].stream.read_plain(piece, from, &mut bytes)?;
                self.decoded.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                if crc32fast::hash(&bytes) != sum {
                    return Err(
                        Piece { disk: granule.clone(), ..piece.clone() }.damaged(Problem::OtherContent)
                    );
                }
                let len = bytes.len();
                Ok((Bytes::from(bytes), len))
            })?;
            let part = disk.start.max(granule.start)..disk.end.min(granule.end);
            out[(part.start - disk.start) as usize..(part.end - disk.start) as usize].copy_from_slice(
                &bytes[(part.start - granule.start) as usize..(part.end - granule.start) as usize],
            );
        }
        Ok(true)
    }

    fn rooms(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of a piece whose only checksum is over all of it.
    fn copy_whole(
        &self,
        key: PieceKey,
        piece: &Piece,
        want: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), StreamError> {
        let bytes = match self.content.get(&(key, WHOLE)) {
            Some(bytes) => bytes,
            None => {
                let _flight = self.flights.begin(key);
                // Another thread may have brought it meanwhile.
                self.content.or_read((key, WHOLE), || {
                    let (mut stored, mut plain) = (Vec::new(), Vec::new());
                    self.layers[key.0 as usize].stream.read_piece(piece, &mut stored, &mut plain)?;
                    let len = plain.len();
                    self.decoded.fetch_add(len as u64, Ordering::Relaxed);
                    Ok((Bytes::from(plain), len))
                })?
            }
        };
        out.copy_from_slice(&bytes[want.start as usize..want.end as usize]);
        Ok(())
    }

    fn copy_units(
        &self,
        key: PieceKey,
        piece: &Piece,
        want: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), StreamError> {
        let numbers = want.start / UNIT_LEN..want.end.div_ceil(UNIT_LEN);
        let kept = |number| self.content.get(&(key, number));
        let mut units: Vec<Option<Bytes>> = numbers.clone().map(kept).collect();
        if units.contains(&None) {
            let _flight = self.flights.begin(key);
            // Another thread may have brought it meanwhile.
            units = numbers.clone().map(kept).collect();
            if let Some(missing) = units.iter().position(Option::is_none) {
                let from = numbers.start + missing as u64;
                let found = self.decode(key, piece, from * UNIT_LEN..want.end)?;
                for (number, bytes) in (found.first..).zip(found.bytes) {
                    if let Some(unit) =
                        number.checked_sub(numbers.start).and_then(|at| units.get_mut(at as usize))
                    {
                        *unit = Some(bytes);
                    }
                }
            }
        }
        let Some(units) = units.into_iter().collect::<Option<Vec<_>>>() else {
            let (at, len) = (piece.stored_at, piece.stored_len);
            return Err(StreamError::Read { at, len, source: std::io::ErrorKind::UnexpectedEof.into() });
        };
        for (number, bytes) in numbers.zip(&units) {
            let start = number * UNIT_LEN;
            let part = want.start.max(start)..want.end.min(start + bytes.len() as u64);
            out[(part.start - want.start) as usize..(part.end - want.start) as usize]
                .copy_from_slice(&bytes[(part.start - start) as usize..(part.end - start) as usize]);
        }
        Ok(())
    }

    /// Decodes the units of a range, which begins with one, and keeps them. Who has the unit before them reads on: then all that
    /// follow in the piece are decoded too.
    fn decode(&self, key: PieceKey, piece: &Piece, want: Range<u64>) -> Result<Units, StreamError> {
        let stream = &self.layers[key.0 as usize].stream;
        let before = (want.start / UNIT_LEN).checked_sub(1);
        let to_end = want.start..piece.disk.end - piece.disk.start;
        let reads_on = to_end != want && before.is_some_and(|before| self.content.has(&(key, before)));
        // Damage behind what is wanted is for those who want it.
        let ahead = reads_on.then(|| stream.read_units(piece, to_end).ok()).flatten();
        let units = ahead.map_or_else(|| stream.read_units(piece, want), Ok)?;
        self.decoded.fetch_add(units.decoded, Ordering::Relaxed);
        for (number, bytes) in (units.first..).zip(&units.bytes) {
            self.content.put((key, number), bytes.clone(), bytes.len());
        }
        Ok(units)
    }

    /// The error about an index that cannot be read.
    pub(super) fn unlisted(&self, disk: &Range<u64>, source: MapError) -> DiskError {
        let of_layer = |path: &std::path::Path| path.with_extension("") == source.path.with_extension("");
        let layer = self.layers.iter().position(|layer| of_layer(&layer.path)).unwrap_or_default();
        DiskError::Layer { disk: disk.clone(), point: self.points[layer], source }
    }

    /// The error about a piece, with the number of its frame.
    fn damaged(&self, layer: usize, disk: &Range<u64>, mut source: StreamError) -> DiskError {
        let Layer { path, stream, .. } = &self.layers[layer];
        if let StreamError::Damaged(damage) = &mut source {
            damage.frame = damage.frame.or_else(|| stream.frame_at(damage.at));
        }
        let source = MapError { path: path.clone(), source };
        DiskError::Layer { disk: disk.clone(), point: self.points[layer], source }
    }
}
