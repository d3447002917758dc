//! The XML of backup jobs and checkpoints: what we send to libvirt, and what we read of what it sends.

use std::collections::BTreeSet;
use std::path::PathBuf;

use roxmltree::Document;

/// How one disk takes part in a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobDisk {
    /// Exported.
    Backup {
        /// Disk target; also the name of its export.
        target: String,
        /// The scratch file libvirt shall create.
        scratch: PathBuf,
        /// The checkpoint whose changes are wanted, `None` for the whole disk.
        since: Option<String>,
        /// Gets a bitmap with the new checkpoint.
        checkpoint: bool,
    },
    /// Left out.
    Skip {
        /// Disk target.
        target: String,
    },
}

/// The meta context of a dirty bitmap, as QEMU names it.
pub(super) fn bitmap_context(bitmap: &str) -> String {
    format!("qemu:dirty-bitmap:{bitmap}")
}

/// The meta context of a disk's changes in a job of ours.
pub(super) fn job_bitmap_context(target: &str) -> String {
    bitmap_context(&format!("backup-{target}"))
}

/// `<domainbackup>` for pull mode over a unix socket.
///
/// Source: libvirt `docs/formatbackup.rst`.
pub fn backup(socket: &std::path::Path, parent: Option<&str>, disks: &[JobDisk]) -> String {
    let mut xml = String::from("<domainbackup mode='pull'>\n");
    if let Some(parent) = parent {
        xml += &format!("  <incremental>{}</incremental>\n", escape(parent));
    }
    xml +=
        &format!("  <server transport='unix' socket='{}'/>\n  <disks>\n", escape(&socket.to_string_lossy()));
    for disk in disks {
        match disk {
            JobDisk::Skip { target } => {
                xml += &format!("    <disk name='{}' backup='no'/>\n", escape(target));
            }
            JobDisk::Backup { target, scratch, since, .. } => {
                let target = escape(target);
                let mode = match since {
                    Some(since) => format!(
                        "backupmode='incremental' incremental='{}' exportbitmap='backup-{target}'",
                        escape(since)
                    ),
                    None => "backupmode='full'".to_owned(),
                };
                xml += &format!(
                    "    <disk name='{target}' backup='yes' type='file' exportname='{target}' {mode}>\n      \
                     <scratch file='{}'/>\n    </disk>\n",
                    escape(&scratch.to_string_lossy())
                );
            }
        }
    }
    xml + "  </disks>\n</domainbackup>\n"
}

/// `<domaincheckpoint>`. The description carries the run's id, by which its owner knows it again.
pub fn checkpoint(name: &str, run_id: &str, disks: &[JobDisk]) -> String {
    let mut xml = format!(
        "<domaincheckpoint>\n  <name>{}</name>\n  {}\n  <disks>\n",
        escape(name),
        description(run_id)
    );
    for disk in disks {
        let (target, with) = match disk {
            JobDisk::Backup { target, checkpoint: true, .. } => (target, "bitmap"),
            JobDisk::Backup { target, .. } | JobDisk::Skip { target } => (target, "no"),
        };
        xml += &format!("    <disk name='{}' checkpoint='{with}'/>\n", escape(target));
    }
    xml + "  </disks>\n</domaincheckpoint>\n"
}

/// The description element of a run's checkpoint.
pub fn description(run_id: &str) -> String {
    format!("<description>vmbackup {run_id}</description>")
}

/// `<creationTime>` of a checkpoint: seconds since 1970, as text. `None` when there is none, or no XML.
pub fn creation_time(xml: &str) -> Option<String> {
    text_of(xml, &["creationTime"])
}

/// `<uuid>` of a domain. `None` when there is none, or no XML.
pub fn uuid(domain_xml: &str) -> Option<String> {
    text_of(domain_xml, &["uuid"])
}

/// Name of the checkpoint before a checkpoint. `None` when there is none, or no XML.
pub fn parent_name(xml: &str) -> Option<String> {
    text_of(xml, &["parent", "name"])
}

/// The text of an element of a checkpoint XML.
fn text_of(xml: &str, path: &[&str]) -> Option<String> {
    let document = Document::parse(xml).ok()?;
    let mut node = document.root_element();
    for tag in path {
        node = node.children().find(|child| child.has_tag_name(*tag))?;
    }
    node.text().map(|text| text.trim().to_owned())
}

/// The disks for which a checkpoint has a bitmap, by name. None when it is no XML.
pub fn disks_with_bitmap(xml: &str) -> Vec<String> {
    let Ok(document) = Document::parse(xml) else { return vec![] };
    let mut disks = BTreeSet::new();
    for list in document.root_element().children().filter(|n| n.has_tag_name("disks")) {
        for disk in list.children().filter(|n| n.has_tag_name("disk")) {
            if let (Some(name), Some("bitmap")) = (disk.attribute("name"), disk.attribute("checkpoint")) {
                disks.insert(name.to_owned());
            }
        }
    }
    disks.into_iter().collect()
}

/// Text as it may stand in an attribute or an element.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '\'' => escaped += "&apos;",
            '"' => escaped += "&quot;",
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incremental_job_with_an_added_and_a_skipped_disk() {
        let disks = [
            JobDisk::Backup {
                target: "vda".into(),
                scratch: "/var/tmp/it's.vda".into(),
                since: Some("virtnbdbackup.0".into()),
                checkpoint: true,
            },
            JobDisk::Backup {
                target: "vdb".into(),
                scratch: "/var/tmp/x.vdb".into(),
                since: None,
                checkpoint: false,
            },
            JobDisk::Skip { target: "sda".into() },
        ];
        let want = "<domainbackup mode='pull'>
  <incremental>virtnbdbackup.0</incremental>
  <server transport='unix' socket='/var/tmp/s'/>
  <disks>
    <disk name='vda' backup='yes' type='file' exportname='vda' backupmode='incremental' incremental='virtnbdbackup.0' exportbitmap='backup-vda'>
      <scratch file='/var/tmp/it&apos;s.vda'/>
    </disk>
    <disk name='vdb' backup='yes' type='file' exportname='vdb' backupmode='full'>
      <scratch file='/var/tmp/x.vdb'/>
    </disk>
    <disk name='sda' backup='no'/>
  </disks>
</domainbackup>
";
        assert_eq!(backup("/var/tmp/s".as_ref(), Some("virtnbdbackup.0"), &disks), want);
        let want = "<domaincheckpoint>
  <name>virtnbdbackup.1</name>
  <description>vmbackup 7-8</description>
  <disks>
    <disk name='vda' checkpoint='bitmap'/>
    <disk name='vdb' checkpoint='no'/>
    <disk name='sda' checkpoint='no'/>
  </disks>
</domaincheckpoint>
";
        assert_eq!(checkpoint("virtnbdbackup.1", "7-8", &disks), want);
    }
}
