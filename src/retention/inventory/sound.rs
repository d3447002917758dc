//! Whether a set can be restored, in the quick form: names, the list, and what each stream says about itself.

use std::path::Path;

use vmstream::chain::{BackupSet, PointDisk, SetProblem, Severity};

/// True when every point of the set has what it needs. A missing domain XML does not count: the disks are there.
pub(super) fn can_be_restored(dir: &Path) -> bool {
    let Ok(set) = BackupSet::open(dir) else { return false };
    let damaged = |problem: &SetProblem| {
        problem.severity() == Severity::Damage && !matches!(problem, SetProblem::ConfigMissing { .. })
    };
    let readable = |disk: &PointDisk| match disk {
        PointDisk::Stream(stream) => stream.meta.is_ok(),
        PointDisk::Raw(_) => true,
    };
    !set.points.is_empty()
        && !set.problems.iter().any(damaged)
        && set.points.iter().all(|point| !point.disks.is_empty() && point.disks.values().all(readable))
}
