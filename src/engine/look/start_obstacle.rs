//! What speaks against starting a domain, only to take its backup.
//!
//! It would run no guest code. But QEMU opens what the definition names: a device of the host is taken from it, a log
//! is emptied, a remote end sees a connection. A domain is started only when nothing of that can happen.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use roxmltree::{Document, Node};

use super::LookError;
use crate::engine::VmTarget;
use crate::engine::image::readable_disk::ReadableDisk;
use crate::engine::settings::EngineSettings;
use vmhost::identity;

/// Where libvirt looks for scripts that it runs whenever a domain starts or ends.
const HOOKS: [&str; 4] = [
    "/etc/libvirt/hooks/qemu",
    "/etc/libvirt/hooks/qemu.d",
    "/etc/libvirt/hooks/network",
    "/etc/libvirt/hooks/network.d",
];

/// Back ends of character devices that touch nothing outside QEMU.
const HARMLESS_ENDS: [&str; 7] = ["pty", "null", "vc", "spicevmc", "spiceport", "qemu-vdagent", "dbus"];

/// Why a domain is not started for its backup. Reads on after "because".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// A device of the host, or something outside of it, that QEMU would take hold of.
    Device(String),
    /// A file that QEMU or libvirt would empty or create.
    File(String),
    /// It takes its memory from the host at once.
    Memory,
    /// QEMU arguments of which nothing is known.
    Arguments,
    /// A start would use up the saved memory.
    ManagedSave,
    /// Scripts of the host would run.
    Hook(PathBuf),
    /// Never started: its TPM or its firmware's variables would be made.
    NeverStarted(PathBuf),
    /// A qcow2 image that can keep no bitmap, where no other can.
    OldQcow2(String),
    /// The definition is no XML.
    Unreadable,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(what) => write!(f, "it would take hold of {what}"),
            Self::File(what) => write!(f, "it would change a file of the host ({what})"),
            Self::Memory => write!(f, "it takes all its memory from the host at once (memoryBacking)"),
            Self::Arguments => write!(f, "its definition has QEMU arguments of its own"),
            Self::ManagedSave => {
                write!(f, "its memory is saved (virsh managedsave), and a start uses that up")
            }
            Self::Hook(path) => write!(f, "the host's scripts would run ({})", path.display()),
            Self::NeverStarted(path) => {
                write!(f, "it was never started: {} does not exist yet", path.display())
            }
            Self::OldQcow2(target) => {
                write!(f, "disk {target} is a qcow2 image of version 2 and can keep no dirty bitmap")
            }
            Self::Unreadable => write!(f, "its definition cannot be read"),
        }
    }
}

/// What speaks against starting a domain that is shut off. `None`: nothing.
pub(crate) fn of(
    vm: &VmTarget,
    settings: &EngineSettings,
    config_xml: &str,
    disks: &[ReadableDisk],
) -> Result<Option<Obstacle>, LookError> {
    if vm.domain.has_managed_save()? {
        return Ok(Some(Obstacle::ManagedSave));
    }
    let swtpm = settings.tpm.as_ref().map_or(Path::new("/var/lib/libvirt/swtpm"), |tpm| &tpm.state_dir);
    let tpm = identity::state_dir(config_xml, vm.domain.uuid(), swtpm).filter(|dir| !dir.exists());
    let old = disks.iter().find(|disk| disk.info.is_qcow2_v2);
    let old = old.filter(|_| !disks.iter().any(ReadableDisk::keeps_bitmaps));
    Ok(of_definition(config_xml)
        .or_else(|| tpm.map(Obstacle::NeverStarted))
        .or_else(|| old.map(|disk| Obstacle::OldQcow2(disk.target.clone())))
        .or_else(|| HOOKS.iter().find_map(|path| hook(Path::new(path))).map(Obstacle::Hook)))
}

/// A hook script, or the first of a folder of them.
fn hook(path: &Path) -> Option<PathBuf> {
    let meta = fs::metadata(path).ok()?;
    if !meta.is_dir() {
        return (meta.permissions().mode() & 0o111 != 0).then(|| path.to_owned());
    }
    fs::read_dir(path).ok()?.flatten().find_map(|entry| hook(&entry.path()))
}

/// What the definition says against a start.
fn of_definition(xml: &str) -> Option<Obstacle> {
    let Ok(document) = Document::parse(xml) else { return Some(Obstacle::Unreadable) };
    let root = document.root_element();
    let part = |name: &'static str| root.children().filter(move |node| node.tag_name().name() == name);
    if part("commandline").chain(part("override")).next().is_some() {
        return Some(Obstacle::Arguments);
    }
    let at_once = |node: &Node<'_, '_>| match node.tag_name().name() {
        "hugepages" | "locked" => true,
        "allocation" => node.attribute("mode") == Some("immediate"),
        _ => false,
    };
    if part("memoryBacking").flat_map(|memory| memory.children()).any(|node| at_once(&node)) {
        return Some(Obstacle::Memory);
    }
    let mut devices = part("devices").flat_map(|devices| devices.children()).filter(Node::is_element);
    part("os").find_map(of_firmware).or_else(|| devices.find_map(of_device))
}

