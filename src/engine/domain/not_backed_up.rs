//! What a domain uses besides disks, and no backup of it holds: hardware that is passed through, folders of the host.

use std::fmt;

use roxmltree::{Document, Node};

/// One such thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotBackedUp {
    /// `<hostdev>`, by its type (`pci`, `usb`, `scsi`, `mdev` …) and where it is on the host.
    HostDevice {
        kind: String,
        /// Its address or name; empty when the definition has none.
        place: String,
    },
    /// `<filesystem>`: a folder or device of the host.
    Folder(String),
    /// A TPM of the host.
    HostTpm(String),
    /// `<memory model='nvdimm'>` or `virtio-pmem`: memory that keeps its content in a file.
    PersistentMemory(String),
    /// The password of a display (`vnc`, `spice`). Backups can be read by the group backup, so it is kept out on purpose.
    DisplayPassword(String),
}

impl fmt::Display for NotBackedUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostDevice { kind, place } => {
                let place = if place.is_empty() { String::new() } else { format!(" {place}") };
                write!(f, "{kind} device{place} is passed through: what it stores is not in the backup")
            }
            Self::Folder(source) => {
                write!(f, "{source} of the host is shared with the guest: back it up on the host")
            }
            Self::HostTpm(device) => {
                write!(f, "the TPM is the host's ({device}): it keeps its state to itself")
            }
            Self::PersistentMemory(path) => {
                write!(f, "persistent memory {path} is not in the backup: save it while the VM is shut off")
            }
            Self::DisplayPassword(kind) => write!(
                f,
                "the password of the {kind} display is not in the backup, which the group backup can read: a restored VM has \
                 none until it is set (virsh edit)"
            ),
        }
    }
}

/// Reads them from the children of a domain's `<devices>`.
pub(crate) fn parse(devices: Node<'_, '_>) -> Vec<NotBackedUp> {
    devices.children().filter_map(of_device).collect()
}

/// The displays with a password, of a definition with passwords.
pub(crate) fn passwords(xml: &str) -> Vec<NotBackedUp> {
    let Ok(document) = Document::parse(xml) else { return vec![] };
    let displays =
        document.descendants().filter(|node| node.has_tag_name("graphics") && node.has_attribute("passwd"));
    displays
        .map(|node| NotBackedUp::DisplayPassword(node.attribute("type").unwrap_or_default().to_uppercase()))
        .collect()
}

fn of_device(device: Node<'_, '_>) -> Option<NotBackedUp> {
    let child = |tag: &str| device.children().find(|node| node.has_tag_name(tag));
    let text = |node: Option<Node<'_, '_>>| {
        node.and_then(|node| node.text()).map(|text| text.trim().to_owned()).unwrap_or_default()
    };
    match device.tag_name().name() {
        "hostdev" => {
            let kind = device.attribute("type").or(device.attribute("mode")).unwrap_or_default().to_owned();
            Some(NotBackedUp::HostDevice { place: child("source").map(place).unwrap_or_default(), kind })
        }
        "filesystem" => {
            let source = child("source");
            let named = ["dir", "dev", "name", "file", "socket"];
            let name = source.and_then(|s| named.into_iter().find_map(|key| s.attribute(key)));
            Some(NotBackedUp::Folder(name.unwrap_or("a file system").to_owned()))
        }
        "tpm" => {
            let backend = child("backend").filter(|b| b.attribute("type") == Some("passthrough"))?;
            let node = backend.children().find(|node| node.has_tag_name("device"));
            Some(NotBackedUp::HostTpm(node.and_then(|n| n.attribute("path")).unwrap_or_default().to_owned()))
        }
        "memory" if matches!(device.attribute("model"), Some("nvdimm" | "virtio-pmem")) => {
            let source = child("source")?;
            Some(NotBackedUp::PersistentMemory(text(
                source.children().find(|node| node.has_tag_name("path")),
            )))
        }
        _ => None,
    }
}

/// Where a device is on the host: `0000:01:00.0`, `046d:c52b`, a node in `/dev`, or what else its source says.
fn place(source: Node<'_, '_>) -> String {
    let child = |tag: &str| source.children().find(|node| node.has_tag_name(tag));
    let hex = |node: Node<'_, '_>, key: &str| {
        node.attribute(key).map(|text| text.trim_start_matches("0x").to_owned()).unwrap_or_default()
    };
    if let (Some(vendor), Some(product)) = (child("vendor"), child("product")) {
        return format!("{}:{}", hex(vendor, "id"), hex(product, "id"));
    }
    if let Some(address) = child("address") {
        if let Some(uuid) = address.attribute("uuid") {
            return uuid.to_owned();
        }
        let get = |key: &str| hex(address, key);
        if address.attribute("slot").is_some() {
            return format!("{}:{}:{}.{}", get("domain"), get("bus"), get("slot"), get("function"));
        }
        let parts = [get("bus"), get("device"), get("target"), get("unit")];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let adapter = child("adapter").and_then(|node| node.attribute("name"));
        return adapter.into_iter().map(str::to_owned).chain([parts.join(":")]).collect::<Vec<_>>().join(" ");
    }
    let device = ["block", "char", "interface"].into_iter().find_map(child);
    let name = device.and_then(|node| node.text()).map(|text| text.trim().to_owned());
    name.or_else(|| source.attribute("wwpn").or(source.attribute("name")).map(str::to_owned))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_no_backup_holds() {
        let cases = [
            (
                "<hostdev mode='subsystem' type='pci'><source>\
                 <address domain='0x0000' bus='0x01' slot='0x00' function='0x1'/></source></hostdev>",
                Some("pci device 0000:01:00.1 is passed through: what it stores is not in the backup"),
            ),
            (
                "<hostdev mode='subsystem' type='usb'><source><vendor id='0x046d'/><product id='0xc52b'/></source>\
                 </hostdev>",
                Some("usb device 046d:c52b is passed through: what it stores is not in the backup"),
            ),
            (
                "<hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host0'/>\
                 <address bus='0' target='0' unit='3'/></source></hostdev>",
                Some("scsi device scsi_host0 0:0:3 is passed through: what it stores is not in the backup"),
            ),
            (
                "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='u-1'/></source></hostdev>",
                Some("mdev device u-1 is passed through: what it stores is not in the backup"),
            ),
            (
                "<hostdev mode='capabilities' type='storage'><source><block>/dev/sdf1</block></source></hostdev>",
                Some("storage device /dev/sdf1 is passed through: what it stores is not in the backup"),
            ),
            (
                "<filesystem type='mount'><driver type='virtiofs'/><source dir='/srv/a b'/><target dir='x'/></filesystem>",
                Some("/srv/a b of the host is shared with the guest: back it up on the host"),
            ),
            (
                "<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>",
                Some("the TPM is the host's (/dev/tpm0): it keeps its state to itself"),
            ),
            (
                "<memory model='nvdimm'><source><path>/x/nv</path></source><target><size>1</size></target></memory>",
                Some("persistent memory /x/nv is not in the backup: save it while the VM is shut off"),
            ),
            ("<memory model='dimm'><target><size>1</size></target></memory>", None),
            ("<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>", None),
            ("<interface type='network'><source network='default'/></interface>", None),
        ];
        for (device, want) in cases {
            let xml = format!("<devices>{device}</devices>");
            let document = Document::parse(&xml).unwrap();
            let said: Vec<String> = parse(document.root_element()).iter().map(ToString::to_string).collect();
            assert_eq!(said, want.into_iter().collect::<Vec<_>>(), "{device}");
        }
    }
}
