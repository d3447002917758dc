//! The TPM's state in a set: a folder or link for each point, and `tpm-state`, a copy of the newest. Older versions had a
//! link to it, which becomes a folder.

use super::contents::{NewFile, NewLink, NewTpm};
use super::error::ConvertError;
use crate::chain::{BackupSet, CheckpointName, PointDisk, PointId, SetFile};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What the folder of a point begins with; its IDENT follows.
const PREFIX: &str = ".tpm-state.";

/// Where restore scripts look.
const NEWEST: &str = "tpm-state";

/// What is to become that.
const NEXT: &str = ".tpm-state.next";

/// The folders that hold a TPM's state in a set, by every name that leads to one.
pub(super) struct TpmFolders {
    dir: PathBuf,
    places: BTreeMap<String, PathBuf>,
}

impl TpmFolders {
    pub(super) fn of(set: &BackupSet) -> Result<Self, ConvertError> {
        let dir = &set.dir;
        let failed = |source| ConvertError::Read { path: dir.to_owned(), source };
        let mut places = BTreeMap::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            let Ok(name) = entry.map_err(failed)?.file_name().into_string() else { continue };
            if name == NEXT || is_of_another_chain(set, &name)? {
                continue;
            }
            if name == NEWEST || name.starts_with(PREFIX) {
                if let Some(place) = place(dir, &name)? {
                    places.insert(name, place);
                }
            }
        }
        Ok(Self { dir: dir.to_owned(), places })
    }

    /// Everything under its own name, with its point. What is of a checkpoint that `known` does not know was left by a
    /// run that did not finish.
    pub(super) fn all(
        &self,
        known: impl Fn(PointId) -> bool,
    ) -> Result<Vec<(Option<PointId>, NewTpm)>, ConvertError> {
        let unfinished =
            |name: &str| matches!(point_of(name), Some(id @ PointId::Checkpoint(_)) if !known(id));
        let kept = self.places.iter().filter(|(name, _)| !unfinished(name));
        let made = self.made(kept.map(|(name, place)| (name.clone(), place)).collect())?;
        Ok(made.into_iter().map(|(name, made)| (point_of(&name).filter(|id| known(*id)), made)).collect())
    }

    /// What the point `id` has, as that of the first point. `tpm-state` leads to it, as far as it is a TPM's state and not
    /// keys alone. What an older program left as `tpm-state` is kept where nothing else is.
    pub(super) fn at(&self, id: PointId) -> Result<Vec<NewTpm>, ConvertError> {
        let newest = match self.places.get(NEWEST) {
            Some(place) if self.is_of_older_program(place)? => Some(place),
            _ => None,
        };
        let own = self.places.get(&format!("{PREFIX}{}", id.ident()));
        let state = own.filter(|place| holds_state(place)).or(newest);
        let first = format!("{PREFIX}{}", CheckpointName::FIRST);
        let wanted = own.map(|place| (first, place)).into_iter();
        let made = self.made(wanted.chain(state.map(|place| (NEWEST.to_owned(), place))).collect())?;
        Ok(made.into_iter().map(|(_, made)| made).collect())
    }

    /// Whether the newest state goes along with the point `id`, and so what says when it was taken.
    pub(super) fn newest_is_at(&self, id: PointId) -> Result<bool, ConvertError> {
        let own = self.places.get(&format!("{PREFIX}{}", id.ident()));
        match (self.places.get(NEWEST), own) {
            (Some(place), Some(own)) => Ok(own == place || are_same(own, place)?),
            (Some(place), None) => self.is_of_older_program(place),
            (None, _) => Ok(false),
        }
    }

    /// Whether no point has what `tpm-state` leads to.
    fn is_of_older_program(&self, place: &Path) -> Result<bool, ConvertError> {
        for (_, other) in self.places.iter().filter(|(name, _)| *name != NEWEST) {
            if other == place || are_same(other, place)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes each place once, under its own name if that is wanted, and links for the other names.
    fn made(&self, wanted: Vec<(String, &PathBuf)>) -> Result<Vec<(String, NewTpm)>, ConvertError> {
        let is_own = |name: &String, place: &Path| place == self.dir.join(name);
        let (own, other): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|(name, place)| is_own(name, place));
        let mut names = BTreeMap::new();
        let mut made = Vec::new();
        for (name, place) in own.into_iter().chain(other) {
            let new = match names.get(place).filter(|_| name != NEWEST) {
                Some(target) => NewTpm::Link(NewLink { name: name.clone(), target: String::clone(target) }),
                None => {
                    names.insert(place, name.clone());
                    NewTpm::Folder(files(place, &name)?)
                }
            };
            made.push((name, new));
        }
        Ok(made)
    }
}

