//! What a disk must hold at a point: the granules of its chain's sidecars, the newest that has one, in disk order.

use super::crc;
use super::granule::{Granules, Value};
use super::reader::{Cursor, Sidecar, SidecarError};
use super::record::{Run, RunKind};
use super::sums::PartSums;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of a disk whose granules are looked at together; see [`Tables::window`].
const SCAN_LEN: u64 = 32 << 20;

/// The most wrong ranges that are kept.
const MAX_WRONG: usize = 1000;

/// The granules of a disk after each stream of its chain, window by window in disk order.
///
/// A stream without sidecar leaves nothing known. A sidecar that does not name the one before it as its parent knows
/// its own granules only. Memory: one window's values, and one chunk of each sidecar.
#[derive(Debug)]
pub struct Tables {
    layers: Vec<Option<Layer>>,
}

#[derive(Debug)]
struct Layer {
    sidecar: Sidecar,
    linked: bool,
    cursor: Cursor<Run>,
    /// A run that begins behind the last window, or goes on behind it.
    next: Option<Run>,
}

impl Tables {
    /// True when something may be known of the disk after the last stream.
    pub fn know_the_last(&self) -> bool {
        self.layers.last().is_some_and(Option::is_some)
    }

    /// True when the sidecar of this stream is among them.
    pub(crate) fn have(&self, number: usize) -> bool {
        self.layers.get(number).is_some_and(Option::is_some)
    }

    /// The Adler-32 of this stream, as its sidecar has it.
    pub(crate) fn adler32_of(&self, number: usize) -> Option<u32> {
        self.layers.get(number)?.as_ref()?.sidecar.head().stream.adler32
    }

    /// True when every granule of a disk of this size is known after the last stream, and they may be held. Reads the runs of all sidecars, and
    /// leaves the tables at the disk's beginning.
    pub(crate) fn know_all(&mut self, disk_size: u64) -> bool {
        if !self.last_granules().is_some_and(|found| found.disk_size() == disk_size && found.may_be_held()) {
            return false;
        }
        let (mut at, mut all) = (0, true);
        while all && at < disk_size {
            let end = disk_size.min(at.saturating_add(SCAN_LEN));
            let known = self.last_window(&(at..end)).ok().flatten();
            all = known.is_some_and(|(_, values)| !values.contains(&Value::Unknown));
            at = end;
        }
        for layer in self.layers.iter_mut().flatten() {
            (layer.cursor, layer.next) = (Cursor::new(), None);
        }
        all
    }

    /// How the sidecar of the last stream cuts the disk, if there is one.
    pub fn last_granules(&self) -> Option<Granules> {
        self.layers.last()?.as_ref().map(|layer| layer.sidecar.head().granules)
    }

    /// What is known of a range of the disk after the last stream; as [`Tables::window`].
    pub fn last_window(&mut self, disk: &Range<u64>) -> Result<Option<(Granules, Vec<Value>)>, SidecarError> {
        let (last, mut found) = (self.layers.len().saturating_sub(1), None);
        self.window(disk, |layer, known| {
            if layer == last {
                found = known.map(|(granules, values)| (granules, values.to_vec()));
            }
        })?;
        Ok(found)
    }

    /// Tables of a chain: for each of its streams, oldest first, its sidecar, if it has one that can be used.
    pub fn new(sidecars: Vec<Option<Sidecar>>) -> Self {
        let mut before: Option<([u8; 32], Granules)> = None;
        let layers = sidecars.into_iter().map(|sidecar| {
            let layer = sidecar.map(|sidecar| {
                let (head, parent) = (sidecar.head(), before);
                let linked = parent.is_some_and(|(digest, granules)| {
                    head.parent_sidecar == Some(digest) && head.granules == granules
                });
                Layer { linked, sidecar, cursor: Cursor::new(), next: None }
            });
            before = layer.as_ref().map(|layer| (*layer.sidecar.digest(), layer.sidecar.head().granules));
            layer
        });
        Self { layers: layers.collect() }
    }

