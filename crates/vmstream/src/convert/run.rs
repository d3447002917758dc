//! A conversion from begin to end: planned, checked, written point by point, and made to appear.

use super::converted::Converted;
use super::error::ConvertError;
use super::new_set::NewSet;
use super::options::{ConvertOptions, Shape};
use super::plan::Plan;
use super::point::{List, Points};
use crate::chain::{BackupSet, PointId};
use crate::doctor;
use crate::verify::Watch;
use std::path::Path;

/// Writes `set` again as a new folder `target`, which must not exist.
///
/// Every byte of each stream that is needed is read once and proven as it is read: by its checksum file, the checksums
/// of its pieces, and what sidecars say of the disk. The set is not touched. The new folder appears, complete and
/// durable, at the end; until then all of it waits under unfinished names in `TARGET.partial`.
///
/// # Errors
/// [`ConvertError`]; nothing is left of the new folder then, but for [`ConvertError::NotDurable`], where all of it is there. After a kill `TARGET.partial` may be left.
pub fn convert(
    set: &BackupSet,
    shape: Shape,
    target: &Path,
    options: ConvertOptions,
    watch: &dyn Watch,
) -> Result<Converted, ConvertError> {
    let plan = Plan::of(set, shape, options.check)?;
    plan.check_files(set, options.check)?;
    let suspect = match shape {
        Shape::SamePoints => false,
        Shape::Full(point) => !doctor::diagnose(set).sound_points.contains(&point),
    };
    let mut points = Points::new(NewSet::create(target, &set.dir)?, options.within_format(), watch);
    let passed_over = plan.passed_over.clone();
    let mut converted = Converted { suspect, passed_over, ..Converted::default() };
    let is_listed = |id: PointId| matches!(id, PointId::Checkpoint(_));
    let newest = plan.points.iter().map(|point| point.id).rfind(|id| is_listed(*id));
    for point in &plan.points {
        let (content, is_last) = (plan.list_at(point.id), newest == Some(point.id));
        let list = plan.list.as_ref().map(|name| List { name, content, is_last });
        points.write(point, list, &mut converted)?;
    }
    points.publish(&plan)?;
    Ok(converted)
}

/// Bytes that a conversion will read.
///
/// # Errors
/// As [`convert`], where the set cannot be converted.
pub fn total_bytes(set: &BackupSet, shape: Shape, check: bool) -> Result<u64, ConvertError> {
    Ok(Plan::of(set, shape, check)?.total_bytes())
}
