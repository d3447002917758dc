//! The disks of a domain: reading `<disk>` elements of its XML, and which of them no backup can read.
//!
//! Must not live here: why one is left out, in words (`skip_reason`); what becomes of each (`plan::disk_plan`).

use std::fmt;
use std::path::PathBuf;

use roxmltree::Node;

use super::element::{child, children};
use super::image_format::ImageFormat;
use super::layout::Layout;
use super::skip_reason::{SkipReason, Skipped};
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

/// `/i/web.qcow2`, `volume web of pool images`.
impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Volume { pool, volume } => write!(f, "volume {volume} of pool {pool}"),
        }
    }
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
    /// `startupPolicy='optional'`: the domain does without it when its image is missing.
    pub optional: bool,
}

/// All disks of one domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disks {
    /// Those that can be read.
    pub readable: Vec<Disk>,
    /// Those that cannot.
    pub skipped: Vec<Skipped>,
}

impl Disks {
    /// The disks of a domain with these `<devices>`.
    pub(super) fn of<'a, 'i: 'a>(devices: impl Iterator<Item = Node<'a, 'i>>) -> Self {
        let mut disks = Self::default();
        for disk in devices.flat_map(|devices| children(devices, "disk")) {
            let target =
                child(disk, "target").and_then(|t| t.attribute("dev")).unwrap_or_default().to_owned();
            match classify(disk) {
                Ok((format, source)) => {
                    let (shareable, secret) = (child(disk, "shareable").is_some(), secret(disk));
                    let (layout, optional) = (Layout::of(disk), is_optional(disk));
                    let disk = Disk { target, format, source, layout, shareable, secret, optional };
                    disks.readable.push(disk);
                }
                Err(reason) => disks.skipped.push(Skipped { target, reason }),
            }
        }
        disks
    }

    /// Whether each of these is among them.
    pub fn name_all(&self, others: &[Disk]) -> bool {
        others.iter().all(|other| self.targets().any(|target| target == other.target))
    }

    /// Those of a persistent definition that libvirt left out when it started the domain, because their images were
    /// missing, and that the running domain does without. `live` is what it has.
    pub fn dropped_at_start(&self, live: &Self) -> Vec<Skipped> {
        let is_live = |disk: &&Disk| live.targets().any(|target| target == disk.target);
        let dropped = self.readable.iter().filter(|disk| disk.optional && !is_live(disk));
        let skipped = |disk: &Disk| {
            let reason = SkipReason::Missing(disk.source.to_string());
            Skipped { target: disk.target.clone(), reason }
        };
        dropped.map(skipped).collect()
    }

    fn targets(&self) -> impl Iterator<Item = &str> {
        let skipped = self.skipped.iter().map(|disk| disk.target.as_str());
        self.readable.iter().map(|disk| disk.target.as_str()).chain(skipped)
    }

    /// Moves the disks that the settings leave out to the skipped ones. An empty `include` means all; `of_vm` is what the
    /// settings say of this domain.
    pub fn select(&mut self, include: &[String], exclude: &[String], of_vm: &[String]) {
        let excluded = |target: &String| {
            if of_vm.contains(target) {
                return Some("VM_EXCLUDE_DISKS");
            }
            let wanted = (include.is_empty() || include.contains(target)) && !exclude.contains(target);
            (!wanted).then_some("VIRTNBD_EXCLUDE_DISKS or VIRTNBD_INCLUDE_DISKS")
        };
        for disk in std::mem::take(&mut self.readable) {
            match excluded(&disk.target) {
                None => self.readable.push(disk),
                Some(by) => {
                    self.skipped.push(Skipped { target: disk.target, reason: SkipReason::Excluded(by) });
                }
            }
        }
    }
}

/// What opens an encrypted image. Older definitions have it in the disk itself.
fn secret(disk: Node<'_, '_>) -> Option<SecretName> {
    let source = child(disk, "source").and_then(|source| child(source, "encryption"));
    let secret = child(source.or_else(|| child(disk, "encryption"))?, "secret")?;
    let name = |key: &str| secret.attribute(key).map(str::to_owned);
    name("uuid").map(SecretName::Uuid).or_else(|| name("usage").map(SecretName::Usage))
}

fn is_optional(disk: Node<'_, '_>) -> bool {
    child(disk, "source").is_some_and(|source| source.attribute("startupPolicy") == Some("optional"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::domain::facts::parse_domain;

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
                            secret: None,
                            optional: false,
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
    fn settings_leave_disks_out() {
        let disk = |t: &str| Disk {
            target: t.into(),
            format: ImageFormat::Qcow2,
            source: ImageSource::Path("/x".into()),
            layout: Layout::default(),
            shareable: false,
            secret: None,
            optional: false,
        };
        let left = |include: &[&str], exclude: &[&str], of_vm: &[&str]| {
            let mut disks = Disks { readable: vec![disk("vda"), disk("vdb"), disk("sda")], skipped: vec![] };
            let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
            disks.select(&own(include), &own(exclude), &own(of_vm));
            disks.readable.into_iter().map(|d| d.target).collect::<Vec<_>>()
        };
        assert_eq!(left(&[], &[], &[]), ["vda", "vdb", "sda"]);
        assert_eq!(left(&["vda", "sda"], &[], &[]), ["vda", "sda"]);
        assert_eq!(left(&["vda", "sda"], &["sda"], &[]), ["vda"]);
        assert_eq!(left(&[], &["sda"], &["vdb"]), ["vda"]);
        assert_eq!(left(&["vda", "vdb"], &[], &["vdb"]), ["vda"], "also one that is included for all");
    }
}