    /// The sidecars that they were made of.
    pub(crate) fn into_sidecars(self) -> Vec<Option<Sidecar>> {
        self.layers.into_iter().map(|layer| Some(layer?.sidecar)).collect()
    }

    /// Tells `see` what is known of a range of the disk after each stream: how it is cut, and the values of the granules
    /// that begin in it; `None` when nothing is known.
    ///
    /// Ranges come in disk order, cut at multiples of 32 MiB; where only the last stream matters, of its granules. What
    /// lies between two of them is passed over.
    ///
    /// # Errors
    /// [`SidecarError`] when a sidecar cannot be read any more.
    pub fn window(
        &mut self,
        disk: &Range<u64>,
        mut see: impl FnMut(usize, Option<(Granules, &[Value])>),
    ) -> Result<(), SidecarError> {
        let mut values: Option<(Granules, Vec<Value>)> = None;
        for (number, layer) in self.layers.iter_mut().enumerate() {
            let Some(layer) = layer else {
                values = None;
                see(number, None);
                continue;
            };
            let granules = layer.sidecar.head().granules;
            let end = disk.end.min(granules.disk_size());
            let numbers = granules.touched(&(disk.start.min(end)..end));
            let count = (numbers.end - numbers.start) as usize;
            let (_, values) = match &mut values {
                Some(known) if layer.linked => known,
                other => other.insert((granules, vec![Value::Unknown; count])),
            };
            layer.apply(numbers, values)?;
            see(number, Some((granules, values)));
        }
        Ok(())
    }
}

impl Layer {
    /// Overwrites what the sidecar has runs for.
    fn apply(&mut self, window: Range<u64>, values: &mut [Value]) -> Result<(), SidecarError> {
        let granules = self.sidecar.head().granules;
        let zeros = granules.zero_sums();
        loop {
            let run = match self.next.take() {
                Some(run) => Some(run),
                None => self.cursor.next(&self.sidecar)?,
            };
            let Some(run) = run else { return Ok(()) };
            let numbers = run.numbers();
            for number in numbers.start.max(window.start)..numbers.end.min(window.end) {
                values[(number - window.start) as usize] = match &run.kind {
                    RunKind::Zero(_) => Value::Known(zeros.of(number)),
                    RunKind::Known(_) | RunKind::Unknown(_) => run.value(number, granules),
                };
            }
            if numbers.end > window.end {
                self.next = Some(run);
                return Ok(());
            }
        }
    }
}

/// How content compared with what the sidecars say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Bytes that are as they were.
    pub proven_bytes: u64,
    /// Bytes of which nothing is known.
    pub unproven_bytes: u64,
    /// Ranges of the disk with other content than it had; the first thousand.
    pub wrong: Vec<Range<u64>>,
}

impl Checked {
    /// Adds a granule: what is known of it, and the CRC-32 of the content found.
    pub fn add(&mut self, disk: Range<u64>, known: Value, found: u32) {
        let len = disk.end - disk.start;
        match known {
            Value::Unknown => self.unproven_bytes += len,
            Value::Known(sum) if sum == found => self.proven_bytes += len,
            Value::Known(_) => self.add_wrong(disk),
        }
    }

    fn add_wrong(&mut self, disk: Range<u64>) {
        let room = self.wrong.len() < MAX_WRONG;
        match self.wrong.last_mut() {
            Some(last) if last.end == disk.start => last.end = disk.end,
            _ if room => self.wrong.push(disk),
            _ => {}
        }
    }

    /// Adds what was found in a part of the disk that follows.
    pub(crate) fn append(&mut self, other: &Self) {
        self.proven_bytes += other.proven_bytes;
        self.unproven_bytes += other.unproven_bytes;
        other.wrong.iter().cloned().for_each(|disk| self.add_wrong(disk));
    }

