//! The domain XML of the lab's VMs: what a test asks for, as libvirt wants it.

use std::fmt::Write;
use std::path::{Path, PathBuf};

const CONTROLLERS: &str = "<controller type='scsi' model='virtio-scsi'/>\n\
    <controller type='pci' model='pcie-root'/>\n";

/// What a disk is plugged into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// Target names `vda`, `vdb` …
    Virtio,
    /// Target names `sda` …; cannot be attached to a running VM.
    Sata,
    /// Target names `sda` …
    Scsi,
}

/// How the image file stores the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFormat {
    Qcow2,
    /// qcow2 of the old version, which cannot keep bitmaps.
    Qcow2V2,
    Raw,
}

/// One disk of a VM: virtio, qcow2 and discard unless said otherwise.
#[derive(Clone, Debug)]
pub struct DiskSpec {
    pub target: String,
    pub size_bytes: u64,
    pub bus: Bus,
    pub format: DiskFormat,
    pub discard: bool,
    /// Of a qcow2 image.
    pub cluster_bytes: u64,
    /// A raw file whose content the disk starts with. Its size must be `size_bytes`.
    pub content: Option<PathBuf>,
    /// More elements inside `<disk>`, for example `<serial>x</serial>`.
    pub extra_xml: String,
    /// An image that the test made itself.
    pub made: Option<Made>,
}

/// An image that the test made itself, and how the domain names it.
#[derive(Clone, Debug)]
pub struct Made {
    pub image: PathBuf,
    /// Of `<disk>`: `file`, `block`, `volume`.
    pub disk_type: String,
    /// The whole `<source>` element.
    pub source_xml: String,
}

impl DiskSpec {
    pub fn new(target: &str, size_bytes: u64) -> Self {
        let bus = if target.starts_with("vd") { Bus::Virtio } else { Bus::Sata };
        Self {
            target: target.to_owned(),
            size_bytes,
            bus,
            format: DiskFormat::Qcow2,
            discard: true,
            cluster_bytes: 64 << 10,
            content: None,
            extra_xml: String::new(),
            made: None,
        }
    }

    /// On an image that exists. `content` is then what it holds, not what it is made from.
    pub fn made(self, image: &Path, disk_type: &str, source_xml: &str) -> Self {
        let (disk_type, source_xml) = (disk_type.to_owned(), source_xml.to_owned());
        Self { made: Some(Made { image: image.to_owned(), disk_type, source_xml }), ..self }
    }

    /// The same with an image file.
    pub fn made_file(self, image: &Path) -> Self {
        let source = format!("<source file='{}'/>", escape(&image.display().to_string()));
        self.made(image, "file", &source)
    }

    pub fn bus(self, bus: Bus) -> Self {
        Self { bus, ..self }
    }

    pub fn format(self, format: DiskFormat) -> Self {
        Self { format, ..self }
    }

    pub fn discard(self, discard: bool) -> Self {
        Self { discard, ..self }
    }

    pub fn cluster_bytes(self, cluster_bytes: u64) -> Self {
        Self { cluster_bytes, ..self }
    }

    pub fn content(self, raw_file: &Path) -> Self {
        Self { content: Some(raw_file.to_owned()), ..self }
    }

    pub fn extra_xml(self, xml: &str) -> Self {
        Self { extra_xml: xml.to_owned(), ..self }
    }

    pub(super) fn file_name(&self) -> String {
        let extension = if self.format == DiskFormat::Raw { "raw" } else { "qcow2" };
        format!("{}.{extension}", self.target)
    }

    /// The `<disk>` element of this disk on a file.
    pub(super) fn to_xml(&self, file: &Path) -> String {
        let format = if self.format == DiskFormat::Raw { "raw" } else { "qcow2" };
        let bus = match self.bus {
            Bus::Virtio => "virtio",
            Bus::Sata => "sata",
            Bus::Scsi => "scsi",
        };
        let own = format!("<source file='{}'/>", escape(&file.display().to_string()));
        let made = self.made.as_ref().map(|made| (made.disk_type.as_str(), made.source_xml.as_str()));
        let (disk_type, source) = made.unwrap_or(("file", &own));
        format!(
            "<disk type='{disk_type}' device='disk'><driver name='qemu' type='{format}' discard='{}'/>\
             {source}<target dev='{}' bus='{bus}'/>{}</disk>\n",
            if self.discard { "unmap" } else { "ignore" },
            self.target,
            self.extra_xml
        )
    }
}

