//! The files of a set beside its streams: which there are, and which point each is of. What a TPM left is in `tpm`.

use super::error::ConvertError;
use crate::chain::{BackupSet, PointId, SetFile};
use crate::durable::PARTIAL;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Folders inside a set that belong to it.
const FOLDERS: [&str; 2] = ["checkpoints", "config"];

/// The hidden file that says when the newest state of the TPM was taken.
pub(super) const TPM_MARKER: &str = ".tpm-backup-marker";

/// What a file of a set belongs to.
pub(super) enum Owner {
    /// The chain as a whole: streams, their checksums, the list. They are made anew.
    Chain,
    /// A point. Checkpoint descriptions, which have no name of this kind, do not come with a file.
    Point(PointId, Option<SetFile>),
    /// The set, or nobody knows.
    Set,
}

/// Whose a file is, as its name in [`listing`] says.
pub(super) fn owner(name: &str) -> Owner {
    if let Some(checkpoint) = name.strip_prefix("checkpoints/").and_then(|file| file.strip_suffix(".xml")) {
        return checkpoint.parse().map_or(Owner::Set, |name| Owner::Point(PointId::Checkpoint(name), None));
    }
    let Some(file) = SetFile::parse(name) else { return Owner::Set };
    let point = match &file {
        SetFile::Stream { .. }
        | SetFile::Checksum { .. }
        | SetFile::Sidecar { .. }
        | SetFile::CheckpointList { .. } => return Owner::Chain,
        SetFile::Log { .. } => return Owner::Set,
        SetFile::VmConfig(point)
        | SetFile::Autostart(point)
        | SetFile::OsInfo(point)
        | SetFile::Identity(point) => *point,
        SetFile::QcowInfo { point, .. }
        | SetFile::BitlockerKey { point, .. }
        | SetFile::BootFile { point, .. } => *point,
    };
    Owner::Point(point, Some(file))
}

/// Whether what has this in its name is of the point: files beside a difference have the second in which its run ended.
pub(super) fn is_of(set: &BackupSet, named: PointId, id: PointId) -> bool {
    named == id
        || matches!(named, PointId::Diff(at) if set.difference_at(at).is_some_and(|point| point.id == id))
}

/// The same file of another point.
pub(super) fn at(file: SetFile, to: PointId) -> SetFile {
    match file {
        SetFile::VmConfig(_) => SetFile::VmConfig(to),
        SetFile::Autostart(_) => SetFile::Autostart(to),
        SetFile::OsInfo(_) => SetFile::OsInfo(to),
        SetFile::Identity(_) => SetFile::Identity(to),
        SetFile::QcowInfo { disk, .. } => SetFile::QcowInfo { disk, point: to },
        SetFile::BitlockerKey { volume, .. } => SetFile::BitlockerKey { volume, point: to },
        SetFile::BootFile { base, .. } => SetFile::BootFile { base, point: to },
        other => other,
    }
}

/// The files of a set by their names inside it: every visible finished file (the firmware of a copy has a name of its
/// own), the hidden ones that belong to it, and those in its folders. What a TPM left is not among them.
pub(super) fn listing(dir: &Path) -> Result<Vec<(String, PathBuf)>, ConvertError> {
    let mut files = Vec::new();
    list_into(dir, "", &mut files)?;
    files.sort();
    Ok(files)
}

fn list_into(dir: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> Result<(), ConvertError> {
    let failed = |source| ConvertError::Read { path: dir.to_owned(), source };
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = entry.path();
        let inside = !prefix.is_empty();
        let is_dir = std::fs::metadata(&path).is_ok_and(|about| about.is_dir());
        // A link further inside may lead back up.
        if inside && is_dir && path.is_symlink() {
            continue;
        }
        if is_dir && (inside || FOLDERS.contains(&name.as_str())) {
            list_into(&path, &format!("{prefix}{name}/"), files)?;
        }
        let known = name == TPM_MARKER || matches!(SetFile::parse(&name), Some(SetFile::Identity(_)));
        let hidden = name.starts_with('.') && !known;
        let foreign = hidden || name.ends_with(PARTIAL) || name == "chain-manifest.json";
        if !is_dir && (inside || !foreign) {
            files.push((format!("{prefix}{name}"), path));
        }
    }
    Ok(())
}

/// When a file was written last.
pub(super) fn modified(path: &Path) -> Result<SystemTime, ConvertError> {
    let about = std::fs::metadata(path).and_then(|about| about.modified());
    about.map_err(|source| ConvertError::Read { path: path.to_owned(), source })
}
