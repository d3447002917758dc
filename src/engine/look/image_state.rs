//! Whether the disks of a domain that is shut off are as they were at its newest restore point.
//!
//! Lives here: what tells one state of an image from another without reading it, and the file that keeps it.
//! Must not live here: what tells it of copies without such a file (`unnoted_copy`), what follows from it (`vmplan`).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use vmstream::chain::{BackupSet, PointId, SetFile};

use crate::engine::cancel::Cancel;
use crate::engine::domain::image_format::ImageFormat;
use crate::engine::image::layers;
use crate::engine::image::qcow2_header;
use crate::engine::image::qemu_img::{self, QemuImgError};
use crate::engine::image::readable_disk::ReadableDisk;
use vmprogram::{Look, ProgramError};

/// The file beside a restore point that keeps the state of the images it was taken of.
pub(crate) const STATE_FILE: &str = ".copy-state.json";

/// How long a look at all files of a domain may take.
pub(super) const LOOK_LIMIT: Duration = Duration::from_secs(60);

/// The files of a disk cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// Most often what an image is backed by is not there, or leads back to it.
    #[error(transparent)]
    Layers(#[from] QemuImgError),
    /// The process that looks.
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error("{}: {why}", file.display())]
    File {
        file: PathBuf,
        /// What the system said.
        why: String,
    },
}

/// What tells one state of an image from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ImageState {
    size: u64,
    inode: u64,
    modified_seconds: i64,
    modified_nanos: i64,
    /// The header of a qcow2 image in hexadecimal digits. A tool that sets times back cannot hide what it did there.
    #[serde(default)]
    header: Option<String>,
}

impl ImageState {
    fn of(look: &Look) -> Self {
        let digits = |header: &[u8]| {
            header.iter().fold(String::new(), |mut digits, byte| {
                let _ = write!(digits, "{byte:02x}");
                digits
            })
        };
        Self {
            size: look.size,
            inode: look.inode,
            modified_seconds: look.modified_seconds,
            modified_nanos: look.modified_nanos,
            header: qcow2_header::fixed_fields(&look.head).map(digits),
        }
    }
}

/// The state of every image of a domain, of all files that back them and of their external data files, by path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageStates(BTreeMap<String, ImageState>);

impl ImageStates {
    /// # Errors
    /// When a file cannot be looked at, or not in time.
    pub(crate) fn of<'a>(
        disks: impl IntoIterator<Item = &'a ReadableDisk>,
        cancel: &Cancel,
    ) -> Result<Self, StateError> {
        Ok(Self::from_looks(&looks_at(disks, cancel)?))
    }

    fn from_looks(looks: &[(PathBuf, Look)]) -> Self {
        let state =
            |(path, look): &(PathBuf, Look)| (path.to_string_lossy().into_owned(), ImageState::of(look));
        Self(looks.iter().map(state).collect())
    }

    /// True when there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when the files of `others` are among these, each in the same state.
    pub(crate) fn hold(&self, others: &Self) -> bool {
        others.0.iter().all(|(path, state)| self.0.get(path) == Some(state))
    }

    /// True when a file was written less than `limit` before `now`, or is dated as much later.
    fn are_young(&self, now: SystemTime, limit: Duration) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        self.0.values().any(|image| now.abs_diff(image.modified_seconds) < limit.as_secs())
    }
}

/// The state of what a domain writes to besides its disks. `None` where that cannot be told.
pub(super) fn beside(files: &[PathBuf], cancel: &Cancel) -> Option<ImageStates> {
    if files.is_empty() {
        return Some(ImageStates(BTreeMap::new()));
    }
    let looks = vmprogram::look(files, LOOK_LIMIT, &|| cancel.stopped().is_some()).ok()?;
    let seen = files.iter().zip(looks).filter_map(|(file, look)| match look {
        Ok(look) => Some(Some((file.clone(), look))),
        // Not there before the first start.
        Err(why) if qemu_img::says_missing(&why) => None,
        Err(_) => Some(None),
    });
    Some(ImageStates::from_looks(&seen.collect::<Option<Vec<_>>>()?))
}