/// The folder a name leads to. Only `tpm-state` may lead out of the set, as an older program made it.
fn place(dir: &Path, name: &str) -> Result<Option<PathBuf>, ConvertError> {
    let path = dir.join(name);
    let failed = |source| ConvertError::Read { path: path.clone(), source };
    let about = path.symlink_metadata().map_err(failed)?;
    if about.is_dir() {
        return Ok(Some(path));
    }
    if !about.is_symlink() || (name != NEWEST && point_of(name).is_none()) {
        return Ok(None);
    }
    let target = fs::read_link(&path).map_err(failed)?;
    let place = dir.join(&target);
    let beside = target.components().count() == 1 && target.is_relative();
    // A folder that is gone is an error: the state would be lost without a trace.
    let leads_on = match name {
        NEWEST if !beside => fs::metadata(&path),
        _ => place.symlink_metadata(),
    };
    let is_dir = leads_on.map_err(failed)?.is_dir();
    Ok((is_dir && (beside || name == NEWEST)).then_some(place))
}

/// Whether a name is that of the TPM or the `.identity` file of a point which has sidecars, and none of them knows of it: a
/// program that archived an older chain left it.
pub(super) fn is_of_another_chain(set: &BackupSet, name: &str) -> Result<bool, ConvertError> {
    let of_identity = match SetFile::parse(name) {
        Some(SetFile::Identity(id)) => Some(id),
        _ => None,
    };
    let Some(id) = of_identity.or_else(|| point_of(name)) else { return Ok(false) };
    let Some(point) = set.points.iter().find(|point| point.id == id) else { return Ok(false) };
    // Without a sidecar, or with one that has no room for files, nothing tells whose it is.
    let tells = |disk: &PointDisk| match disk.open_sidecar() {
        Some(Ok(sidecar)) => !sidecar.head().files.is_empty(),
        Some(Err(_)) => true,
        None => false,
    };
    if !point.disks.values().any(tells) {
        return Ok(false);
    }
    let path = || set.dir.join(SetFile::Identity(id).to_string());
    let own = set.identity_of(point).map_err(|source| ConvertError::Read { path: path(), source })?;
    Ok(own.is_none())
}

/// Whether two folders hold the same files.
fn are_same(one: &Path, other: &Path) -> Result<bool, ConvertError> {
    let read = |file: &NewFile| {
        fs::read(&file.from).map_err(|source| ConvertError::Read { path: file.from.clone(), source })
    };
    let (ours, theirs) = (files(one, "")?, files(other, "")?);
    if ours.len() != theirs.len() {
        return Ok(false);
    }
    for (file, other) in ours.iter().zip(&theirs) {
        if file.name != other.name || read(file)? != read(other)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn point_of(name: &str) -> Option<PointId> {
    PointId::from_ident(name.strip_prefix(PREFIX)?)
}

fn holds_state(place: &Path) -> bool {
    ["tpm2", "tpm1.2"].iter().any(|version| place.join(version).is_dir())
}

/// The files of a folder for a folder `name`. Links in it are not followed.
fn files(place: &Path, name: &str) -> Result<Vec<NewFile>, ConvertError> {
    let mut files = Vec::new();
    let mut folders = vec![(place.to_owned(), name.to_owned())];
    while let Some((folder, prefix)) = folders.pop() {
        let failed = |source| ConvertError::Read { path: folder.clone(), source };
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let (name, about) = (format!("{prefix}/{name}"), entry.metadata().map_err(failed)?);
            if about.is_dir() {
                folders.push((entry.path(), name));
            } else if about.is_file() {
                let time = about.modified().map_err(failed)?;
                files.push(NewFile { name, from: entry.path(), time, secret: true });
            }
        }
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}
