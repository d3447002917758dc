//! Compares what the sidecars of a set say of a disk with the disk's shadow.

use std::fs;
use std::path::Path;

use vmstream::chain::{BackupSet, DiskContent, PointDisk, PointId};
use vmstream::sidecar::{Checked, Tables};

use super::Shadow;

/// How the granules of a disk at a point compare with what the disk held.
#[track_caller]
pub fn granules(set: &Path, target: &str, point: &str, shadow: &Shadow) -> Checked {
    let set = BackupSet::open(set).expect("a set");
    let id: PointId = point.parse().expect("a point");
    let disk = target.parse().expect("a target");
    let at = |id: PointId| set.point(id).ok().and_then(|point| point.disks.get(&disk));
    let files: Vec<&PointDisk> = match set.content(&disk, id).expect("the disk can be put together") {
        DiskContent::Raw { taken, .. } => at(taken).into_iter().collect(),
        DiskContent::Streams(_) => {
            set.needed(set.point(id).expect("the point")).into_iter().filter_map(|part| at(part.id)).collect()
        }
    };
    let sidecars: Vec<_> = files.iter().map(|file| file.open_sidecar()?.ok()).collect();
    let bytes = fs::read(shadow.path()).expect("a small disk");
    let mut checked = Checked::default();
    let last = sidecars.len() - 1;
    let seen = Tables::new(sidecars).window(&(0..bytes.len() as u64), |layer, known| match known {
        Some((granules, values)) if layer == last => checked.add_window(granules, values, 0, &bytes),
        None if layer == last => checked.unproven_bytes = bytes.len() as u64,
        _ => {}
    });
    seen.expect("the sidecars can be read");
    checked
}
