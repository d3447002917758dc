//! The keys of encrypted images, for reading those of a domain that is shut off.

use zeroize::Zeroizing;

use super::error::ImageError;
use super::readable_disk::ReadableDisk;
use vmhost::libvirt::Host;

/// What opens an encrypted image.
pub(crate) type Key = Zeroizing<Vec<u8>>;

/// The key of a disk's image; `None` when it is not encrypted.
pub(crate) fn key_of(host: &Host, disk: &ReadableDisk) -> Result<Option<Key>, ImageError> {
    let Some(secret) = &disk.secret else { return Ok(None) };
    let value = host.secret_value(secret);
    value.map(Some).map_err(|source| ImageError::NoKey { target: disk.target.clone(), source })
}
