//! A disk at a point as a raw image file.
//!
//! Memory: per worker, one piece stored and one plain (32 MiB each at most); beside them one frame per stream.

use super::apply::Job;
use super::content::open_layers;
use super::error::ExtractError;
use super::extracted::{Extracted, Watch};
use super::map::{Layer, disk_size};
use super::open_target;
use super::options::ExtractOptions;
use super::raw::copy_content;
use super::summed::Summed;
use super::target::{Target, ask_free};
use super::units::Units;
use crate::chain::{BackupSet, DiskContent, DiskTarget, PointId, RawImage, UnusedSidecar};
use crate::regular;
use crate::sidecar::{Checked, Ledger, Tables};
use std::path::Path;
use std::sync::Mutex;

/// Writes `disk` as it was at `point` to a new image file or to a block device.
///
/// A file gets its name when all of it is written and durable, never before. Of a larger device only as much as the
/// disk has is written.
///
/// # Errors
/// [`ExtractError`]; nothing is left of an image file then. A device holds parts of old and new content.
pub fn extract(
    set: &BackupSet,
    disk: &DiskTarget,
    point: PointId,
    target: &Path,
    options: ExtractOptions,
    watch: &dyn Watch,
) -> Result<Extracted, ExtractError> {
    let content = set.content(disk, point)?;
    if options.check {
        ExtractError::check_length(&content)?;
        ExtractError::check_place(set, &content)?;
    }
    let (mut tables, mut unused) = content.tables();
    let newest = content.newest_sidecar();
    match &content {
        DiskContent::Streams(entries) => {
            let layers = open_layers(entries, Some(&tables).filter(|_| options.check))?;
            let size = disk_size(&layers);
            let know_all = options.check && tables.know_all(size);
            let summed = match options.check {
                true => Summed::of(entries, (&tables, know_all), &mut unused)?,
                false => Summed::none(),
            };
            let ledger = ledger_of(tables, size, newest, &mut unused);
            let (sizes, checked) = extract_checked(&layers, (ledger, summed), target, options, watch)?;
            Ok(Extracted::new(sizes, point, checked.as_ref(), unused))
        }
        DiskContent::Raw { image, taken } => {
            let ledger = ledger_of(tables, image.len, newest, &mut unused);
            let (written_bytes, checked) = copy_raw(image, ledger, target, options, watch)?;
            Ok(Extracted::new((image.len, written_bytes), *taken, checked.as_ref(), unused))
        }
    }
}

/// What the disk must hold. A sidecar that cannot be read to its end proves nothing, and stands in nobody's way.
fn ledger_of(
    tables: Tables,
    disk_size: u64,
    newest: Option<&Path>,
    unused: &mut Vec<UnusedSidecar>,
) -> Option<Ledger> {
    let ledger = Ledger::of(tables, disk_size);
    ledger.unwrap_or_else(|error| {
        unused.extend(newest.map(|path| UnusedSidecar::new(path, &error)));
        None
    })
}

/// Applies layers, oldest first, to a new image file or to a block device. Returns its size and the bytes written.
///
/// # Errors
/// As [`extract`].
pub fn extract_layers(
    layers: &[Layer],
    target: &Path,
    options: ExtractOptions,
    watch: &dyn Watch,
) -> Result<(u64, u64), ExtractError> {
    extract_checked(layers, (None, Summed::none()), target, options, watch).map(|(sizes, _)| sizes)
}

fn extract_checked(
    layers: &[Layer],
    (ledger, summed): (Option<Ledger>, Summed),
    target: &Path,
    options: ExtractOptions,
    watch: &dyn Watch,
) -> Result<((u64, u64), Option<Checked>), ExtractError> {
    let units = Units::new(layers);
    let size = units.size();
    let image = open_target::open(target, size, options, watch)?;
    let (units, proof) = (Mutex::new(Some(units)), ledger.as_ref());
    let job =
        Job { layers, units, ledger: proof, summed: &summed, image: image.as_ref(), target, size, watch };
    let written = job.run(options.workers).and_then(|written| {
        watch.progress(size, size);
        summed.check().map(|()| written)
    });
    let written = written.map_err(|error| with_device(error, image.is_overwritten(), target))?;
    let checked = finish(image, ledger, target, options, watch)?;
    Ok(((size, written), checked))
}

/// Gives the image its name, unless it is wrong or somebody has begun to use what has that name.
fn finish(
    image: Box<dyn Target>,
    ledger: Option<Ledger>,
    target: &Path,
    options: ExtractOptions,
    watch: &dyn Watch,
) -> Result<Option<Checked>, ExtractError> {
    let checked = ledger.map(Ledger::finish);
    let is_overwritten = image.is_overwritten();
    // Somebody may have opened it meanwhile. A device has the new content already.
    let replaces = options.replace && !image.has_old_content();
    let wrong = checked.as_ref().filter(|_| options.check).map_or(Ok(()), ExtractError::check);
    wrong
        .and_then(|()| image.finish(&|| if replaces { ask_free(target, watch) } else { Ok(()) }))
        .map_err(|error| with_device(error, is_overwritten, target))?;
    Ok(checked)
}

/// An error, and what it leaves of a device.
fn with_device(error: ExtractError, is_overwritten: bool, target: &Path) -> ExtractError {
    match is_overwritten {
        true => ExtractError::Overwritten { path: target.to_owned(), source: Box::new(error) },
        false => error,
    }
}

fn copy_raw(
    source: &RawImage,
    ledger: Option<Ledger>,
    target: &Path,
    options: ExtractOptions,
    watch: &dyn Watch,
) -> Result<(u64, Option<Checked>), ExtractError> {
    let failed = |error| ExtractError::ReadRaw { path: source.path.clone(), source: error };
    let input = regular::open(&source.path).map_err(failed)?;
    let image = open_target::open(target, source.len, options, watch)?;
    let written = copy_content((source, &input), ledger.as_ref(), (image.as_ref(), target), watch)
        .map_err(|error| with_device(error, image.is_overwritten(), target))?;
    Ok((written, finish(image, ledger, target, options, watch)?))
}
