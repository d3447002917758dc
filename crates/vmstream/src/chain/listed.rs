//! Which disks a point must have, as its sidecars list them, or what says that it has none.

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
        if let Some(definition) = &point.definition {
            listed.left_out = definition.left_out.iter().filter_map(|one| one.disk.parse().ok()).collect();
            listed.says_all = true;
        }
        for bond in point.disks.values().filter_map(PointDisk::bond) {
            listed.disks.extend(bond.disks.iter().cloned());
            listed.left_out.extend(bond.left_out.iter().cloned());
            listed.says_all |= bond.says_all;
        }
        listed
    }
}
