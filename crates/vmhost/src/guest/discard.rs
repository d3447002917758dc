//! Which disks of a domain pass the guest's discards on, and what a Windows guest needs to use that well.

use roxmltree::{Document, Node};

/// Namespace of QEMU's own settings in a domain's definition.
const QEMU_NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

/// What Windows should take for one unit of discard: with QEMU's default of a sector it trims a volume in millions of
/// small requests.
const GRANULARITY: u32 = 32 << 20;

/// A disk whose blocks the guest can give back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscardDisk {
    /// Disk target, for example `vda`.
    pub target: String,
    /// Name of the device, by which its properties can be set. Only running domains have them all.
    pub alias: Option<String>,
    /// The definition sets how large a unit of discard is.
    pub has_granularity: bool,
    /// QEMU's device behind it knows that property: virtio-blk and virtio-scsi.
    pub can_have_granularity: bool,
}

/// The disks of a domain with `discard='unmap'`. None if the XML cannot be read.
pub fn discard_disks(xml: &str) -> Vec<DiscardDisk> {
    let Ok(document) = Document::parse(xml) else { return vec![] };
    let child =
        |node: Node<'_, '_>, name: &str| node.children().find(|c| c.has_tag_name(name)).map(|c| c.id());
    let attribute = |node: Node<'_, '_>, element: &str, name: &str| {
        let found = child(node, element).and_then(|id| node.document().get_node(id))?;
        found.attribute(name).map(str::to_owned)
    };
    let disk = |node: Node<'_, '_>| {
        if attribute(node, "driver", "discard")? != "unmap" {
            return None;
        }
        let alias = attribute(node, "alias", "name");
        let bus = attribute(node, "target", "bus").unwrap_or_default();
        Some(DiscardDisk {
            target: attribute(node, "target", "dev")?,
            has_granularity: alias.as_deref().is_some_and(|alias| has_granularity(&document, alias)),
            alias,
            can_have_granularity: matches!(bus.as_str(), "virtio" | "scsi"),
        })
    };
    document.descendants().filter(|n| n.has_tag_name("disk")).filter_map(disk).collect()
}

fn has_granularity(document: &Document<'_>, alias: &str) -> bool {
    let of_device = |node: &Node<'_, '_>| {
        node.has_tag_name((QEMU_NAMESPACE, "device")) && node.attribute("alias") == Some(alias)
    };
    let property = |node: Node<'_, '_>| {
        node.has_tag_name((QEMU_NAMESPACE, "property"))
            && node.attribute("name") == Some("discard_granularity")
    };
    document.descendants().filter(of_device).any(|device| device.descendants().any(property))
}

/// The elements that give these disks a sensible unit of discard, to be pasted into the domain's definition as they are.
pub fn granularity_xml<'a>(aliases: impl Iterator<Item = &'a str>) -> String {
    let device = |alias: &str| {
        format!(
            "  <qemu:device alias='{alias}'>\n    <qemu:frontend>\n      \
             <qemu:property name='discard_granularity' type='unsigned' value='{GRANULARITY}'/>\n    \
             </qemu:frontend>\n  </qemu:device>\n"
        )
    };
    let devices: String = aliases.map(device).collect();
    format!("<qemu:override xmlns:qemu='{QEMU_NAMESPACE}'>\n{devices}</qemu:override>")
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><devices>
        <disk><driver discard='unmap'/><target dev='vda' bus='virtio'/><alias name='virtio-disk0'/></disk>
        <disk><driver discard='unmap'/><target dev='sda' bus='scsi'/><alias name='scsi0-0-0-0'/></disk>
        <disk><driver discard='unmap'/><target dev='sdb' bus='sata'/><alias name='sata0-0-1'/></disk>
        <disk><driver discard='ignore'/><target dev='vdb' bus='virtio'/></disk>
        <disk><target dev='vdc' bus='virtio'/></disk></devices>
        <qemu:override><qemu:device alias='scsi0-0-0-0'><qemu:frontend>
        <qemu:property name='discard_granularity' type='unsigned' value='4096'/>
        </qemu:frontend></qemu:device></qemu:override></domain>";

    #[test]
    fn finds_the_disks_that_discard_and_those_that_lack_the_unit() {
        let found = discard_disks(XML);
        let targets: Vec<_> = found.iter().map(|d| (d.target.as_str(), d.has_granularity)).collect();
        assert_eq!(targets, [("vda", false), ("sda", true), ("sdb", false)]);
        assert!(found[0].can_have_granularity && !found[2].can_have_granularity);
        assert_eq!(discard_disks("<domain"), []);
    }

    #[test]
    fn what_is_to_be_pasted_is_what_is_looked_for() {
        let pasted = granularity_xml(["virtio-disk0"].into_iter());
        let with = XML.replace("</devices>", &format!("</devices>{pasted}"));
        assert!(discard_disks(&with)[0].has_granularity);
        assert!(!pasted.contains("\"'"), "{pasted}");
    }
}
