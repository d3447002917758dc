//! Checkpoints of a domain.

use std::ffi::{CStr, CString};
use std::ptr;

use virt_sys as sys;

use super::{Domain, LibvirtError};

unsafe extern "C" {
    /// libvirt hands out malloc'ed memory that the client frees.
    fn free(block: *mut std::ffi::c_void);
}

/// A checkpoint as the daemon knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// Its name, for example `virtnbdbackup.0`.
    pub name: String,
    /// The full checkpoint XML, with the domain in it.
    pub xml: String,
}

/// How much of a checkpoint goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointDelete {
    /// The metadata and the bitmaps. Needs a live QEMU process.
    WithBitmaps,
    /// Only what libvirt remembers; the bitmaps stay in the images.
    MetadataOnly,
}

/// One reference to a checkpoint object. Freed on drop.
struct Handle(sys::virDomainCheckpointPtr);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the pointer came from libvirt with a reference that belongs to this value alone.
        unsafe { sys::virDomainCheckpointFree(self.0) };
    }
}

impl Handle {
    fn lookup(domain: &virt::domain::Domain, name: &CStr) -> Result<Self, virt::error::Error> {
        // SAFETY: the domain reference and the string outlive the call.
        let raw = unsafe { sys::virDomainCheckpointLookupByName(domain.as_ptr(), name.as_ptr(), 0) };
        if raw.is_null() { Err(virt::error::Error::last_error()) } else { Ok(Self(raw)) }
    }

    fn info(&self) -> Result<CheckpointInfo, virt::error::Error> {
        // SAFETY: the handle is live; the returned name belongs to it and is copied at once.
        let name = unsafe {
            let raw = sys::virDomainCheckpointGetName(self.0);
            if raw.is_null() {
                return Err(virt::error::Error::last_error());
            }
            CStr::from_ptr(raw).to_string_lossy().into_owned()
        };
        // SAFETY: the handle is live; the string that comes back is ours to free.
        let xml = unsafe { take_string(sys::virDomainCheckpointGetXMLDesc(self.0, 0)) }?;
        Ok(CheckpointInfo { name, xml })
    }
}

/// Copies a string that libvirt allocated for us, and frees it.
///
/// # Safety
/// `raw` is null (then the last error is returned) or a malloc'ed, NUL-terminated string owned by the caller.
pub(super) unsafe fn take_string(raw: *mut std::ffi::c_char) -> Result<String, virt::error::Error> {
    if raw.is_null() {
        return Err(virt::error::Error::last_error());
    }
    // SAFETY: checked non-null; libvirt's documentation says the client must free() it.
    unsafe {
        let text = CStr::from_ptr(raw).to_string_lossy().into_owned();
        free(raw.cast());
        Ok(text)
    }
}

/// A C string of text that cannot hold NUL: names and XML we made or libvirt gave us.
pub(super) fn c_string(text: &str) -> CString {
    // Whatever stands behind a NUL is nothing libvirt could have meant.
    CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default()
}

impl Domain {
    /// Every checkpoint of the domain, parents before children.
    pub fn checkpoints(&self) -> Result<Vec<CheckpointInfo>, LibvirtError> {
        self.with("list the checkpoints", |domain| {
            let mut list = ptr::null_mut();
            let flags = sys::VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL;
            // SAFETY: the domain reference is live and `list` is a valid out-pointer.
            let count = unsafe { sys::virDomainListAllCheckpoints(domain.as_ptr(), &mut list, flags) };
            let Ok(count) = usize::try_from(count) else {
                return Err(virt::error::Error::last_error());
            };
            let handles: Vec<Handle> =
                // SAFETY: libvirt returned an array of `count` references, each ours to free.
                (0..count).map(|i| Handle(unsafe { *list.add(i) })).collect();
            // SAFETY: the array itself was malloc'ed for us; its elements now belong to `handles`.
            unsafe { free(list.cast()) };
            handles.iter().map(Handle::info).collect()
        })
    }