/// What every file of these disks looks like.
pub(super) fn looks_at<'a>(
    disks: impl IntoIterator<Item = &'a ReadableDisk>,
    cancel: &Cancel,
) -> Result<Vec<(PathBuf, Look)>, StateError> {
    let files: Result<Vec<_>, _> = disks.into_iter().map(|disk| files_of(disk, cancel)).collect();
    let files: Vec<PathBuf> = files?.into_iter().flatten().collect();
    let looks = vmprogram::look(&files, LOOK_LIMIT, &|| cancel.stopped().is_some())?;
    let seen = files.into_iter().zip(looks).map(|(file, look)| match look {
        Ok(look) => Ok((file, look)),
        Err(why) => Err(StateError::File { file, why }),
    });
    seen.collect()
}

/// The image of a disk and every file below it.
pub(crate) fn files_of(disk: &ReadableDisk, cancel: &Cancel) -> Result<Vec<PathBuf>, QemuImgError> {
    if layers::is_one_file(disk) {
        return Ok(vec![disk.image.clone()]);
    }
    let layers = layers::of(disk, cancel)?;
    Ok(layers.into_iter().flat_map(|layer| [Some(layer.image), layer.data_file]).flatten().collect())
}

/// All images of a domain, which hold still.
pub(crate) struct StillImages {
    pub(crate) images: ImageStates,
    /// What is wrong with them.
    pub(crate) damaged: Vec<String>,
}

/// What a restore point was taken of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TakenOf {
    /// The point, as it stands in file names.
    point: String,
    /// Disk targets that it holds.
    disks: Vec<String>,
    images: ImageStates,
    /// What else the domain writes to: the state of its TPM, the variables of its firmware. It was read later than this was seen.
    /// `None` where that could not be told, and in points of before 0.6.
    #[serde(default)]
    beside: Option<ImageStates>,
    config_xml: String,
    /// What was wrong with those images. It is so as long as they are as they were.
    #[serde(default)]
    damaged: Vec<String>,
}

impl TakenOf {
    /// `raw_disks` tells whether the point holds those that are raw too.
    pub(crate) fn new(
        point: PointId,
        disks: &[ReadableDisk],
        raw_disks: bool,
        still: StillImages,
        beside: Option<ImageStates>,
        config_xml: &str,
    ) -> Self {
        let disks = targets(disks, raw_disks);
        let StillImages { images, damaged } = still;
        Self { point: point.ident(), disks, images, beside, config_xml: config_xml.to_owned(), damaged }
    }

    /// Whether what the domain writes to besides its disks is as it was, as far as that is known. Where no disk tells either
    /// whether it ran meanwhile, it must be.
    fn is_same_beside(&self, now: &Now<'_>) -> bool {
        match (&self.beside, now.beside) {
            (Some(then), Some(seen)) => then == seen && !seen.are_young(now.time, now.settle),
            _ => !self.disks.is_empty(),
        }
    }

    /// What belongs into [`STATE_FILE`].
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The disks that a backup of a domain that is shut off holds.
pub(crate) fn wanted(disks: &[ReadableDisk], raw_disks: bool) -> impl Iterator<Item = &ReadableDisk> {
    disks.iter().filter(move |disk| raw_disks || disk.format == ImageFormat::Qcow2)
}

fn targets(disks: &[ReadableDisk], raw_disks: bool) -> Vec<String> {
    wanted(disks, raw_disks).map(|disk| disk.target.clone()).collect()
}

/// What is compared with what a restore point was taken of.
pub(crate) struct Now<'a> {
    pub(crate) disks: &'a [ReadableDisk],
    pub(crate) raw_disks: bool,
    pub(crate) config_xml: &'a str,
    pub(crate) beside: Option<&'a ImageStates>,
    pub(crate) time: SystemTime,
    /// A file that was written less than this long ago counts as changed.
    pub(crate) settle: Duration,
}

