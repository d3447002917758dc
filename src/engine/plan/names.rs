//! What the files of a point are called.
//!
//! Must not live here: which files it has (`point_files`).

use vmstream::chain::{DiskTarget, StreamKind, StreamSuffix};

/// The name a file of the set has until it is published.
pub(crate) use vmstream::new_point::unfinished_name as partial_name;

/// A stream's file name for a target that came from libvirt.
pub(crate) fn stream_file(target: &str, kind: StreamKind, suffix: StreamSuffix) -> String {
    match target.parse::<DiskTarget>() {
        Ok(target) => kind.file_name(&target, suffix),
        // libvirt allows only letters and digits in a target; whatever it is stays inside the folder.
        Err(_) => format!("{}.{}", target.replace(['/', '.'], "_"), suffix.as_str()),
    }
}

/// The file name of a stream's sidecar.
pub(crate) fn sidecar_file(target: &str, kind: StreamKind) -> String {
    match target.parse::<DiskTarget>() {
        Ok(target) => kind.sidecar_name(&target),
        Err(_) => stream_file(target, kind, StreamSuffix::Data).replace(".data", ".idx"),
    }
}
