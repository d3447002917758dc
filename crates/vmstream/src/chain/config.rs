//! The disks that a domain XML names. Nothing else in it matters here.

use super::ident::DiskTarget;
use crate::regular;
use roxmltree::{Document, Node, ParsingOptions};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

/// The most bytes of a domain XML that are looked at for its disks.
const MAX_LEN: u64 = 4 << 20;

/// The most elements, attributes and texts.
const MAX_NODES: u32 = 100_000;

/// The targets of the disks that have content of the guest's: no drives for media, nothing passed through. `None` where
/// the file cannot be read or is no domain XML.
pub(super) fn disks(path: &Path) -> Option<BTreeSet<DiskTarget>> {
    let mut bytes = Vec::new();
    regular::open(path).and_then(|file| file.take(MAX_LEN).read_to_end(&mut bytes)).ok()?;
    of_xml(std::str::from_utf8(&bytes).ok()?)
}

fn of_xml(text: &str) -> Option<BTreeSet<DiskTarget>> {
    let options = ParsingOptions { nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).ok()?;
    let domain = document.root_element();
    let devices = children(domain, "devices").flat_map(|devices| children(devices, "disk"));
    let of_guest = |disk: &Node<'_, '_>| {
        matches!(disk.attribute("device"), None | Some("disk")) && children(*disk, "source").next().is_some()
    };
    let target = |disk: Node<'_, '_>| children(disk, "target").next()?.attribute("dev")?.parse().ok();
    (domain.has_tag_name("domain")).then(|| devices.filter(of_guest).filter_map(target).collect())
}

fn children<'a, 'input>(node: Node<'a, 'input>, name: &str) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children().filter(move |child| child.has_tag_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_of_the_guest_are_named_and_no_drives() {
        let xml = "<domain><devices>
            <disk type='file' device='disk'><source file='/a'/><target dev='vda'/></disk>
            <disk type='file'><source file='/b'/><target dev='vdb'/></disk>
            <disk type='file' device='cdrom'><source file='/c'/><target dev='sda'/></disk>
            <disk type='block' device='lun'><source dev='/d'/><target dev='sdb'/></disk>
            <disk type='file' device='disk'><target dev='vdc'/></disk>
            </devices></domain>";
        let names =
            |text| of_xml(text).map(|disks| disks.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(names(xml), Some(vec!["vda".to_owned(), "vdb".to_owned()]));
        assert_eq!(names("<domain/>"), Some(vec![]));
        for other in ["", "<domain>", "<network/>"] {
            assert_eq!(names(other), None, "{other}");
        }
    }
}
