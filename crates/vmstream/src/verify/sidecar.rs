//! What sidecars say, and what is wrong with them: of a stream, of a raw image, of the files beside them.

use super::finding::{Finding, Level};
use super::options::Watch;
use crate::blob::next_data;
use crate::causes::with_causes;
use crate::chain::{BackupSet, PointDisk, PointId, RawImage, SetProblem, SidecarProblem, StreamEntry};
use crate::regular;
use crate::restore::claim;
use crate::sidecar::{Checked, FileIdentity, Sidecar, SidecarError, Tables};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a raw image looked at together. A multiple of every granule.
const WINDOW_LEN: u64 = 32 << 20;

/// The sidecar of a file, proven to be as it was written. `None` when there is none.
///
/// # Errors
/// The finding, when there is one that cannot be used.
pub(super) fn open(sidecar: Option<&Path>, file: &Path, file_len: u64) -> Result<Option<Sidecar>, Finding> {
    let Some(path) = sidecar else { return Ok(None) };
    let opened = Sidecar::open(path).and_then(|sidecar| sidecar.check().map(|()| sidecar));
    let sidecar = opened.map_err(|error| unusable(path, &error))?;
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if sidecar.head().fits(name, file_len, None) { Ok(Some(sidecar)) } else { Err(stale(file)) }
}

/// What a quick look at a stream's sidecar finds: its head alone is read.
pub(super) fn glance(entry: &StreamEntry) -> Option<Finding> {
    Some(of_problem(entry.sidecar.as_deref()?, &entry.path, &entry.open_sidecar()?.err()?))
}

/// The same of a raw image's, which tells how long the image must be.
pub(super) fn glance_at_image(image: &RawImage) -> Option<Finding> {
    Some(of_problem(image.sidecar.as_deref()?, &image.path, &image.open_sidecar()?.err()?))
}

/// What a quick look at a sidecar finds that no file is beside: one that cannot be read may be of an image that is lost.
pub(super) fn glance_at_lone(path: &Path) -> Option<Finding> {
    Sidecar::open(path).err().map(|error| unusable(path, &error))
}

fn of_problem(sidecar: &Path, file: &Path, problem: &SidecarProblem) -> Finding {
    match problem {
        SidecarProblem::Stale => stale(file),
        SidecarProblem::OtherLength { listed, found } => {
            let finding = Finding::about(Level::Damage, file, problem.to_string());
            // Nothing tells what a longer one has too much, or where.
            Finding { at: Some(*found).filter(|found| found < listed), ..finding }
        }
        SidecarProblem::Unusable(error) => unusable(sidecar, error),
    }
}

fn unusable(path: &Path, error: &SidecarError) -> Finding {
    let level = match error {
        SidecarError::Read(_) => Level::Unreadable,
        error if error.is_newer() => Level::Warning,
        _ => Level::Damage,
    };
    let message = format!("{}; nothing is lost with it but proof", with_causes(error));
    Finding::about(level, path, message)
}

/// The finding about a file whose sidecar is of another one.
pub(super) fn stale(file: &Path) -> Finding {
    let message = format!("its sidecar is ignored: {}", SidecarProblem::Stale);
    Finding::about(Level::Warning, file, message)
}

/// Reads a raw image, and holds it against the granules of its sidecar. Without one nothing can prove it; reading it
/// tells at least that the medium gives it back.
pub(super) fn read_raw(image: &RawImage, watch: &dyn Watch) -> Vec<Finding> {
    if let Some(problem) = image.other_length() {
        return vec![of_problem(&image.path, &image.path, &problem)];
    }
    let (sidecar, mut findings) = match open(image.sidecar.as_deref(), &image.path, image.len) {
        Ok(sidecar) => (sidecar, Vec::new()),
        Err(finding) => (None, vec![finding]),
    };
    if let Err(claim) = claim::check(image.len, claim::allocated(&image.path)) {
        findings.push(Finding::about(Level::Unreadable, &image.path, claim.to_string()));
        return findings;
    }
    let proven = sidecar.is_some();
    let checked = regular::open(&image.path).and_then(|file| check_raw(&file, image.len, sidecar, watch));
    match checked {
        Err(error) => findings.push(Finding::about(Level::Unreadable, &image.path, error.to_string())),
        Ok(checked) => {
            let wrong = checked.wrong.iter().map(|range| {
                let message = "the content is not what was backed up: its checksum in the sidecar differs";
                let finding = Finding::about(Level::Damage, &image.path, message.to_owned());
                Finding { at: Some(range.start), disk_range: Some(range.clone()), ..finding }
            });
            findings.extend(wrong);
            if !proven || checked.unproven_bytes > 0 {
                let message = "a raw image has no checksum: nothing proves it".to_owned();
                findings.push(Finding::about(Level::Unproven, &image.path, message));
            }
        }
    }
    findings
}

