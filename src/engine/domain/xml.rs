//! The XML of backup jobs and checkpoints: what we send to libvirt, and what we read of what it sends.

use std::collections::BTreeSet;
use std::fmt;
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
        /// The UUID of the secret that opens the scratch file, when it is encrypted.
        secret: Option<String>,
        /// The checkpoint whose changes are wanted, `None` for the whole disk.
        since: Option<String>,
        /// Gets a bitmap with the new checkpoint.
        checkpoint: bool,
    },
    /// Left out.
    Skip { target: String },
}

/// The meta context of a dirty bitmap, as QEMU names it.
pub(crate) fn bitmap_context(bitmap: &str) -> String {
    format!("qemu:dirty-bitmap:{bitmap}")
}

/// The meta context of a disk's changes in a job of ours.
pub(crate) fn job_bitmap_context(target: &str) -> String {
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
            JobDisk::Backup { target, scratch, secret, since, .. } => {
                let target = escape(target);
                let mode = match since {
                    Some(since) => format!(
                        "backupmode='incremental' incremental='{}' exportbitmap='backup-{target}'",
                        escape(since)
                    ),
                    None => "backupmode='full'".to_owned(),
                };
                let inside = secret.as_ref().map_or_else(
                    || "/>".to_owned(),
                    |uuid| {
                        let uuid = escape(uuid);
                        format!(
                            "><encryption format='luks'><secret type='passphrase' uuid='{uuid}'/></encryption></scratch>"
                        )
                    },
                );
                xml += &format!(
                    "    <disk name='{target}' backup='yes' type='file' exportname='{target}' {mode}>\n      \
                     <scratch file='{}'{inside}\n    </disk>\n",
                    escape(&scratch.to_string_lossy())
                );
            }
        }
    }
    xml + "  </disks>\n</domainbackup>\n"
}

/// Whose a checkpoint is, as its description says: `vmbackup RUN`, or `vmbackup RUN chain CHAIN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The run that made it, as its journal calls it.
    pub run: String,
    /// The run that began its chain, where the chain's images bear the chain marker of that name.
    pub chain: Option<String>,
}

impl Owner {
    /// `None` for a checkpoint of another program, or what is no XML.
    pub fn of(checkpoint_xml: &str) -> Option<Self> {
        let text = text_of(checkpoint_xml, &["description"])?;
        let mut words = text.strip_prefix("vmbackup ")?.split(' ');
        let run = words.next()?.to_owned();
        let chain = (words.next() == Some("chain")).then(|| words.next().map(str::to_owned)).flatten();
        Some(Self { run, chain })
    }
}

/// The id of the chain that a checkpoint belongs to. `None` where its images bear no chain marker: chains of virtnbdbackup and of
/// versions before there were any.
pub(crate) fn chain_of(checkpoint_xml: &str) -> Option<String> {
    Owner::of(checkpoint_xml)?.chain
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vmbackup {}", self.run)?;
        self.chain.iter().try_for_each(|chain| write!(f, " chain {chain}"))
    }
}

/// A checkpoint that is wanted for its bitmaps alone, on these disks. As it stands it can be created, and given back to
/// libvirt, which asks for a time then.
pub fn bitmaps_alone(name: &str, run_id: &str, targets: &[&str]) -> String {
    let owner = Owner { run: run_id.to_owned(), chain: None };
    let disk = |target: &&str| format!("    <disk name='{}' checkpoint='bitmap'/>\n", escape(target));
    format!(
        "<domaincheckpoint>\n  <name>{}</name>\n  <description>{}</description>\n  <creationTime>1</creationTime>\n  \
         <disks>\n{}  </disks>\n</domaincheckpoint>\n",
        escape(name),
        escape(&owner.to_string()),
        targets.iter().map(disk).collect::<String>()
    )
}

