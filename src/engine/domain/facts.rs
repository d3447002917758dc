//! What a domain's XML says that a backup needs, read in one go.

use roxmltree::Document;

use super::boot_file::{BootFile, boot_files};
use super::disk::Disks;
use super::element::{child, children};
use super::not_backed_up::{self, NotBackedUp};

/// The domain's XML could not be understood.
#[derive(Debug, thiserror::Error)]
#[error("Cannot read the domain XML that libvirt sent: {source}")]
pub struct DomainXmlError {
    source: roxmltree::Error,
}

/// What a domain's XML says that a backup needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainFacts {
    pub disks: Disks,
    /// Files the domain boots from, which belong to a backup.
    pub boot_files: Vec<BootFile>,
    /// The XML has a guest agent channel, and libvirt does not say that it is disconnected.
    pub agent_channel: bool,
    /// What it uses and no backup holds.
    pub not_backed_up: Vec<NotBackedUp>,
}

/// Reads a domain's XML.
pub fn parse_domain(xml: &str) -> Result<DomainFacts, DomainXmlError> {
    let document = Document::parse(xml).map_err(|source| DomainXmlError { source })?;
    let root = document.root_element();
    let devices = || children(root, "devices");
    let is_connected_agent = |channel| {
        child(channel, "target").is_some_and(|target| {
            target.attribute("name") == Some("org.qemu.guest_agent.0")
                && target.attribute("state") != Some("disconnected")
        })
    };
    Ok(DomainFacts {
        disks: Disks::of(devices()),
        boot_files: child(root, "os").map(boot_files).unwrap_or_default(),
        agent_channel: devices().flat_map(|d| children(d, "channel")).any(is_connected_agent),
        not_backed_up: devices().flat_map(not_backed_up::parse).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_agent_channel_unless_it_is_disconnected() {
        for (state, want) in [(" state='connected'", true), ("", true), (" state='disconnected'", false)] {
            let xml = format!(
                "<domain><devices><channel><target type='virtio' name='org.qemu.guest_agent.0'{state}/>\
                 </channel></devices></domain>"
            );
            assert_eq!(parse_domain(&xml).unwrap().agent_channel, want, "{state}");
        }
    }
}
