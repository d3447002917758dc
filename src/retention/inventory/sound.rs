//! Whether a set can be restored, in the quick form: names, the list, what each stream says about itself, and what sidecars
//! say of each other.

use std::path::Path;

use vmstream::chain::{BackupSet, PointDisk, SetProblem, Severity};

/// What a set is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// Every point has what it needs.
    Restorable,
    /// Nothing is missing, and nothing tells whether some file is of this backup. `vmstream verify` ends with 2 there.
    Doubtful,
    /// Something is missing or damaged, or the folder holds no set, or cannot be read.
    Broken,
}

/// Looks at the set in a folder. A missing domain XML does not count: the disks are there.
pub(super) fn worth(dir: &Path) -> Worth {
    let Ok(set) = BackupSet::open(dir) else { return Worth::Broken };
    let any = |severity: Severity| {
        let counts = |problem: &&SetProblem| !matches!(problem, SetProblem::ConfigMissing { .. });
        set.problems.iter().filter(counts).any(|problem| problem.severity() == severity)
    };
    let readable = |disk: &PointDisk| match disk {
        PointDisk::Stream(stream) => stream.meta.is_ok(),
        PointDisk::Raw(_) => true,
    };
    let whole = !set.points.is_empty()
        && set.points.iter().all(|point| {
            (!point.disks.is_empty() || point.definition.is_some()) && point.disks.values().all(readable)
        });
    match whole && !any(Severity::Damage) {
        false => Worth::Broken,
        true if any(Severity::Doubt) => Worth::Doubtful,
        true => Worth::Restorable,
    }
}
