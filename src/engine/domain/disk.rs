//! The disks of a domain, and what a backup does with each of them.
//!
//! Lives here: reading `<disk>` elements of a domain's XML, choosing stream, raw image or skip, with the reason.

use std::fmt;
use std::path::PathBuf;

use roxmltree::{Document, Node};

use super::image_format::ImageFormat;
use super::layout::Layout;
use super::outside::{self, Outside};
use vmhost::libvirt::SecretName;

/// Where the image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSource {
    /// A file or block device on this host.
    Path(PathBuf),
    /// A volume of a libvirt storage pool, to be resolved to a path.
    Volume {
        /// Name of the pool.
        pool: String,
        /// Name of the volume in it.
        volume: String,
    },
}

/// A disk that a backup can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Disk target, for example `vda`.
    pub target: String,
    /// Layout of the image.
    pub format: ImageFormat,
    /// Where the image is.
    pub source: ImageSource,
    /// How that is opened, as far as the definition says.
    pub layout: Layout,
    /// `<shareable/>`: other domains may write to it too.
    pub shareable: bool,
    /// What opens it, when it is encrypted (LUKS).
    pub secret: Option<SecretName>,
}

/// A file the domain boots from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFile {
    /// Its absolute path.
    pub path: PathBuf,
    /// What it is.
    pub role: BootRole,
}

/// What a file is at boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootRole {
    /// The UEFI variables of this domain: the guest writes them.
    Nvram,
    /// What the NVRAM is made from when there is none.
    NvramTemplate,
    /// Loader, kernel, initrd and the like: the guest does not write them.
    Fixed,
}

/// Why a disk is not part of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// `device='cdrom'` or `'floppy'`.
    RemovableMedia(String),
    /// `device='lun'`: the guest talks to the device itself, QEMU cannot take its snapshot.
    PassedThrough,
    /// A network disk (Ceph, iSCSI, NBD …), by protocol.
    Network(String),
    /// No `<source>`: an empty drive.
    NoMedium,
    /// An image format without a reader here.
    Format(String),
    /// Any other source type.
    SourceType(String),
    /// `<readonly/>`: QEMU can make no bitmap in it.
    ReadOnly,
    /// `<transient/>`: the guest's writes are thrown away when it stops.
    Transient,
    /// Excluded by the settings.
    Excluded,
    /// A raw disk; `incremental` tells whether this run could have copied it if asked.
    Raw {
        /// The run continues a chain; raw images are written with a full only.
        incremental: bool,
    },
    /// A shareable disk of a domain that is shut off: somebody else writes to it, who is said here.
    InUse(String),
    /// The domain is shut off, and the disk is as it was at the last copy.
    Unchanged,
    /// The domain is not backed up at all.
    Refused,
}

impl SkipReason {
    /// Whether the disk holds something of the guest's that no backup has, and nobody asked for that.
    pub fn is_gap(&self) -> bool {
        match self {
            Self::RemovableMedia(_) | Self::NoMedium | Self::Excluded | Self::Unchanged | Self::Refused => {
                false
            }
            Self::PassedThrough
            | Self::Network(_)
            | Self::Format(_)
            | Self::SourceType(_)
            | Self::InUse(_) => true,
            // Increments leave out what the full holds; without BACKUP_RAW_DISKS the plan of a full says so.
            Self::Raw { incremental } => !incremental,
            Self::ReadOnly | Self::Transient => false,
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RemovableMedia(device) => write!(f, "removable media ({device})"),
            Self::PassedThrough => {
                write!(f, "passed through to the guest (device='lun'), QEMU cannot read it")
            }
            Self::Network(protocol) => write!(f, "network disk ({protocol}), back it up where it is stored"),
            Self::NoMedium => write!(f, "empty drive"),
            Self::Format(format) => write!(f, "image format {format} is not supported (qcow2 and raw are)"),
            Self::SourceType(kind) => write!(f, "source type '{kind}' is not supported"),
            Self::ReadOnly => {
                write!(f, "read-only disk, QEMU can keep no bitmap in it; copy its image by hand once")
            }
            Self::Transient => {
                write!(
                    f,
                    "transient disk, its changes are discarded at shutdown; copy its image by hand once"
                )
            }
            Self::InUse(by) => {
                write!(
                    f,
                    "shareable disk in use by {by}: a copy of it would be torn; back it up with that VM"
                )
            }
            Self::Unchanged => write!(f, "unchanged since the last copy"),
            Self::Refused => write!(f, "the VM is not backed up"),
            Self::Excluded => write!(f, "excluded by VIRTNBD_EXCLUDE_DISKS or VIRTNBD_INCLUDE_DISKS"),
            Self::Raw { incremental: false } => write!(
                f,
                "raw disk, not included: raw images have no dirty bitmaps; set BACKUP_RAW_DISKS=true to copy it \
                 whole with each full backup, or convert it to qcow2"
            ),
            Self::Raw { incremental: true } => {
                write!(
                    f,
                    "raw disk, not included in an incremental backup: it is copied with full backups only"
                )
            }
        }
    }
}

