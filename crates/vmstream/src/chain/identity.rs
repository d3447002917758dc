//! What a point has besides disks: its `.identity` file, and with it the TPM's state that the file lists.
//!
//! Names prove nothing here. A program that knows these files not archives a chain without them, and they stay beside the
//! next one, whose points have the same names.

use super::definition::MAX_IDENTITY_LEN;
use super::{BackupSet, Point, PointId, SetFile};
use crate::regular;
use crate::sidecar::Digest;
use std::io::{self, ErrorKind, Read};

impl BackupSet {
    /// The point's `.identity` file, if it is the one that was written with the point: one of the point's sidecars fits its
    /// stream and lists the file with this digest. Of a point without disks it is the one that says so.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn identity_of(&self, point: &Point) -> io::Result<Option<Vec<u8>>> {
        let name = SetFile::Identity(point.id).to_string();
        if point.definition.is_some() {
            let mut bytes = Vec::new();
            regular::open(&self.dir.join(&name))?.take(MAX_IDENTITY_LEN).read_to_end(&mut bytes)?;
            return Ok(Some(bytes));
        }
        let listed = point.disks.values().find_map(|disk| {
            let sidecar = disk.open_sidecar()?.ok()?;
            let file = sidecar.head().files.iter().find(|file| file.name == name)?;
            Some(file.clone())
        });
        let Some(listed) = listed.filter(|file| file.size <= MAX_IDENTITY_LEN) else { return Ok(None) };
        let mut bytes = Vec::new();
        match regular::open(&self.dir.join(&name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened?.take(listed.size + 1).read_to_end(&mut bytes)?,
        };
        Ok((Digest::from(blake3::hash(&bytes)) == listed.digest).then_some(bytes))
    }

    /// Whether the point `id` is of this chain together with what its `.identity` file and its TPM folder say. False also
    /// where that cannot be told.
    pub fn has_identity(&self, id: PointId) -> bool {
        self.point(id).is_ok_and(|point| matches!(self.identity_of(point), Ok(Some(_))))
    }
}
