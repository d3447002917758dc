//! The tripwire: notices an increment that would be wrong, where the disk is not what the chain says although nothing is
//! said to have changed.
//!
//! An increment trusts the dirty bitmap. What changes beneath QEMU, or is lost with a bitmap, it does not have, and every
//! check of the streams calls the point good. But the sidecars know the content of each granule of the disk. Of those
//! that are unchanged, says the bitmap, none that was not zero may read as zero, which costs nothing to know; and a few
//! are read and compared.
//!
//! Must not live here: what follows from a trip (`engine`).

use std::ops::Range;
use std::time::Duration;

use vmstream::chain::BoundSidecar;
use vmstream::sidecar::{Granules, PlainSums, Tables, Value, ZeroSums};

use super::error::{CopyError, Trip};
use super::extent::{Span, SpanKind};
use vmhost::nbd::{Connection, NbdError};

/// Granules that are read, beside the first and the last.
const READ_AT_RANDOM: usize = 4;

/// Granules that are looked up at once.
const LOOKED_UP: u64 = 4096;

/// A server that needs longer than this for one granule hangs.
const READ_LIMIT: Duration = Duration::from_secs(120);

/// What the chain knows of a disk.
#[derive(Clone, Debug)]
pub struct TripwirePlan {
    /// The sidecars of its streams up to the parent, oldest first; `None` where a stream has none that is surely its own.
    pub sidecars: Vec<Option<BoundSidecar>>,
    /// Which granules are read.
    pub seed: u64,
}

/// The tripwire of one disk while its status is asked for.
pub(super) struct Tripwire<'a> {
    target: &'a str,
    tables: Tables,
    granules: Granules,
    zeros: ZeroSums,
    /// The clean span at hand, which the next one may continue.
    open: Option<Span>,
    samples: Samples,
}

/// A granule whose content is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    number: u64,
    sum: u32,
}

/// Granules to read.
#[derive(Debug)]
struct Samples {
    first: Option<Known>,
    last: Option<Known>,
    others: Vec<Known>,
    /// Granules to choose from so far.
    seen: u64,
    random: u64,
}

impl<'a> Tripwire<'a> {
    /// `None` when nothing is known of the disk, which has this size now.
    pub(super) fn new(target: &'a str, plan: &TripwirePlan, size: u64) -> Option<Self> {
        // Without the last one nothing is known, whatever there was before.
        plan.sidecars.last()?.as_ref()?;
        let sidecars = plan.sidecars.iter().map(|sidecar| sidecar.as_ref()?.open()).collect();
        let tables = Tables::new(sidecars);
        let granules = tables.last_granules().filter(|granules| granules.disk_size() == size)?;
        let samples = Samples { first: None, last: None, others: vec![], seen: 0, random: plan.seed };
        Some(Self { target, tables, granules, zeros: granules.zero_sums(), open: None, samples })
    }

    /// Takes the next span of the disk.
    pub(super) fn pass(&mut self, span: Span) -> Result<(), CopyError> {
        match &mut self.open {
            Some(open) if open.kind == span.kind && open.start + open.len == span.start => {
                open.len += span.len;
                Ok(())
            }
            open => {
                let before = open.replace(span);
                before.map_or(Ok(()), |before| self.look_at(before))
            }
        }
    }

    /// Looks at what is left, and reads some granules.
    pub(super) fn finish(mut self, connection: &mut Connection) -> Result<(), CopyError> {
        if let Some(last) = self.open.take() {
            self.look_at(last)?;
        }
        let target = self.target;
        let failed =
            |source: NbdError| CopyError::Read { target: target.to_owned(), source: Box::new(source) };
        for Known { number, sum } in self.samples.chosen() {
            let range = self.granules.range(number);
            let len = range.end - range.start;
            if len > connection.max_request().into() {
                continue;
            }
            let buffer = vec![0; usize::try_from(len).unwrap_or_default()];
            connection.start_read(buffer, range.start, number).map_err(failed)?;
            let read = connection.wait(READ_LIMIT).map_err(failed)?.pop();
            let read = read.ok_or_else(|| failed(connection.silent(READ_LIMIT)))?;
            read.result.map_err(failed)?;
            if PlainSums::of(range.start, &read.buf, self.granules).crc32 != sum {
                return Err(self.trip(number));
            }
        }
        Ok(())
    }