/// A disk that is left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Disk target.
    pub target: String,
    /// Why.
    pub reason: SkipReason,
}

/// All disks of one domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disks {
    /// Those that can be read.
    pub readable: Vec<Disk>,
    /// Those that cannot.
    pub skipped: Vec<Skipped>,
}

/// The domain's XML could not be understood.
#[derive(Debug, thiserror::Error)]
#[error("Cannot read the domain XML that libvirt sent: {source}")]
pub struct DomainXmlError {
    source: roxmltree::Error,
}

/// What a domain's XML says that a backup needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainFacts {
    /// Its disks.
    pub disks: Disks,
    /// Files the domain boots from, which belong to a backup.
    pub boot_files: Vec<BootFile>,
    /// The XML has a guest agent channel, and libvirt does not say that it is disconnected.
    pub agent_channel: bool,
    /// What it uses and no backup holds.
    pub outside: Vec<Outside>,
}

/// Reads a domain's XML.
pub fn parse_domain(xml: &str) -> Result<DomainFacts, DomainXmlError> {
    let document = Document::parse(xml).map_err(|source| DomainXmlError { source })?;
    let root = document.root_element();
    let mut facts = DomainFacts::default();
    for disk in children(root, "devices").flat_map(|devices| children(devices, "disk")) {
        let target = child(disk, "target").and_then(|t| t.attribute("dev")).unwrap_or_default().to_owned();
        match classify(disk) {
            Ok((format, source)) => {
                let (shareable, secret) = (child(disk, "shareable").is_some(), secret(disk));
                let layout = Layout::of(disk);
                facts.disks.readable.push(Disk { target, format, source, layout, shareable, secret });
            }
            Err(reason) => facts.disks.skipped.push(Skipped { target, reason }),
        }
    }
    facts.boot_files = child(root, "os").map(boot_files).unwrap_or_default();
    facts.outside = children(root, "devices").flat_map(outside::parse).collect();
    facts.agent_channel = children(root, "devices").flat_map(|d| children(d, "channel")).any(|channel| {
        child(channel, "target").is_some_and(|target| {
            target.attribute("name") == Some("org.qemu.guest_agent.0")
                && target.attribute("state") != Some("disconnected")
        })
    });
    Ok(facts)
}

/// Loader, NVRAM with its template, kernel, initrd, and the tables and trees that go with them.
fn boot_files(os: Node<'_, '_>) -> Vec<BootFile> {
    // A path is the element's text, or stands in a source of its own: `<nvram type='file'><source file='…'/></nvram>`.
    let path = |node: Node<'_, '_>| {
        let source = child(node, "source").and_then(|s| s.attribute("file").or(s.attribute("dev")));
        source.or(node.text()).map(|path| path.trim().to_owned())
    };
    let nvram = child(os, "nvram");
    let template = nvram.and_then(|n| n.attribute("template")).map(str::to_owned);
    let fixed = ["loader", "kernel", "initrd", "dtb", "shim"].into_iter().filter_map(|tag| child(os, tag));
    let tables = child(os, "acpi").into_iter().flat_map(|acpi| children(acpi, "table"));
    let roles = [(nvram.and_then(path), BootRole::Nvram), (template, BootRole::NvramTemplate)];
    let fixed = fixed.chain(tables).map(|node| (path(node), BootRole::Fixed));
    let files = fixed.chain(roles).filter_map(|(path, role)| Some(BootFile { path: path?.into(), role }));
    files.filter(|file| file.path.is_absolute()).collect()
}

