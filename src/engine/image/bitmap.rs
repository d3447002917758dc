//! Dirty bitmaps inside a running QEMU that no checkpoint accounts for, and those that images keep.
//!
//! libvirt deletes a checkpoint's bitmaps all or not at all. Where one is missing the others stay behind, and a new
//! bitmap of the same name cannot be made. Only then are they removed over the monitor, by name.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::readable_disk::ReadableDisk;
use vmhost::libvirt::{Domain, LibvirtError};

/// Removes every bitmap called `name` from the domain's images, and tells how many there were.
pub(crate) fn remove_live(domain: &Domain, name: &str) -> usize {
    let nodes = nodes_with(domain, |bitmap| bitmap == name).unwrap_or_default();
    let removed = nodes.iter().filter(|(node, bitmap)| {
        let arguments = json!({ "node": node, "name": bitmap });
        monitor(domain, &json!({ "execute": "block-dirty-bitmap-remove", "arguments": arguments })).is_ok()
    });
    removed.count()
}

/// A bitmap that records the changes of an image, or goes on with it when QEMU opens the image.
pub(crate) struct LiveBitmap {
    /// The image's file.
    pub(crate) image: PathBuf,
    pub(crate) name: String,
}

/// Every bitmap of a domain's images that records, outlives QEMU and is whole.
pub(crate) fn live(domain: &Domain) -> Result<Vec<LiveBitmap>, LibvirtError> {
    let is = |bitmap: &Value, key: &str| bitmap[key].as_bool().unwrap_or(false);
    let mut found = Vec::new();
    for node in nodes(domain)? {
        let Some(image) = node["file"].as_str().and_then(image_of) else { continue };
        for bitmap in node["dirty-bitmaps"].as_array().into_iter().flatten() {
            let sound = is(bitmap, "recording") && is(bitmap, "persistent") && !is(bitmap, "inconsistent");
            if let (Some(name), true) = (bitmap["name"].as_str(), sound) {
                found.push(LiveBitmap { image: image.clone(), name: name.to_owned() });
            }
        }
    }
    Ok(found)
}

/// The image behind what QEMU calls a node's file. That is JSON for an image whose header does not tell all of how it was
/// opened: one with a relative backing file, for example.
fn image_of(file: &str) -> Option<PathBuf> {
    let Some(json) = file.strip_prefix("json:") else { return Some(file.into()) };
    let node: Value = serde_json::from_str(json).ok()?;
    node["file"]["filename"].as_str().map(PathBuf::from)
}

/// Every bitmap of images that nobody has open, if it was closed in order.
pub(crate) fn kept(disks: &[ReadableDisk]) -> Vec<LiveBitmap> {
    let of = |disk: &ReadableDisk| {
        let image = disk.image.clone();
        let names = disk.info.sound_bitmaps.clone().into_iter();
        names.map(move |name| LiveBitmap { image: image.clone(), name })
    };
    disks.iter().flat_map(of).collect()
}

/// What keeps a checkpoint of a domain that is shut off from being gone on with, judged by its images.
pub(crate) fn fault(disks: &[ReadableDisk], with_bitmap: &[String], name: &str) -> Option<String> {
    let expected = disks.iter().filter(|disk| with_bitmap.contains(&disk.target));
    let broken = expected.filter(|disk| disk.info.sound_bitmaps.iter().all(|sound| sound != name));
    let targets = broken.map(|disk| disk.target.as_str()).collect::<Vec<_>>();
    if targets.is_empty() {
        return None;
    }
    Some(format!("{name} is missing in disk {}, or was not closed in order", targets.join(", ")))
}

/// Every block node of a domain.
fn nodes(domain: &Domain) -> Result<Vec<Value>, LibvirtError> {
    let query = json!({ "execute": "query-named-block-nodes", "arguments": { "flat": true } });
    Ok(monitor(domain, &query)?["return"].as_array().cloned().unwrap_or_default())
}

/// `(node, bitmap)` for each bitmap whose name is wanted.
fn nodes_with(domain: &Domain, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, String)>, LibvirtError> {
    let mut found = Vec::new();
    for node in &nodes(domain)? {
        let Some(node_name) = node["node-name"].as_str() else { continue };
        for bitmap in node["dirty-bitmaps"].as_array().into_iter().flatten() {
            if let Some(name) = bitmap["name"].as_str().filter(|n| wanted(n)) {
                found.push((node_name.to_owned(), name.to_owned()));
            }
        }
    }
    Ok(found)
}

fn monitor(domain: &Domain, command: &Value) -> Result<Value, LibvirtError> {
    let reply = domain.monitor_command(&command.to_string())?;
    Ok(serde_json::from_str(&reply).unwrap_or(Value::Null))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_found_in_what_qemu_calls_its_file() {
        let overridden = r#"json:{"backing": {"driver": "qcow2", "file": {"driver": "file", "filename": "/i/base"}},
            "driver": "qcow2", "file": {"driver": "file", "filename": "/i/vda"}}"#;
        let cases =
            [("/i/vda", Some("/i/vda")), (overridden, Some("/i/vda")), ("json:{", None), ("json:{}", None)];
        for (file, want) in cases {
            assert_eq!(image_of(file), want.map(PathBuf::from), "{file}");
        }
    }
}