/// A VM to make. Memory 64 MiB, one processor, no network.
#[derive(Clone, Debug)]
pub struct VmSpec {
    pub name: String,
    pub memory_mib: u32,
    pub disks: Vec<DiskSpec>,
    /// More elements inside `<devices>`.
    pub devices_xml: String,
    /// More elements inside `<domain>`, for example `<metadata>` or `<description>`.
    pub domain_xml: String,
    /// More elements inside `<os>`, for example `<loader>` and `<nvram>`, or `<kernel>`.
    pub os_xml: String,
}

impl VmSpec {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            memory_mib: 64,
            disks: Vec::new(),
            devices_xml: String::new(),
            domain_xml: String::new(),
            os_xml: String::new(),
        }
    }

    pub fn memory_mib(self, memory_mib: u32) -> Self {
        Self { memory_mib, ..self }
    }

    pub fn disk(mut self, disk: DiskSpec) -> Self {
        self.disks.push(disk);
        self
    }

    pub fn devices_xml(mut self, xml: &str) -> Self {
        self.devices_xml.push_str(xml);
        self
    }

    pub fn domain_xml(mut self, xml: &str) -> Self {
        self.domain_xml.push_str(xml);
        self
    }

    pub fn os_xml(mut self, xml: &str) -> Self {
        self.os_xml.push_str(xml);
        self
    }

    /// An optical drive; without a file it is empty.
    pub fn cdrom(self, target: &str, iso: Option<&Path>) -> Self {
        self.removable("cdrom", target, "sata", iso)
    }

    /// A floppy drive; without a file it is empty.
    pub fn floppy(self, target: &str, image: Option<&Path>) -> Self {
        self.removable("floppy", target, "fdc", image)
    }

    /// A raw disk served by an NBD server on a Unix socket.
    pub fn network_disk(self, target: &str, socket: &Path) -> Self {
        let socket = escape(&socket.display().to_string());
        self.devices_xml(&format!(
            "<disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='nbd'>\
             <host transport='unix' socket='{socket}'/></source><target dev='{target}' bus='virtio'/></disk>\n"
        ))
    }

    fn removable(self, device: &str, target: &str, bus: &str, file: Option<&Path>) -> Self {
        let source = file.map(|file| format!("<source file='{}'/>", escape(&file.display().to_string())));
        self.devices_xml(&format!(
            "<disk type='file' device='{device}'><driver name='qemu' type='raw'/>{}\
             <target dev='{target}' bus='{bus}'/><readonly/></disk>\n",
            source.unwrap_or_default()
        ))
    }

    /// The whole domain; disk files are in `directory`.
    pub(super) fn to_xml(&self, domain: &str, directory: &Path) -> String {
        let mut devices = String::from(CONTROLLERS);
        // Virtio disks that are attached later need an empty port each.
        for _ in 0..self.disks.len() + 8 {
            devices.push_str("<controller type='pci' model='pcie-root-port'/>\n");
        }
        for disk in &self.disks {
            devices.push_str(&disk.to_xml(&directory.join(disk.file_name())));
        }
        devices.push_str(&self.devices_xml);
        let mut xml = String::from("<domain type='qemu'>\n");
        let _ = writeln!(xml, "<name>{}</name>", escape(domain));
        let _ = writeln!(xml, "<memory unit='MiB'>{}</memory><vcpu>1</vcpu>", self.memory_mib);
        let _ = writeln!(xml, "<os><type arch='x86_64' machine='q35'>hvm</type>{}</os>", self.os_xml);
        let _ = writeln!(xml, "<features><acpi/></features><on_poweroff>destroy</on_poweroff>");
        let _ = writeln!(xml, "{}<devices>\n{devices}<memballoon model='none'/></devices>", self.domain_xml);
        xml.push_str("</domain>\n");
        xml
    }
}

/// Text as XML content or attribute value.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&apos;")
        .replace('"', "&quot;")
}