/// `<domaincheckpoint>`.
pub fn checkpoint(name: &str, owner: &Owner, disks: &[JobDisk]) -> String {
    let mut xml = format!(
        "<domaincheckpoint>\n  <name>{}</name>\n  <description>{}</description>\n  <disks>\n",
        escape(name),
        escape(&owner.to_string())
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

/// `<creationTime>` of a checkpoint: seconds since 1970, as text. `None` when there is none, or no XML.
pub fn creation_time(xml: &str) -> Option<String> {
    text_of(xml, &["creationTime"])
}

/// `<uuid>` of a domain. `None` when there is none, or no XML.
pub fn uuid(domain_xml: &str) -> Option<String> {
    text_of(domain_xml, &["uuid"])
}

/// `<name>` of a domain. `None` when there is none, or no XML.
pub fn name(domain_xml: &str) -> Option<String> {
    text_of(domain_xml, &["name"])
}

/// The name that a checkpoint's domain had when the checkpoint was made. `None` when there is none, or no XML.
pub fn domain_name(checkpoint_xml: &str) -> Option<String> {
    text_of(checkpoint_xml, &["domain", "name"])
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

/// The image of each disk of a checkpoint's domain at that checkpoint, `(target, path)`: those that are a file or a device.
pub fn images(checkpoint_xml: &str) -> Vec<(String, PathBuf)> {
    let Ok(document) = Document::parse(checkpoint_xml) else { return vec![] };
    let disks = document.descendants().filter(|n| n.has_tag_name("disk"));
    let image = |disk: roxmltree::Node<'_, '_>| {
        let child = |tag: &str| disk.children().find(|n| n.has_tag_name(tag));
        let source = child("source")?;
        let path = source.attribute("file").or_else(|| source.attribute("dev"))?;
        Some((child("target")?.attribute("dev")?.to_owned(), path.into()))
    };
    disks.filter_map(image).collect()
}

/// Text as it may stand in an attribute or an element.
pub(crate) fn escape(text: &str) -> String {
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
                secret: None,
                since: Some("virtnbdbackup.0".into()),
                checkpoint: true,
            },
            JobDisk::Backup {
                target: "vdb".into(),
                scratch: "/var/tmp/x.vdb".into(),
                secret: Some("u-1".into()),
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
      <scratch file='/var/tmp/x.vdb'><encryption format='luks'><secret type='passphrase' uuid='u-1'/></encryption></scratch>
    </disk>
    <disk name='sda' backup='no'/>
  </disks>
</domainbackup>
";
        assert_eq!(backup("/var/tmp/s".as_ref(), Some("virtnbdbackup.0"), &disks), want);
        let want = "<domaincheckpoint>
  <name>virtnbdbackup.1</name>
  <description>vmbackup 7-8 chain 5-6</description>
  <disks>
    <disk name='vda' checkpoint='bitmap'/>
    <disk name='vdb' checkpoint='no'/>
    <disk name='sda' checkpoint='no'/>
  </disks>
</domaincheckpoint>
";
        let owner = Owner { run: "7-8".into(), chain: Some("5-6".into()) };
        assert_eq!(checkpoint("virtnbdbackup.1", &owner, &disks), want);
    }

    #[test]
    fn a_checkpoint_tells_whose_it_is() {
        let of = |run: &str, chain: Option<&str>| {
            Some(Owner { run: run.to_owned(), chain: chain.map(str::to_owned) })
        };
        let cases = [
            ("vmbackup 7-8 chain 5-6", of("7-8", Some("5-6"))),
            ("vmbackup 7-8", of("7-8", None)),
            ("vmbackup 7-8 chain", of("7-8", None)),
            ("Backup via virtnbdbackup", None),
        ];
        for (text, want) in cases {
            let inside = "<domain><description>vmbackup 1-2 chain 1-2</description></domain>";
            let xml =
                format!("<domaincheckpoint><description>{text}</description>{inside}</domaincheckpoint>");
            assert_eq!(Owner::of(&xml), want, "{text}");
        }
        assert_eq!(Owner::of("<domaincheckpoint/>"), None);
        assert_eq!(Owner::of(&bitmaps_alone("x", "7-8", &["vda"])), of("7-8", None));
    }
}