    /// Adds the granules that begin in a window; `sums_at` has the sums of each MiB of it.
    pub(crate) fn add_sums<'a>(
        &mut self,
        (granules, values): &(Granules, Vec<Value>),
        start: u64,
        sums_at: impl Fn(usize) -> Option<&'a PartSums>,
    ) {
        for (number, known) in (start / granules.size()..).zip(values) {
            if let Some(sum) = PartSums::granule(*granules, number, start, &sums_at) {
                self.add(granules.range(number), *known, sum);
            }
        }
    }

    /// Bytes that are not as they were, as far as they were kept.
    pub fn wrong_bytes(&self) -> u64 {
        self.wrong.iter().map(|range| range.end - range.start).sum()
    }

    /// Adds the granules that begin in a window, whose bytes are given (none: all are zero).
    pub fn add_window(&mut self, granules: Granules, values: &[Value], start: u64, bytes: &[u8]) {
        let first = start / granules.size();
        for (number, known) in (first..).zip(values) {
            let disk = granules.range(number);
            let found = match (known, bytes) {
                (Value::Unknown, _) => 0,
                (_, []) => granules.zero_sum(number),
                _ => crc32fast::hash(&bytes[(disk.start - start) as usize..(disk.end - start) as usize]),
            };
            self.add(disk, *known, found);
        }
    }
}

/// Proves a disk whose content comes in any order, in parts, from several threads. What never comes counts as zeros.
///
/// Memory: 4 bytes for each granule, and a bit.
#[derive(Debug)]
pub struct Ledger {
    granules: Granules,
    /// What of each granule's remainder has not come yet.
    missing: Vec<AtomicU32>,
    /// One bit for each granule.
    unknown: Vec<u64>,
}

impl Ledger {
    /// A ledger of the disk after the last stream of the tables. `None` when nothing is known of it, or when its sidecar
    /// cuts it into more granules than a writer would.
    ///
    /// # Errors
    /// [`SidecarError`] when a sidecar cannot be read any more.
    pub fn of(mut tables: Tables, disk_size: u64) -> Result<Option<Self>, SidecarError> {
        let mut ledger: Option<Self> = None;
        let granules = tables.last_granules();
        if !granules.is_some_and(|granules| granules.disk_size() == disk_size && granules.may_be_held()) {
            return Ok(None);
        }
        let mut start = 0;
        while start < disk_size {
            let end = disk_size.min(start.saturating_add(SCAN_LEN));
            if let Some((granules, values)) = tables.last_window(&(start..end))? {
                let new = || {
                    // At most 2^26 granules, see above: both may be had at once.
                    let count = granules.count() as usize;
                    let (missing, unknown) =
                        (Vec::with_capacity(count), Vec::with_capacity(count.div_ceil(64)));
                    Self { granules, missing, unknown }
                };
                ledger.get_or_insert_with(new).push(&values);
            }
            start = end;
        }
        Ok(ledger)
    }

    fn push(&mut self, values: &[Value]) {
        for value in values {
            let number = self.missing.len();
            if number % 64 == 0 {
                self.unknown.push(0);
            }
            let missing = match value {
                Value::Known(sum) => crc::swap_form(*sum, self.granules.len_of(number as u64)),
                Value::Unknown => {
                    self.unknown[number / 64] |= 1 << (number % 64);
                    0
                }
            };
            self.missing.push(AtomicU32::new(missing));
        }
    }

    fn is_unknown(&self, number: usize) -> bool {
        self.unknown[number / 64] >> (number % 64) & 1 == 1
    }

    /// Takes content of the disk. Each byte may come once.
    pub fn note(&self, start: u64, content: &[u8]) {
        for (number, remainder) in self.granules.remainders(start, content) {
            if let Some(missing) = self.missing.get(number as usize) {
                missing.fetch_xor(remainder, Ordering::Relaxed);
            }
        }
    }

    /// The result, when all content has come.
    pub fn finish(self) -> Checked {
        let mut checked = Checked::default();
        for (number, missing) in self.missing.iter().enumerate() {
            let known = if self.is_unknown(number) { Value::Unknown } else { Value::Known(0) };
            checked.add(self.granules.range(number as u64), known, missing.load(Ordering::Relaxed));
        }
        checked
    }
}
