//! Which disks a point must have, as its sidecars list them.

use super::ident::DiskTarget;
use super::point::{Point, PointDisk};
use std::collections::BTreeSet;

/// The disks that a point has by what its sidecars list, and those that it is known not to have.
#[derive(Default)]
pub(super) struct Listed {
    pub(super) disks: BTreeSet<DiskTarget>,
    pub(super) left_out: BTreeSet<DiskTarget>,
    /// There is no other disk.
    pub(super) says_all: bool,
}

impl Listed {
    pub(super) fn of(point: &Point) -> Self {
        let mut listed = Self::default();
        for bond in point.disks.values().filter_map(PointDisk::bond) {
            listed.disks.extend(bond.disks.iter().cloned());
            listed.left_out.extend(bond.left_out.iter().cloned());
            listed.says_all |= bond.says_all;
        }
        listed
    }
}