/// What opens an encrypted image. Older definitions have it in the disk itself.
fn secret(disk: Node<'_, '_>) -> Option<SecretName> {
    let source = child(disk, "source").and_then(|source| child(source, "encryption"));
    let secret = child(source.or_else(|| child(disk, "encryption"))?, "secret")?;
    let name = |key: &str| secret.attribute(key).map(str::to_owned);
    name("uuid").map(SecretName::Uuid).or_else(|| name("usage").map(SecretName::Usage))
}

fn classify(disk: Node<'_, '_>) -> Result<(ImageFormat, ImageSource), SkipReason> {
    match disk.attribute("device").unwrap_or("disk") {
        "disk" => {}
        "lun" => return Err(SkipReason::PassedThrough),
        other => return Err(SkipReason::RemovableMedia(other.to_owned())),
    }
    if child(disk, "readonly").is_some() {
        return Err(SkipReason::ReadOnly);
    }
    if child(disk, "transient").is_some() {
        return Err(SkipReason::Transient);
    }
    let kind = disk.attribute("type").unwrap_or("file");
    let source = child(disk, "source");
    let attribute = |name: &str| source.and_then(|s| s.attribute(name)).map(str::to_owned);
    let source = match kind {
        "file" => ImageSource::Path(attribute("file").ok_or(SkipReason::NoMedium)?.into()),
        "block" => ImageSource::Path(attribute("dev").ok_or(SkipReason::NoMedium)?.into()),
        "volume" => ImageSource::Volume {
            pool: attribute("pool").ok_or(SkipReason::NoMedium)?,
            volume: attribute("volume").ok_or(SkipReason::NoMedium)?,
        },
        "network" => return Err(SkipReason::Network(attribute("protocol").unwrap_or_default())),
        other => return Err(SkipReason::SourceType(other.to_owned())),
    };
    // libvirt takes a disk without a driver type as raw (it does not probe, for safety).
    match child(disk, "driver").and_then(|d| d.attribute("type")).unwrap_or("raw") {
        "qcow2" => Ok((ImageFormat::Qcow2, source)),
        "raw" => Ok((ImageFormat::Raw, source)),
        other => Err(SkipReason::Format(other.to_owned())),
    }
}

fn children<'a, 'i>(node: Node<'a, 'i>, tag: &'a str) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(move |n| n.has_tag_name(tag))
}

fn child<'a, 'i>(node: Node<'a, 'i>, tag: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|n| n.has_tag_name(tag))
}

