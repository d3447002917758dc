//! Files of any size that are copied as they are, with holes where they are zero.

use super::contents::NewFile;
use super::error::ConvertError;
use crate::new_point::{Access, Owner, PointWriter};
use crate::regular;
use crate::restore::raw::COPY_LEN;
use crate::restore::zeros::write_parts;
use crate::sidecar::FileIdentity;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};

/// Copies a file. It gets the permissions it had; a secret is readable by its owner alone at every moment, and stays its
/// owner's, and so are the folders it lies in.
pub(super) fn file(
    point: &mut PointWriter<'_>,
    new: &NewFile,
    see: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> Result<(), ConvertError> {
    let failed = |source| ConvertError::Read { path: new.from.clone(), source };
    if !new.secret {
        let (file, identity) = copy(point, new, Access::Group, see)?;
        return Ok(point.add_file(identity, &file, new.time)?);
    }
    let about = fs::metadata(&new.from).map_err(failed)?;
    let owner = Owner { user: about.uid(), group: about.gid() };
    let (file, identity) = copy(point, new, Access::Private(owner), see)?;
    Ok(point.add_private(&identity.name, &file, new.time, owner)?)
}

/// Copies a raw image, which the caller gives to the point.
pub(super) fn image(
    point: &PointWriter<'_>,
    new: &NewFile,
    see: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> Result<(File, FileIdentity), ConvertError> {
    copy(point, new, Access::Group, see)
}

/// `see` meets its bytes in order.
fn copy(
    point: &PointWriter<'_>,
    NewFile { name, from, .. }: &NewFile,
    access: Access,
    mut see: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> Result<(File, FileIdentity), ConvertError> {
    let failed = |source| ConvertError::Write { path: point.unfinished_path(name), source };
    let read_failed = |source| ConvertError::Read { path: from.clone(), source };
    let input = regular::open(from).map_err(read_failed)?;
    let about = input.metadata().map_err(read_failed)?;
    let file = point.create(name, access)?;
    let (mut buffer, mut size, mut digest) = (Vec::new(), 0, blake3::Hasher::new());
    loop {
        buffer.clear();
        let len = (&input).take(COPY_LEN as u64).read_to_end(&mut buffer).map_err(read_failed)? as u64;
        if len == 0 {
            break;
        }
        write_parts(size, &buffer, |at, part| file.write_all_at(part, at)).map_err(failed)?;
        digest.update(&buffer);
        see(size, &buffer).map_err(failed)?;
        size += len;
    }
    file.set_len(size).map_err(failed)?;
    if access == Access::Group {
        file.set_permissions(about.permissions()).map_err(failed)?;
    }
    Ok((file, FileIdentity { name: name.clone(), size, digest: digest.finalize().into() }))
}
