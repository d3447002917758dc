//! Whether the disks of a domain that is shut off hold still while they are read.
//!
//! Three things are noted before and compared after: what libvirt says of the domain, what every image that is copied looks
//! like from outside, and how much was written to every block device, whose node shows nothing. And somebody who has an image open
//! without libvirt's knowledge here (on a second host, or the domain of another definition) is looked for, both times.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::LookError;
use super::image_state::{self, ImageStates, StateError};
use crate::engine::VmTarget;
use crate::engine::cancel::Cancel;
use crate::engine::failure::Changed;
use crate::engine::image::ImageError;
use crate::engine::image::readable_disk::ReadableDisk;
use vmhost::libvirt::Standing;
use vmprogram::{Used, Writers, Written};

/// How long a look for who writes may take. Much may have to be written out before a device has it.
const ASK_LIMIT: Duration = Duration::from_secs(300);

/// What was noted before the disks are read.
pub(crate) struct Still<'a> {
    vm: &'a VmTarget,
    copied: Vec<&'a ReadableDisk>,
    cancel: &'a Cancel,
    standing: Standing,
    /// Of all disks, for the note of what the copy was taken of.
    images: ImageStates,
    devices: BTreeMap<PathBuf, Written>,
    /// What nobody can tell.
    unknown: BTreeSet<String>,
}

impl<'a> Still<'a> {
    /// Notes how things stand. `copied` are those of `all` that will be read.
    ///
    /// # Errors
    /// [`LookError::InUse`] when somebody writes to one of them.
    pub(crate) fn begin(
        vm: &'a VmTarget,
        all: &'a [ReadableDisk],
        copied: Vec<&'a ReadableDisk>,
        cancel: &'a Cancel,
    ) -> Result<Self, LookError> {
        let standing = vm.domain.standing()?;
        if standing.state.is_active() {
            return Err(changed(vm, "it was started before its disks were copied"));
        }
        let images = ImageStates::of(all, cancel).map_err(|error| match error {
            StateError::Layers(error) => cancel.cause::<LookError>(error),
            error => cancel.cause(changed(vm, &format!("its images cannot be looked at: {error}"))),
        })?;
        let mut still =
            Self { vm, copied, cancel, standing, images, devices: BTreeMap::new(), unknown: BTreeSet::new() };
        still.devices = still.ask()?;
        Ok(still)
    }

    /// Compares with how things stand now: the state of the images, and what nobody could tell, as warnings.
    ///
    /// # Errors
    /// When something was written, or may be: [`LookError::Changed`], [`LookError::InUse`].
    pub(crate) fn end(mut self) -> Result<(ImageStates, Vec<String>), LookError> {
        // First: who starts it through libvirt here is told apart from all others.
        self.same_standing()?;
        if self.ask()? != self.devices {
            return Err(changed(self.vm, "its block devices were written while they were copied"));
        }
        // Of those that are not copied, one may well be another VM's.
        let now = ImageStates::of(self.copied.iter().copied(), self.cancel).map_err(|error| {
            let what = format!("its images cannot be looked at after they were copied: {error}");
            self.cancel.cause::<LookError>(changed(self.vm, &what))
        })?;
        if !self.images.hold(&now) {
            return Err(changed(self.vm, "its images were written while they were copied"));
        }
        self.same_standing()?;
        for (path, written) in &self.devices {
            if let Written::Unknown(why) = written {
                self.unknown.insert(format!(
                    "nobody can tell whether {} was written while it was copied: {why}",
                    path.display()
                ));
            }
        }
        Ok((self.images, self.unknown.into_iter().collect()))
    }

    fn same_standing(&self) -> Result<(), LookError> {
        if self.vm.domain.standing()? == self.standing {
            return Ok(());
        }
        Err(changed(self.vm, "it was started while its disks were copied"))
    }

    /// Looks for who writes. Returns what was written to devices so far.
    fn ask(&mut self) -> Result<BTreeMap<PathBuf, Written>, LookError> {
        let mut devices = BTreeMap::new();
        for (disk, asked) in self.copied.iter().zip(ask_each(self.copied.iter().copied(), self.cancel)?) {
            devices.extend(
                asked.iter().filter_map(|(path, found)| Some((path.clone(), found.written.clone()?))),
            );
            match of_disk(disk, asked) {
                Asked { used: Used::Nobody, .. } => {}
                Asked { used: Used::By(by), image } => {
                    // By its own QEMU: that is said in other words.
                    self.same_standing()?;
                    return Err(LookError::InUse {
                        domain: self.vm.domain.name().to_owned(),
                        target: disk.target.clone(),
                        image,
                        by,
                    });
                }
                Asked { used: Used::Unknown(why), image } => {
                    self.unknown.insert(format!(
                        "nobody can tell whether disk {} ({}) is in use elsewhere while it is copied: {why}",
                        disk.target,
                        image.display()
                    ));
                }
            }
        }
        Ok(devices)
    }
}

/// Whether somebody writes to a disk, and to which of its files.
pub(crate) struct Asked {
    pub(crate) used: Used,
    pub(crate) image: PathBuf,
}

/// Looks for somebody who writes to a file of each disk: its image, what backs it, where the data is.
pub(crate) fn who_writes<'a>(
    disks: impl Iterator<Item = &'a ReadableDisk> + Clone,
    cancel: &Cancel,
) -> Result<Vec<Asked>, LookError> {
    let found = ask_each(disks.clone(), cancel)?;
    Ok(disks.zip(found).map(|(disk, asked)| of_disk(disk, asked)).collect())
}

/// What there is to say of every file of each disk.
fn ask_each<'a>(
    disks: impl Iterator<Item = &'a ReadableDisk>,
    cancel: &Cancel,
) -> Result<Vec<Vec<(PathBuf, Writers)>>, LookError> {
    let files = |disk: &ReadableDisk| {
        image_state::files_of(disk, cancel).unwrap_or_else(|_| vec![disk.image.clone()])
    };
    let files: Vec<Vec<PathBuf>> = disks.map(files).collect();
    let all = files.concat();
    let asked = vmprogram::writers(&all, ASK_LIMIT, &|| cancel.stopped().is_some());
    let mut found = match asked {
        Ok(found) => found.into_iter(),
        Err(error) => {
            let message = format!("looking for who else writes to its disks {error}");
            return Err(cancel.cause(ImageError::QemuNbd { message }));
        }
    };
    Ok(files.into_iter().map(|files| files.into_iter().zip(found.by_ref()).collect()).collect())
}

/// What counts of the files of a disk: somebody who writes, else what nobody can tell.
fn of_disk(disk: &ReadableDisk, asked: Vec<(PathBuf, Writers)>) -> Asked {
    let mut unknown = None;
    for (image, found) in asked {
        match found.used {
            Used::Nobody => {}
            used @ Used::By(_) => return Asked { used, image },
            used @ Used::Unknown(_) => unknown = unknown.or(Some(Asked { used, image })),
        }
    }
    unknown.unwrap_or_else(|| Asked { used: Used::Nobody, image: disk.image.clone() })
}

fn changed(vm: &VmTarget, what: &str) -> LookError {
    Changed { domain: vm.domain.name().to_owned(), what: what.to_owned() }.into()
}