fn check_raw(file: &File, len: u64, sidecar: Option<Sidecar>, watch: &dyn Watch) -> io::Result<Checked> {
    let mut tables = Tables::new(vec![sidecar]);
    let mut checked = Checked::default();
    let mut buffer = vec![0; WINDOW_LEN.min(len) as usize];
    let mut at = 0;
    while at < len {
        let window = at..len.min(at + WINDOW_LEN);
        let hole = next_data(file, at, len) >= window.end;
        let bytes = if hole { &mut [] } else { &mut buffer[..(window.end - at) as usize] };
        file.read_exact_at(bytes, at)?;
        watch.read(window.end - at);
        let looked = tables.window(&window, |_, known| {
            if let Some((granules, values)) = known {
                checked.add_window(granules, values, window.start, bytes);
            }
        });
        looked.map_err(io::Error::other)?;
        at = window.end;
    }
    Ok(checked)
}

/// Holds the files beside the streams against what the points' sidecars, or what a point without disks, say of them, and the
/// sidecars against each other.
///
/// `usable` says of which files the sidecar counts.
pub(crate) fn files(set: &BackupSet, usable: impl Fn(&Path) -> bool) -> Vec<Finding> {
    let newest = set.points.iter().rev().find(|point| matches!(point.id, PointId::Checkpoint(_)));
    // While another program writes a point, the list has that one too.
    let unfinished = set.problems.iter().any(|problem| matches!(problem, SetProblem::Unfinished { .. }));
    let newest = newest.map(|point| point.id).filter(|_| !unfinished);
    let (mut findings, mut seen) = (Vec::new(), BTreeSet::new());
    for point in &set.points {
        let alone = point.definition.iter().flat_map(|definition| definition.paths(set));
        findings.extend(alone.filter_map(|(file, path)| of_listed(&path, file.is_at(&path))));
        for (disk, content) in &point.disks {
            let path = content
                .sidecar()
                .filter(|_| usable(content.path()) && set.misplaced(content.path()).is_none());
            let Some(Ok(sidecar)) = path.map(Sidecar::open) else { continue };
            for file in &sidecar.head().files {
                // The list is written anew for each point, so only the newest sidecar speaks of what is there.
                let outdated = file.name.ends_with(".cpt") && newest != Some(point.id);
                if !outdated && seen.insert((file.name.clone(), file.digest)) {
                    findings.extend(check_file(&set.dir, file));
                }
            }
            let parent = point.parent.and_then(|name| set.point(PointId::Checkpoint(name)).ok());
            let before = parent.and_then(|parent| parent.disks.get(disk));
            findings.extend(link(&sidecar, content, before));
        }
    }
    findings
}

fn check_file(dir: &Path, file: &FileIdentity) -> Option<Finding> {
    let path = dir.join(&file.name);
    of_listed(&path, file.is_at(&path))
}

/// The finding about a file that was listed when the backup was made.
pub(super) fn of_listed(path: &Path, same: io::Result<bool>) -> Option<Finding> {
    let message = match same {
        Ok(true) => return None,
        Ok(false) => "the file is not as it was written with the backup",
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            "the file was written with the backup, and is gone"
        }
        Err(error) => return Some(Finding::about(Level::Unreadable, path, error.to_string())),
    };
    Some(Finding::about(Level::Damage, path, message.to_owned()))
}

/// A sidecar that goes on from another than the one before it.
fn link(sidecar: &Sidecar, content: &PointDisk, before: Option<&PointDisk>) -> Option<Finding> {
    let named = sidecar.head().parent_sidecar?;
    let message = match before?.sidecar().map(Sidecar::open) {
        Some(Ok(parent)) if *parent.digest() == named => return None,
        // Two that are whole and of their files: the set knows which of the files was exchanged.
        Some(Ok(_)) if matches!(before?.open_sidecar(), Some(Ok(_))) => return None,
        Some(Ok(_)) => "goes on from another sidecar than the one before it",
        Some(Err(_)) => "goes on from a sidecar that cannot be used",
        None => "goes on from a sidecar that is gone",
    };
    let message = format!("{message}: the disk's content is known in part from here on");
    Some(Finding::about(Level::Warning, content.sidecar()?, message))
}
