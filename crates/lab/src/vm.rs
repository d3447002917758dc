//! One throw-away VM: its life, its disks and their shadows.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::command::{must, output_of, text, virsh};
use super::domain_xml::{Bus, DiskFormat, DiskSpec, VmSpec};
use super::monitor::{DiskOp, Monitor, MonitorError};
use super::shadow::{Discard, Shadow};

/// A VM the lab made. Removed when its [`Lab`](super::Lab) is dropped, not before.
#[derive(Debug)]
pub struct Vm {
    name: String,
    directory: PathBuf,
    disks: BTreeMap<String, Disk>,
}

#[derive(Debug)]
struct Disk {
    spec: DiskSpec,
    shadow: Shadow,
}

impl Vm {
    /// Creates the images and defines the domain, switched off.
    pub(super) fn define(domain: &str, directory: &Path, spec: &VmSpec) -> Self {
        fs::create_dir(directory)
            .unwrap_or_else(|error| panic!("Cannot create {}: {error}", directory.display()));
        let mut vm =
            Self { name: domain.to_owned(), directory: directory.to_owned(), disks: BTreeMap::new() };
        for disk in &spec.disks {
            vm.create_disk(disk);
        }
        vm.define_xml(&spec.to_xml(domain, directory));
        vm
    }

    fn define_xml(&self, xml: &str) {
        let file = self.directory.join("domain.xml");
        fs::write(&file, xml).expect("the domain XML can be written");
        must(virsh(["define"]).arg(file));
    }

    fn create_disk(&mut self, spec: &DiskSpec) {
        let image = self.directory.join(spec.file_name());
        let shadow_path = self.directory.join(format!("{}.shadow", spec.target));
        if spec.made.is_none() {
            create_image(spec, &image);
        }
        let shadow = match &spec.content {
            Some(content) => {
                must(Command::new("cp").arg("--sparse=always").arg(content).arg(&shadow_path));
                Shadow::open(&shadow_path)
            }
            None => Shadow::create(&shadow_path, spec.size_bytes),
        };
        self.disks.insert(spec.target.clone(), Disk { spec: spec.clone(), shadow });
    }

    /// The domain's whole name, prefix included.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the VM's images and shadows are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The targets of the disks that have a shadow, in alphabetical order.
    pub fn targets(&self) -> Vec<&str> {
        self.disks.keys().map(String::as_str).collect()
    }

    /// The image file of a disk.
    pub fn disk_path(&self, target: &str) -> PathBuf {
        let spec = &self.disk(target).spec;
        spec.made.as_ref().map_or_else(|| self.directory.join(spec.file_name()), |made| made.image.clone())
    }

    /// What the guest would read from a disk.
    pub fn shadow(&self, target: &str) -> &Shadow {
        &self.disk(target).shadow
    }

    fn disk(&self, target: &str) -> &Disk {
        self.disks.get(target).unwrap_or_else(|| panic!("{} has no disk {target}", self.name))
    }

    /// Starts the VM without letting its processor run.
    pub fn start_paused(&self) {
        must(&mut virsh(["start", "--paused", &self.name]));
    }

    /// Starts the VM for real.
    pub fn start(&self) {
        must(&mut virsh(["start", &self.name]));
    }

    /// The state in libvirt's words: `running`, `paused`, `shut off` …
    pub fn state(&self) -> String {
        must(&mut virsh(["domstate", &self.name])).trim().to_owned()
    }

    /// Ends QEMU in order: images are closed and persistent bitmaps are saved, however long that takes. libvirt waits 10 s
    /// each time, and would kill then.
    pub fn destroy(&self) {
        let began = Instant::now();
        while !output_of(&mut virsh(["destroy", "--graceful", &self.name])).status.success() {
            if self.state() == "shut off" {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(120), "{} does not end", self.name);
        }
    }

    /// Kills QEMU as a crash would: nothing is flushed, bitmaps are lost. Returns when libvirt knows.
    pub fn kill_qemu(&self) {
        let pid = i32::try_from(self.qemu_pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, Signal::KILL).expect("QEMU can be killed");
        self.wait_for_state("shut off", Duration::from_secs(20));
    }

