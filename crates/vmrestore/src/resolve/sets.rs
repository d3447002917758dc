//! The sets of one VM, and which of them is the newest.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use vmplan::retention::{PeriodId, PeriodKind};
use vmstore::{SetDir, VmDir};
use vmstream::chain::{BackupSet, PointDisk, SetError};

use super::ResolveError;

/// A folder in which a set of a VM may lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSet {
    pub dir: PathBuf,
    /// The folder in the VM's folder that it is, or in whose archives it lies. `None` for the VM's folder.
    pub inner: Option<String>,
    pub archived: bool,
}

impl FoundSet {
    /// A folder that is a set, whatever it is in.
    pub(super) fn alone(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), inner: None, archived: false }
    }
}

impl From<SetDir> for FoundSet {
    fn from(SetDir { folder, inner, archived }: SetDir) -> Self {
        Self { dir: folder, inner, archived }
    }
}

/// Where the sets of a VM may lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sets {
    /// As it was asked for.
    pub vm: String,
    pub dir: PathBuf,
    pub sets: Vec<FoundSet>,
}

impl Sets {
    /// All of a VM's folder but what was being removed.
    pub(super) fn of(vm: &str, dir: &VmDir) -> Result<Self, ResolveError> {
        let sets = dir.sets().filter(|set| !set.as_ref().is_ok_and(SetDir::is_leftover));
        let sets = sets.map(|set| set.map(FoundSet::from)).collect::<Result<_, _>>()?;
        Ok(Self { vm: vm.to_owned(), dir: dir.path().to_owned(), sets })
    }

    /// The folders in the VM's folder that are periods'.
    pub(super) fn periods(&self) -> impl Iterator<Item = String> {
        self.sets.iter().filter_map(|set| set.inner.clone()).filter(|inner| !inner.starts_with('.'))
    }

    /// The set with the newest point: of those that are active, and of archived ones where no other has a point.
    ///
    /// Periods of one kind are in the order of their names, so only the last of each kind that has points is opened. What is
    /// newer among those, the data says.
    ///
    /// # Errors
    /// When none has a point, or a folder cannot be read.
    pub(super) fn newest(&self) -> Result<(FoundSet, BackupSet), ResolveError> {
        if let Some(own) = self.sets.iter().find(|set| set.inner.is_none() && !set.archived) {
            // A chain that does not end by date lies in the VM's folder, and is all there is.
            if let Some(set) = with_points(&own.dir)? {
                return Ok((own.clone(), set));
            }
        }
        for archived in [false, true] {
            let mut newest: Vec<(Option<PeriodKind>, String, FoundSet, BackupSet)> = Vec::new();
            for found in self.sets.iter().rev().filter(|found| found.archived == archived) {
                let kind = found.inner.as_deref().and_then(PeriodId::of_folder).map(|period| period.kind());
                // What is no period, and an archive, tells nothing by its name.
                let is_older = kind.is_some() && !archived && newest.iter().any(|(other, ..)| *other == kind);
                if is_older {
                    continue;
                }
                if let Some(set) = with_points(&found.dir)? {
                    newest.push((kind, newest_date(&set), found.clone(), set));
                }
            }
            if let Some((_, _, found, set)) = newest.into_iter().max_by(|one, other| one.1.cmp(&other.1)) {
                return Ok((found, set));
            }
        }
        Err(ResolveError::NoData { dir: self.dir.clone() })
    }
}

/// The set in a folder, if it has a point.
pub(super) fn with_points(dir: &Path) -> Result<Option<BackupSet>, ResolveError> {
    match BackupSet::open(dir) {
        Ok(set) => Ok(Some(set).filter(|set| !set.points.is_empty())),
        Err(SetError::NotASet { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// When the newest point of a set was taken, in local time: as the data says, else as the files' times do.
pub(super) fn newest_date(set: &BackupSet) -> String {
    let by_data = set.points.iter().filter_map(|point| point.taken()).max();
    by_data.map(str::to_owned).unwrap_or_else(|| {
        let disks = set.points.iter().flat_map(|point| point.disks.values());
        let modified = disks.map(PointDisk::modified).max();
        let time = modified.and_then(|time| Timestamp::try_from(time).ok()).unwrap_or_default();
        time.to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S").to_string()
    })
}