    /// Creates a checkpoint, and its bitmaps for all of its disks at once. Needs a live QEMU process.
    ///
    /// # Errors
    /// On [`super::ErrorKind::ConnectionLost`] it may be there.
    pub fn create_checkpoint(&self, checkpoint: &CheckpointInfo) -> Result<(), LibvirtError> {
        let xml = c_string(&checkpoint.xml);
        self.with_once(&format!("create checkpoint {}", checkpoint.name), |domain| {
            // SAFETY: domain reference and string outlive the call; the result is freed by `Handle`.
            let raw = unsafe { sys::virDomainCheckpointCreateXML(domain.as_ptr(), xml.as_ptr(), 0) };
            if raw.is_null() {
                Err(virt::error::Error::last_error())
            } else {
                drop(Handle(raw));
                Ok(())
            }
        })
    }

    /// Deletes one checkpoint. No other checkpoint loses anything: each one's bitmaps record on their own.
    pub fn delete_checkpoint(&self, name: &str, how: CheckpointDelete) -> Result<(), LibvirtError> {
        let flags = match how {
            CheckpointDelete::WithBitmaps => 0,
            CheckpointDelete::MetadataOnly => sys::VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY,
        };
        let c_name = c_string(name);
        self.with(&format!("delete checkpoint {name}"), |domain| {
            let handle = Handle::lookup(domain, &c_name)?;
            // SAFETY: the handle is live.
            let ret = unsafe { sys::virDomainCheckpointDelete(handle.0, flags) };
            if ret < 0 { Err(virt::error::Error::last_error()) } else { Ok(()) }
        })
    }

    /// Asks the daemon to check that the bitmaps of a checkpoint exist and are sound in the live images,
    /// without touching the guest. A checkpoint that the daemon does not have it has afterwards.
    ///
    /// # Errors
    /// [`super::ErrorKind::CheckpointInconsistent`] when a bitmap is missing or broken.
    ///
    /// Source: virDomainCheckpointCreateXML, flag REDEFINE_VALIDATE.
    pub fn validate_checkpoint(&self, checkpoint: &CheckpointInfo) -> Result<(), LibvirtError> {
        self.redefine("validate", checkpoint, sys::VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE)
    }

    /// Gives a checkpoint back to the daemon, whether or not its bitmaps exist.
    pub fn redefine_checkpoint(&self, checkpoint: &CheckpointInfo) -> Result<(), LibvirtError> {
        self.redefine("redefine", checkpoint, 0)
    }

    fn redefine(&self, doing: &str, checkpoint: &CheckpointInfo, flags: u32) -> Result<(), LibvirtError> {
        let xml = c_string(&checkpoint.xml);
        let flags = flags | sys::VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE;
        self.with(&format!("{doing} checkpoint {}", checkpoint.name), |domain| {
            // SAFETY: domain reference and string outlive the call; the result is freed by `Handle`.
            let raw = unsafe { sys::virDomainCheckpointCreateXML(domain.as_ptr(), xml.as_ptr(), flags) };
            if raw.is_null() {
                return Err(virt::error::Error::last_error());
            }
            drop(Handle(raw));
            Ok(())
        })
    }

    /// Bytes that changed on each disk since a checkpoint, as libvirt estimates them: `(disk target, bytes)`.
    ///
    /// Source: virDomainCheckpointGetXMLDesc, flag SIZE. Only for a domain that runs.
    pub fn checkpoint_sizes(&self, name: &str) -> Result<Vec<(String, u64)>, LibvirtError> {
        let c_name = c_string(name);
        let flags = sys::VIR_DOMAIN_CHECKPOINT_XML_SIZE | sys::VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN;
        let xml = self.with(&format!("estimate the changes since checkpoint {name}"), |domain| {
            let handle = Handle::lookup(domain, &c_name)?;
            // SAFETY: the handle is live; the string that comes back is ours to free.
            unsafe { take_string(sys::virDomainCheckpointGetXMLDesc(handle.0, flags)) }
        })?;
        Ok(changed_bytes(&xml))
    }
}

/// What a checkpoint's XML says of the changes since then: `(disk target, bytes)`. None when it is no XML.
pub fn changed_bytes(xml: &str) -> Vec<(String, u64)> {
    let Ok(document) = roxmltree::Document::parse(xml) else { return vec![] };
    let disks = document.descendants().filter(|n| n.has_tag_name("disk"));
    let size = |n: roxmltree::Node<'_, '_>| {
        Some((n.attribute("name")?.to_owned(), n.attribute("size")?.parse().ok()?))
    };
    disks.filter_map(size).collect()
}