fn of_firmware(os: Node<'_, '_>) -> Option<Obstacle> {
    let loader = child(os, "loader");
    let flash = loader.is_some_and(|loader| loader.attribute("type") == Some("pflash"));
    let stateless = loader.is_some_and(|loader| loader.attribute("stateless") == Some("yes"));
    match child(os, "nvram") {
        Some(nvram) => {
            let path = PathBuf::from(nvram.text().unwrap_or_default().trim());
            (!path.is_file()).then_some(Obstacle::NeverStarted(path))
        }
        None if (flash || os.attribute("firmware") == Some("efi")) && !stateless => {
            Some(Obstacle::File("the variables of its firmware".to_owned()))
        }
        None => None,
    }
}

/// What one device would touch.
fn of_device(device: Node<'_, '_>) -> Option<Obstacle> {
    let name = device.tag_name().name();
    let kind = device.attribute("type").unwrap_or_default();
    let taken = |what: String| Some(Obstacle::Device(what));
    match name {
        "hostdev" => taken(format!("a device of the host (hostdev, {kind})")),
        "disk" => of_disk(device, kind),
        "interface" => {
            let source = child(device, "source");
            let whole = source.is_some_and(|source| source.attribute("mode") == Some("passthrough"));
            let outside =
                matches!(kind, "hostdev" | "vdpa" | "vhostuser" | "server" | "client" | "mcast" | "udp");
            let scripts = ["script", "downscript"].iter().any(|name| child(device, name).is_some());
            (outside || whole || scripts).then(|| Obstacle::Device(format!("a network device ({kind})")))
        }
        "shmem" => taken("shared memory (shmem)".to_owned()),
        "memory" => match device.attribute("model") {
            Some(model @ ("nvdimm" | "virtio-pmem")) => taken(format!("persistent memory ({model})")),
            _ => None,
        },
        "input" if matches!(kind, "passthrough" | "evdev") => taken(format!("an input device ({kind})")),
        "smartcard" if device.attribute("mode") != Some("passthrough") => {
            taken("a smart card of the host".to_owned())
        }
        "tpm" => match child(device, "backend").and_then(|backend| backend.attribute("type")) {
            Some("emulator") => None,
            backend => taken(format!("a TPM of the host ({})", backend.unwrap_or_default())),
        },
        "serial" | "parallel" | "console" | "channel" | "redirdev" | "smartcard" => {
            of_character_device(device, kind)
        }
        "rng" => match child(device, "backend").and_then(|backend| backend.attribute("model")) {
            Some("egd") => taken("a remote random number generator".to_owned()),
            _ => None,
        },
        "crypto" => taken("a cryptographic back end (crypto)".to_owned()),
        _ => None,
    }
}

fn of_disk(disk: Node<'_, '_>, kind: &str) -> Option<Obstacle> {
    let target = child(disk, "target").and_then(|target| target.attribute("dev")).unwrap_or_default();
    let is = |what: &str| Some(Obstacle::Device(format!("disk {target} ({what})")));
    if disk.attribute("device") == Some("lun") {
        return is("passed through, device='lun'");
    }
    if child(disk, "shareable").is_some() {
        return is("shared with other VMs");
    }
    if child(disk, "transient").is_some() {
        return Some(Obstacle::File(format!("the overlay of transient disk {target}")));
    }
    match kind {
        "block" => is("a block device, which another host may be using"),
        "file" | "volume" | "dir" | "" => None,
        other => is(other),
    }
}

fn of_character_device(device: Node<'_, '_>, kind: &str) -> Option<Obstacle> {
    let name = device.tag_name().name();
    let log = device.children().find(|node| node.tag_name().name() == "log");
    if log.is_some_and(|log| log.attribute("append") != Some("on")) {
        return Some(Obstacle::File(format!("the log of its {name} device is begun anew")));
    }
    let source = child(device, "source");
    let source_is =
        |key: &str, value: &str| source.is_some_and(|source| source.attribute(key) == Some(value));
    match kind {
        kind if HARMLESS_ENDS.contains(&kind) => None,
        // A socket that libvirt makes for it.
        "unix" if source.is_none() || source_is("mode", "bind") => None,
        "file" if source_is("append", "on") => None,
        "file" => Some(Obstacle::File(format!("the output of its {name} device is begun anew"))),
        other => Some(Obstacle::Device(format!("the other end of its {name} device ({other})"))),
    }
}

fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.tag_name().name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(xml: &str) -> String {
        of_definition(xml).map_or_else(String::new, |obstacle| obstacle.to_string())
    }

    #[test]
    fn what_a_start_would_touch_is_found() {
        // (device, words of the reason; none: it is harmless)
        let devices = [
            ("<hostdev mode='subsystem' type='pci'/>", "a device of the host (hostdev, pci)"),
            ("<hostdev mode='subsystem' type='mdev' model='vfio-pci'/>", "(hostdev, mdev)"),
            (
                "<redirdev bus='usb' type='tcp'><source mode='connect' host='h' service='1'/></redirdev>",
                "redirdev device (tcp)",
            ),
            ("<redirdev bus='usb' type='spicevmc'/>", ""),
            ("<interface type='hostdev'/>", "a network device (hostdev)"),
            (
                "<interface type='direct'><source dev='eth0' mode='passthrough'/></interface>",
                "a network device (direct)",
            ),
            ("<interface type='direct'><source dev='eth0' mode='bridge'/></interface>", ""),
            ("<interface type='network'><source network='default'/></interface>", ""),
            ("<disk type='block' device='lun'><target dev='sda'/></disk>", "disk sda (passed through"),
            ("<disk type='file'><target dev='vdb'/><shareable/></disk>", "disk vdb (shared with other VMs)"),
            ("<disk type='nvme'><target dev='vdb'/></disk>", "disk vdb (nvme)"),
            ("<disk type='network'><target dev='vdb'/></disk>", "disk vdb (network)"),
            ("<disk type='file'><target dev='vdb'/><transient/></disk>", "transient disk vdb"),
            ("<disk type='file' device='cdrom'><target dev='sda'/><readonly/></disk>", ""),
            ("<serial type='file'><source path='/l'/></serial>", "output of its serial device"),
            ("<serial type='file'><source path='/l' append='on'/></serial>", ""),
            ("<console type='pty'><log file='/l'/></console>", "log of its console device"),
            ("<console type='pty'/>", ""),
            ("<serial type='dev'><source path='/dev/ttyS0'/></serial>", "serial device (dev)"),
            ("<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>", ""),
            ("<channel type='unix'><source mode='bind' path='/s'/></channel>", ""),
            ("<channel type='unix'><source mode='connect' path='/s'/></channel>", "channel device (unix)"),
            ("<tpm model='tpm-tis'><backend type='passthrough'/></tpm>", "a TPM of the host"),
            ("<tpm model='tpm-crb'><backend type='emulator'/></tpm>", ""),
            ("<smartcard mode='host'/>", "a smart card"),
            ("<smartcard mode='passthrough' type='spicevmc'/>", ""),
            ("<shmem name='s'/>", "shared memory"),
            ("<memory model='nvdimm'/>", "persistent memory (nvdimm)"),
            ("<memory model='dimm'/>", ""),
            ("<input type='evdev'/>", "an input device"),
            ("<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>", ""),
            ("<rng model='virtio'><backend model='egd' type='tcp'/></rng>", "random number generator"),
            ("<graphics type='vnc'/><video/><watchdog model='itco'/>", ""),
        ];
        for (device, want) in devices {
            let reason =
                said(&format!("<domain><devices><emulator>/q</emulator>{device}</devices></domain>"));
            assert!(reason.contains(want) && reason.is_empty() == want.is_empty(), "{device}: {reason:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let vars = dir.path().join("vars.fd");
        fs::write(&vars, "").unwrap();
        let firmware = |nvram: &str| format!("<os><loader type='pflash'>/l</loader>{nvram}</os>");
        let domains = [
            (firmware(&format!("<nvram>{}</nvram>", vars.display())), ""),
            (firmware("<nvram>/nowhere/vars.fd</nvram>"), "never started"),
            (firmware(""), "variables of its firmware"),
            ("<os firmware='efi'/>".to_owned(), "variables of its firmware"),
            ("<os><loader type='pflash' stateless='yes'>/l</loader></os>".to_owned(), ""),
            ("<memoryBacking><hugepages/></memoryBacking>".to_owned(), "memory"),
            ("<memoryBacking><allocation mode='immediate'/></memoryBacking>".to_owned(), "memory"),
            ("<memoryBacking><source type='memfd'/></memoryBacking>".to_owned(), ""),
            ("<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'/>".to_owned(), "arguments"),
        ];
        for (body, want) in domains {
            let reason = said(&format!("<domain>{body}</domain>"));
            assert!(reason.contains(want) && reason.is_empty() == want.is_empty(), "{body}: {reason:?}");
        }
        assert_eq!(of_definition("<domain"), Some(Obstacle::Unreadable));
    }

    #[test]
    fn only_scripts_that_can_run_are_hooks() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("10-script");
        fs::write(&script, "").unwrap();
        assert_eq!((hook(dir.path()), hook(&script), hook(&dir.path().join("none"))), (None, None, None));
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!((hook(dir.path()), hook(&script)), (Some(script.clone()), Some(script)));
    }
}