    /// The process that runs the VM.
    pub fn qemu_pid(&self) -> u32 {
        let file = Path::new("/run/libvirt/qemu").join(format!("{}.pid", self.name));
        let pid = fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("Cannot read {}: {error}", file.display()));
        pid.trim().parse().expect("a process id")
    }

    /// Waits until libvirt reports a state, and panics when it does not in time.
    pub fn wait_for_state(&self, state: &str, limit: Duration) {
        let began = Instant::now();
        while self.state() != state {
            assert!(
                began.elapsed() < limit,
                "{} is {}, not {state}, after {limit:?}",
                self.name,
                self.state()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The names of the checkpoints libvirt knows, oldest first.
    pub fn checkpoints(&self) -> Vec<String> {
        let list = must(&mut virsh(["checkpoint-list", &self.name, "--name", "--topological"]));
        list.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// The domain XML as libvirt has it now.
    pub fn xml(&self) -> String {
        must(&mut virsh(["dumpxml", &self.name]))
    }

    /// Fills a range with one byte value.
    pub fn write(&self, target: &str, offset: u64, len: u64, pattern: u8) -> Result<(), MonitorError> {
        self.run(target, &[DiskOp::Write { offset, len, pattern }])
    }

    /// Writes given bytes. The offset and the length must be multiples of 512.
    pub fn write_bytes(&self, target: &str, offset: u64, bytes: &[u8]) -> Result<(), MonitorError> {
        let file = self.directory.join("bytes-to-write");
        fs::write(&file, bytes).expect("the bytes can be handed to QEMU");
        self.monitor().write_file(&self.device(target)?, offset, bytes.len() as u64, &file)?;
        self.disk(target).shadow.write(offset, bytes);
        Ok(())
    }

    /// Makes a range read as zeros; `unmap` lets the image give the space back.
    pub fn write_zeroes(&self, target: &str, offset: u64, len: u64, unmap: bool) -> Result<(), MonitorError> {
        self.run(target, &[DiskOp::WriteZeroes { offset, len, unmap }])
    }

    /// Discards a range; see [`Shadow`] for what it reads as afterwards.
    pub fn discard(&self, target: &str, offset: u64, len: u64) -> Result<(), MonitorError> {
        self.run(target, &[DiskOp::Discard { offset, len }])
    }

    /// Flushes a disk.
    pub fn flush(&self, target: &str) -> Result<(), MonitorError> {
        self.run(target, &[DiskOp::Flush])
    }

    /// Carries out requests in order, on the disk and on its shadow: the way for thousands of small ones.
    ///
    /// After an error the shadow has none of the batch, and the disk possibly some.
    pub fn run(&self, target: &str, ops: &[DiskOp]) -> Result<(), MonitorError> {
        self.monitor().run(&self.device(target)?, ops)?;
        let disk = self.disk(target);
        for op in ops {
            disk.shadow.apply(*op, discard_of(&disk.spec));
        }
        Ok(())
    }

    /// Carries out requests on the image of a VM that is off; persistent bitmaps record them too.
    ///
    /// Much faster than [`Vm::run`]: thousands of requests per second.
    pub fn run_while_off(&self, target: &str, ops: &[DiskOp]) {
        assert_eq!(self.state(), "shut off", "{} uses its images", self.name);
        let disk = self.disk(target);
        let (format, discard) = (format_name(&disk.spec), if disk.spec.discard { "unmap" } else { "ignore" });
        // In parts: a command line has a limit.
        for part in ops.chunks(4000) {
            let mut command = Command::new("qemu-io");
            // No flushes: the machine does not lose its power in a test, and they take ten times the rest.
            command.args(["-f", format, "-d", discard, "-t", "unsafe"]);
            for op in part {
                command.args(["-c", &op.qemu_io()]);
            }
            let output = output_of(command.arg(self.disk_path(target)));
            assert!(output.status.success() && text(&output).is_empty(), "qemu-io: {}", text(&output));
            for op in part {
                disk.shadow.apply(*op, discard_of(&disk.spec));
            }
        }
    }

    /// True when a range of the running disk reads as one byte value.
    pub fn reads_as(&self, target: &str, offset: u64, len: u64, pattern: u8) -> Result<bool, MonitorError> {
        self.monitor().reads_as(&self.device(target)?, offset, len, pattern)
    }

    pub(super) fn monitor(&self) -> Monitor {
        Monitor::new(&self.name)
    }

    /// The monitor's name for the device of a disk. Needs the VM to be active.
    fn device(&self, target: &str) -> Result<String, MonitorError> {
        let xml = self.xml();
        let tree = roxmltree::Document::parse(&xml).expect("libvirt writes XML");
        let disks = tree.descendants().filter(|node| node.has_tag_name("disk"));
        let alias = disks
            .filter(|disk| child_attribute(*disk, "target", "dev") == Some(target))
            .find_map(|disk| child_attribute(disk, "alias", "name"));
        let no_device = || MonitorError::NoDevice { domain: self.name.clone(), target: target.to_owned() };
        let alias = alias.ok_or_else(no_device)?;
        let mut names = self.monitor().device_names()?.into_iter();
        names.find(|name| name.split('/').any(|part| part == alias)).ok_or_else(no_device)
    }

    /// Adds a disk to the VM, and to its configuration.
    pub fn attach_disk(&mut self, spec: &DiskSpec) {
        self.create_disk(spec);
        self.attach(spec);
    }

    /// Adds a disk that [`Vm::detach_disk`] removed, with its image and what is in it.
    pub fn attach_again(&mut self, spec: &DiskSpec) {
        let shadow = Shadow::open(&self.directory.join(format!("{}.shadow", spec.target)));
        self.disks.insert(spec.target.clone(), Disk { spec: spec.clone(), shadow });
        self.attach(spec);
    }

    fn attach(&self, spec: &DiskSpec) {
        assert!(spec.bus != Bus::Sata, "a SATA disk cannot be attached to a running VM");
        let xml = self.directory.join(format!("{}.xml", spec.target));
        fs::write(&xml, spec.to_xml(&self.disk_path(&spec.target))).expect("the disk XML can be written");
        must(virsh(["attach-device", &self.name, "--persistent", "--file"]).arg(xml));
    }

    /// Removes a disk from the VM and from its configuration. Its files stay.
    ///
    /// While the VM is active this takes a SCSI disk, or a booted guest: a PCI device leaves only when the
    /// guest agrees, and a paused VM cannot.
    pub fn detach_disk(&mut self, target: &str) {
        must(&mut virsh(["detach-disk", &self.name, target, "--persistent"]));
        let began = Instant::now();
        while has_disk(&self.xml(), target) {
            assert!(began.elapsed() < Duration::from_secs(10), "{} does not let go of {target}", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
        self.disks.remove(target);
    }

    /// Removes the files of a disk that [`Vm::detach_disk`] removed: another disk can take its target.
    pub fn forget_disk(&self, spec: &DiskSpec) {
        for name in [spec.file_name(), format!("{}.shadow", spec.target)] {
            let file = self.directory.join(name);
            fs::remove_file(&file)
                .unwrap_or_else(|error| panic!("Cannot remove {}: {error}", file.display()));
        }
    }

    /// Changes the size of a disk of the running VM.
    pub fn resize_disk(&self, target: &str, size_bytes: u64) {
        // By its target: over the image may be the overlay of a snapshot.
        must(virsh(["blockresize", &self.name, target]).arg(format!("{size_bytes}B")));
        self.disk(target).shadow.resize(size_bytes);
    }

    /// Reads a disk of a VM that is off into a raw file, for [`Shadow::equals`].
    pub fn read_out(&self, target: &str) -> PathBuf {
        let raw = self.directory.join(format!("{target}.read-out"));
        to_raw(&self.disk_path(target), &raw);
        raw
    }
}

fn discard_of(spec: &DiskSpec) -> Discard {
    match (spec.discard, spec.format) {
        (false, _) => Discard::Ignored,
        (true, DiskFormat::Raw) => Discard::WholeUnits(1),
        (true, DiskFormat::Qcow2 | DiskFormat::Qcow2V2) => Discard::WholeUnits(spec.cluster_bytes),
    }
}

pub(super) fn format_name(spec: &DiskSpec) -> &'static str {
    if spec.format == DiskFormat::Raw { "raw" } else { "qcow2" }
}

/// Makes an image, with content when the test gave some.
fn create_image(spec: &DiskSpec, image: &Path) {
    let compat = if spec.format == DiskFormat::Qcow2V2 { "0.10" } else { "1.1" };
    let options = format!("compat={compat},cluster_size={}", spec.cluster_bytes);
    let mut command = Command::new("qemu-img");
    match &spec.content {
        Some(content) => command.args(["convert", "-f", "raw"]).arg(content),
        None => command.args(["create", "-q"]),
    };
    let format_flag = if spec.content.is_some() { "-O" } else { "-f" };
    command.args([format_flag, format_name(spec)]);
    if spec.format != DiskFormat::Raw {
        command.args(["-o", &options]);
    }
    command.arg(image);
    if spec.content.is_none() {
        command.arg(spec.size_bytes.to_string());
    }
    must(&mut command);
}

/// Converts an image to a raw file. The extension says the format: guest data may look like another one.
///
/// Waits for a server of the image that is about to end.
pub(super) fn to_raw(image: &Path, raw: &Path) {
    let format = if image.extension().is_some_and(|extension| extension == "raw") { "raw" } else { "qcow2" };
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-f", format, "-O", "raw"]).arg(image).arg(raw);
    let began = Instant::now();
    loop {
        let output = output_of(&mut convert);
        if output.status.success() {
            return;
        }
        let locked = text(&output).contains("Failed to get shared \"write\" lock");
        assert!(locked && began.elapsed() < Duration::from_secs(60), "{convert:?}: {}", text(&output));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn has_disk(xml: &str, target: &str) -> bool {
    let tree = roxmltree::Document::parse(xml).expect("libvirt writes XML");
    tree.descendants().any(|node| node.has_tag_name("target") && node.attribute("dev") == Some(target))
}

fn child_attribute<'a>(node: roxmltree::Node<'a, '_>, child: &str, attribute: &str) -> Option<&'a str> {
    node.children().find(|node| node.has_tag_name(child))?.attribute(attribute)
}