impl Disks {
    /// Moves the disks that the settings leave out to the skipped ones. An empty `include` means all.
    pub fn select(&mut self, include: &[String], exclude: &[String]) {
        let wanted = |disk: &Disk| {
            (include.is_empty() || include.contains(&disk.target)) && !exclude.contains(&disk.target)
        };
        let all = std::mem::take(&mut self.readable);
        let (kept, left_out): (Vec<_>, Vec<_>) = all.into_iter().partition(wanted);
        self.readable = kept;
        let reason = || SkipReason::Excluded;
        self.skipped.extend(left_out.into_iter().map(|d| Skipped { target: d.target, reason: reason() }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_xml(attributes: &str, body: &str) -> String {
        format!("<domain><devices><disk {attributes}>{body}</disk></devices></domain>")
    }

    #[test]
    fn each_kind_of_disk_is_read_or_skipped_with_its_reason() {
        let file = "<source file='/i/a b.qcow2'/><target dev='vda'/>";
        let qcow2 = "<driver name='qemu' type='qcow2'/>";
        let path = |p: &str| ImageSource::Path(p.into());
        let cases = [
            (
                "qcow2 file",
                "type='file' device='disk'",
                format!("{qcow2}{file}"),
                Ok((ImageFormat::Qcow2, path("/i/a b.qcow2"))),
            ),
            ("no driver is raw", "type='file'", file.into(), Ok((ImageFormat::Raw, path("/i/a b.qcow2")))),
            (
                "block",
                "type='block'",
                format!("{qcow2}<source dev='/dev/vg/a'/><target dev='vda'/>"),
                Ok((ImageFormat::Qcow2, path("/dev/vg/a"))),
            ),
            (
                "volume",
                "type='volume'",
                format!("{qcow2}<source pool='p' volume='v'/><target dev='vda'/>"),
                Ok((ImageFormat::Qcow2, ImageSource::Volume { pool: "p".into(), volume: "v".into() })),
            ),
            (
                "cdrom",
                "type='file' device='cdrom'",
                file.into(),
                Err(SkipReason::RemovableMedia("cdrom".into())),
            ),
            ("lun", "type='block' device='lun'", file.into(), Err(SkipReason::PassedThrough)),
            (
                "network",
                "type='network'",
                "<source protocol='rbd' name='x'/><target dev='vda'/>".into(),
                Err(SkipReason::Network("rbd".into())),
            ),
            ("empty", "type='file'", "<target dev='vda'/>".into(), Err(SkipReason::NoMedium)),
            ("transient", "type='file'", format!("{qcow2}{file}<transient/>"), Err(SkipReason::Transient)),
            (
                "vmdk",
                "type='file'",
                format!("<driver type='vmdk'/>{file}"),
                Err(SkipReason::Format("vmdk".into())),
            ),
        ];
        for (name, attributes, body, want) in cases {
            let disks = parse_domain(&disk_xml(attributes, &body)).unwrap().disks;
            match want {
                Ok((format, source)) => {
                    assert_eq!(
                        disks.readable,
                        [Disk {
                            target: "vda".into(),
                            format,
                            source,
                            layout: Layout::default(),
                            shareable: false,
                            secret: None
                        }],
                        "{name}"
                    );
                }
                Err(reason) => {
                    assert_eq!(disks.skipped, [Skipped { target: "vda".into(), reason }], "{name}")
                }
            }
        }
    }

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

    #[test]
    fn finds_what_opens_an_encrypted_image_and_who_shares_it() {
        let of = |body: &str| {
            let xml = disk_xml("type='file'", &format!("{body}<target dev='vda'/>"));
            let disk = parse_domain(&xml).unwrap().disks.readable.remove(0);
            (disk.secret, disk.shareable)
        };
        let luks =
            |name: &str| format!("<encryption format='luks'><secret type='passphrase' {name}/></encryption>");
        let uuid = Some(SecretName::Uuid("u-1".into()));
        let inside = format!("<source file='/x'>{}</source>", luks("uuid='u-1'"));
        assert_eq!(of(&inside), (uuid.clone(), false));
        assert_eq!(of(&format!("<source file='/x'/>{}", luks("uuid='u-1'"))), (uuid, false));
        let usage = format!("<source file='/x'>{}</source><shareable/>", luks("usage='a b'"));
        assert_eq!(of(&usage), (Some(SecretName::Usage("a b".into())), true));
        assert_eq!(of("<source file='/x'/>"), (None, false));
    }

    #[test]
    fn finds_the_files_a_domain_boots_from() {
        let of = |os: &str| {
            let facts = parse_domain(&format!("<domain><os>{os}</os></domain>")).unwrap();
            let line = |file: &BootFile| format!("{} {:?}", file.path.display(), file.role);
            facts.boot_files.iter().map(line).collect::<Vec<_>>()
        };
        assert_eq!(
            of("<loader readonly='yes' type='pflash'>/c.fd</loader><nvram template='/t.fd'>/n.fd</nvram>"),
            ["/c.fd Fixed", "/n.fd Nvram", "/t.fd NvramTemplate"]
        );
        assert_eq!(
            of("<kernel>/k</kernel><initrd> /i </initrd><acpi><table type='slic'>/s</table></acpi>"),
            ["/k Fixed", "/i Fixed", "/s Fixed"]
        );
        assert_eq!(of("<nvram type='file'><source file='/n'/></nvram>"), ["/n Nvram"]);
        assert_eq!(of("<loader>hvmloader</loader><nvram type='network'><source name='x'/></nvram>"), [""; 0]);
    }

    #[test]
    fn settings_leave_disks_out() {
        let disk = |t: &str| Disk {
            target: t.into(),
            format: ImageFormat::Qcow2,
            source: ImageSource::Path("/x".into()),
            layout: Layout::default(),
            shareable: false,
            secret: None,
        };
        let left = |include: &[&str], exclude: &[&str]| {
            let mut disks = Disks { readable: vec![disk("vda"), disk("vdb"), disk("sda")], skipped: vec![] };
            let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
            disks.select(&own(include), &own(exclude));
            disks.readable.into_iter().map(|d| d.target).collect::<Vec<_>>()
        };
        assert_eq!(left(&[], &[]), ["vda", "vdb", "sda"]);
        assert_eq!(left(&["vda", "sda"], &[]), ["vda", "sda"]);
        assert_eq!(left(&["vda", "sda"], &["sda"]), ["vda"]);
    }
}
