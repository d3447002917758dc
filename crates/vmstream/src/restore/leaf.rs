//! What is known of one MiB of a disk, made of what is known of each 64 KiB of it: a write costs those it touched, however
//! many of them are scattered over the disk.

use crate::sidecar::{Digest, PartSums};

/// Bytes that a disk is looked at in, from its start on. Its last part may be shorter.
pub(crate) const PART_LEN: u64 = PartSums::PART_LEN;

/// Bytes of a leaf. The disk's last one may be shorter.
pub(crate) const LEAF_LEN: u64 = PartSums::LEN;

/// What a look at up to 64 KiB gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// BLAKE3 of its bytes.
    digest: Digest,
    /// For its granule.
    sum: u32,
}

/// What its parts tell of up to a MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// BLAKE3 over those of its parts.
    pub(crate) digest: Digest,
    /// For its granules.
    pub(crate) sums: PartSums,
}

#[cfg(test)]
std::thread_local! {
    /// Bytes that this thread has looked at.
    pub(super) static LOOKED_AT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

impl Part {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        #[cfg(test)]
        LOOKED_AT.set(LOOKED_AT.get() + bytes.len() as u64);
        Self { digest: blake3::hash(bytes).into(), sum: PartSums::part(bytes) }
    }
}

impl Leaf {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::join(bytes.chunks(PART_LEN as usize).map(Part::of))
    }

    /// The leaf of these parts, in order.
    pub(crate) fn join(parts: impl Iterator<Item = Part>) -> Self {
        let mut hasher = blake3::Hasher::new();
        let sums = PartSums::join(parts.map(|part| {
            hasher.update(&part.digest);
            part.sum
        }));
        Self { digest: hasher.finalize().into(), sums }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_the_same_from_its_bytes_and_from_its_parts() {
        let bytes: Vec<u8> = (0..LEAF_LEN - 1000).map(|at| (at * 31 / 7) as u8).collect();
        let parts: Vec<Part> = bytes.chunks(PART_LEN as usize).map(Part::of).collect();
        assert_eq!(parts.len(), 16);
        let leaf = Leaf::join(parts.into_iter());
        assert_eq!((leaf, leaf.sums), (Leaf::of(&bytes), PartSums::of(&bytes)));
    }
}
