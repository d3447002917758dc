//! The one point that is meant, with what is known of it before anything is decided.

use std::path::{Path, PathBuf};

use vmstream::chain::{BackupSet, Point, PointId};

use super::definition::Definition;
use super::sets::with_points;
use super::{FoundSet, PointWish, ResolveError, Sets, VmName, vm_sets};

/// A restore point of a VM.
#[derive(Debug)]
pub struct Chosen {
    /// The VM as its definition at that point calls it; else as the checkpoint list, else as it was asked for.
    pub vm: String,
    /// As it was asked for.
    pub asked: String,
    /// The backup path.
    pub root: PathBuf,
    /// Where the set lies.
    pub place: FoundSet,
    pub set: BackupSet,
    pub point: PointId,
    /// The domain XML of that point. `None` where there is none that can be read: disks can be restored all the same.
    pub definition: Option<Definition>,
}

impl Chosen {
    /// The point itself.
    pub fn at(&self) -> Option<&Point> {
        self.set.points.iter().find(|point| point.id == self.point)
    }
}

/// Finds the point of a VM.
///
/// # Errors
/// When there is none such, with what there is.
pub fn choose(
    root: &Path,
    vm: &VmName,
    period: Option<&str>,
    wish: &PointWish,
) -> Result<Chosen, ResolveError> {
    let sets = vm_sets(root, &vm.name, period)?;
    let (place, set) = match wish {
        PointWish::Until(_) => until(&sets, wish)?,
        _ => sets.newest()?,
    };
    let (point, definition) = {
        let point = wish.find(&sets.vm, &set)?;
        (point.id, Definition::of(&set, point))
    };
    let name = definition.as_ref().map(|definition| definition.name.clone());
    let vm = name.or_else(|| set.domain.clone()).unwrap_or_else(|| sets.vm.clone());
    Ok(Chosen { vm, asked: sets.vm, root: root.to_owned(), place, set, point, definition })
}

/// The set with the newest point of a VM.
///
/// # Errors
/// When there is none, with what there is.
pub fn newest_set(
    root: &Path,
    vm: &VmName,
    period: Option<&str>,
) -> Result<(FoundSet, BackupSet), ResolveError> {
    vm_sets(root, &vm.name, period)?.newest()
}

/// The set whose point is the newest until a moment, among all of them, archived ones too.
fn until(sets: &Sets, wish: &PointWish) -> Result<(FoundSet, BackupSet), ResolveError> {
    let mut best: Option<(String, FoundSet, BackupSet)> = None;
    let mut none: Option<ResolveError> = None;
    for found in &sets.sets {
        let Some(set) = with_points(&found.dir)? else { continue };
        match wish.find(&sets.vm, &set) {
            Ok(point) => {
                let taken = point.taken().unwrap_or_default().to_owned();
                if best.as_ref().is_none_or(|(newest, ..)| *newest <= taken) {
                    best = Some((taken, found.clone(), set));
                }
            }
            Err(error) => none = Some(older(none, error)),
        }
    }
    match (best, none) {
        (Some((_, found, set)), _) => Ok((found, set)),
        (None, Some(error)) => Err(error),
        (None, None) => Err(ResolveError::NoData { dir: sets.dir.clone() }),
    }
}

/// The error that names the older oldest point.
fn older(one: Option<ResolveError>, other: ResolveError) -> ResolveError {
    let oldest = |error: &ResolveError| match error {
        ResolveError::NothingUntil { oldest: Some((_, taken)), .. } => Some(taken.clone()),
        _ => None,
    };
    match one {
        Some(one) if oldest(&one).is_some_and(|date| oldest(&other).is_none_or(|it| date <= it)) => one,
        _ => other,
    }
}