    fn look_at(&mut self, span: Span) -> Result<(), CopyError> {
        let is_zero = match span.kind {
            SpanKind::Clean => false,
            SpanKind::CleanZero => true,
            SpanKind::Read | SpanKind::Zero => return Ok(()),
        };
        let Range { mut start, end } = self.granules.within(&(span.start..span.start + span.len));
        while start < end {
            let next = end.min(start + LOOKED_UP);
            let disk = self.granules.range(start).start..self.granules.range(next - 1).end;
            let known = match self.tables.last_window(&disk) {
                Ok(known) => known.map(|(_, values)| values).unwrap_or_default(),
                Err(problem) => {
                    tracing::warn!("what the chain knows of disk {} is not compared: {problem}", self.target);
                    vec![]
                }
            };
            for (number, value) in (start..).zip(known) {
                match value {
                    Value::Known(sum) if is_zero && sum != self.zeros.of(number) => {
                        return Err(self.trip(number));
                    }
                    Value::Known(sum) if !is_zero => self.samples.offer(Known { number, sum }),
                    Value::Known(_) | Value::Unknown => {}
                }
            }
            start = next;
        }
        Ok(())
    }

    fn trip(&self, number: u64) -> CopyError {
        let at = self.granules.range(number).start;
        CopyError::Tripped(Trip { target: self.target.to_owned(), at })
    }
}

impl Samples {
    /// Each granule that is offered is as likely to be chosen as any other.
    fn offer(&mut self, known: Known) {
        self.first.get_or_insert(known);
        self.last = Some(known);
        self.seen += 1;
        if self.others.len() < READ_AT_RANDOM {
            self.others.push(known);
            return;
        }
        let place = self.next() % self.seen;
        if let Some(other) = usize::try_from(place).ok().and_then(|place| self.others.get_mut(place)) {
            *other = known;
        }
    }

    /// In disk order, each once.
    fn chosen(&self) -> Vec<Known> {
        let mut chosen: Vec<_> = self.others.iter().copied().chain(self.first).chain(self.last).collect();
        chosen.sort_by_key(|known| known.number);
        chosen.dedup();
        chosen
    }

    /// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (SplitMix64).
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_the_last_and_some_others_are_chosen_each_as_likely_as_any() {
        const ALL: u64 = 40;
        let mut times = [0_u32; ALL as usize];
        for seed in 0..2000 {
            let mut samples = Samples { first: None, last: None, others: vec![], seen: 0, random: seed };
            (0..ALL).for_each(|number| samples.offer(Known { number, sum: 0 }));
            samples.others.iter().for_each(|known| times[known.number as usize] += 1);
            let chosen: Vec<_> = samples.chosen().iter().map(|known| known.number).collect();
            assert_eq!((chosen.first(), chosen.last()), (Some(&0), Some(&(ALL - 1))));
            assert!(chosen.is_sorted() && (4..=6).contains(&chosen.len()), "{chosen:?}");
        }
        // 2000 times 4 of 40: 200 each.
        assert!(times.iter().all(|times| (130..270).contains(times)), "{times:?}");
    }

    #[test]
    fn few_granules_are_chosen_once() {
        let mut samples = Samples { first: None, last: None, others: vec![], seen: 0, random: 1 };
        assert_eq!(samples.chosen(), []);
        samples.offer(Known { number: 7, sum: 1 });
        assert_eq!(samples.chosen(), [Known { number: 7, sum: 1 }]);
    }
}