/// What was wrong with the images of a domain when the newest point of a folder was taken, if that holds exactly these images,
/// this definition and what belongs to it. `None` when something changed, or nothing tells.
///
/// A write to a block device leaves no trace in its node, so a domain with one always counts as changed.
pub(crate) fn unchanged(
    chain_dir: &Path,
    set: Option<&BackupSet>,
    now: &Now<'_>,
    cancel: &Cancel,
) -> Option<Vec<String>> {
    let newest = set.and_then(BackupSet::newest)?;
    // Of a copy it is the file that is published last.
    let complete = chain_dir.join(SetFile::VmConfig(newest.id).to_string()).exists();
    let read =
        || -> Option<TakenOf> { serde_json::from_slice(&fs::read(chain_dir.join(STATE_FILE)).ok()?).ok() };
    let then = read().filter(|_| complete)?;
    let is_same = then.point == newest.id.ident()
        && then.config_xml == now.config_xml
        && then.disks == targets(now.disks, now.raw_disks)
        && then.is_same_beside(now)
        && looks_at(now.disks, cancel).is_ok_and(|looks| {
            let images = ImageStates::from_looks(&looks);
            let on_device = looks.iter().any(|(_, look)| look.is_block_device);
            !on_device && images == then.images && !images.are_young(now.time, now.settle)
        });
    is_same.then_some(then.damaged)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn each_fact_of_a_file_tells_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let make = |header: &[u8]| {
            fs::write(&path, [header, &[0; 200]].concat()).unwrap();
            // What a tool does that copies times along.
            File::options().write(true).open(&path).unwrap().set_modified(UNIX_EPOCH).unwrap();
            ImageState::of(&Look::at(&path).unwrap())
        };
        let raw = make(b"");
        assert_eq!((raw.header.as_deref(), raw.modified_seconds), (None, 0));
        let qcow2 = make(b"QFI\xfb\x00");
        assert_eq!(qcow2.header.as_ref().map(String::len), Some(2 * 112));
        assert_eq!(qcow2, make(b"QFI\xfb\x00"));
        let other_header = make(b"QFI\xfb\x01");
        assert_eq!(ImageState { header: None, ..other_header.clone() }, ImageState { header: None, ..qcow2 });
        assert_ne!(other_header, qcow2);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(UNIX_EPOCH + Duration::from_nanos(1))
            .unwrap();
        assert_ne!(ImageState::of(&Look::at(&path).unwrap()), other_header, "a nanosecond");
    }

    #[test]
    fn states_hold_those_of_some_of_their_files() {
        let image =
            |size| ImageState { size, inode: 1, modified_seconds: 1, modified_nanos: 0, header: None };
        let states = |images: &[(&str, u64)]| {
            ImageStates(images.iter().map(|(path, size)| ((*path).to_owned(), image(*size))).collect())
        };
        let all = states(&[("/copied", 1), ("/not", 1)]);
        let cases: [(&[(&str, u64)], bool); 4] =
            [(&[("/copied", 1)], true), (&[], true), (&[("/copied", 2)], false), (&[("/other", 1)], false)];
        for (now, want) in cases {
            assert_eq!(all.hold(&states(now)), want, "{now:?}");
        }
    }

    #[test]
    fn what_was_just_written_is_young() {
        let image = ImageState { size: 1, inode: 1, modified_seconds: 100, modified_nanos: 0, header: None };
        let states = ImageStates(BTreeMap::from([("/i".to_owned(), image)]));
        let young = |at: u64, limit: u64| {
            states.are_young(UNIX_EPOCH + Duration::from_secs(at), Duration::from_secs(limit))
        };
        // (seconds now, limit, young)
        let cases = [
            (100, 60, true),
            (159, 60, true),
            (160, 60, false),
            (41, 60, true),
            (40, 60, false),
            (100, 0, false),
        ];
        for (now, limit, want) in cases {
            assert_eq!(young(now, limit), want, "{now} {limit}");
        }
    }
}
