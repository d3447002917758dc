//! The booted Linux guest: a real kernel, a real file system and a real agent, under emulation.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use serde_json::{Value, json};

use super::command::{must, output_of, text, virsh};
use super::domain_xml::{DiskSpec, VmSpec};
use super::place::{repository, target};
use super::{Lab, Vm, turn};

const BOOT_LIMIT: Duration = Duration::from_secs(90);
const GUEST_DISK_BYTES: u64 = 64 << 20;

impl Lab {
    /// Boots the small Linux guest and returns when its agent answers.
    ///
    /// `vda` holds an ext4 file system, mounted on `/data`. Its shadow has the content before the first boot
    /// only: what the guest writes does not reach it.
    pub fn booted_vm(&self, name: &str) -> Vm {
        self.boot(VmSpec::new(name))
    }

    /// Boots the guest with more disks or devices; `vda` is added.
    ///
    /// A further disk that holds an ext4 file system is mounted on `/mnt/NAME`, NAME as the guest calls it.
    pub fn boot(&self, spec: VmSpec) -> Vm {
        let directory = self.new_dir(&format!("boot-{}", self.unused_number()));
        let file_system = directory.join("ext4.raw");
        make_ext4(&file_system, GUEST_DISK_BYTES);
        let mut spec = spec.memory_mib(256);
        spec.disks.insert(0, DiskSpec::new("vda", GUEST_DISK_BYTES).content(&file_system));
        let (kernel, initramfs) = guest_files(&directory);
        let spec = spec
            .os_xml(&format!(
                "<kernel>{}</kernel><initrd>{}</initrd><cmdline>console=ttyS0 quiet panic=-1</cmdline>",
                kernel.display(),
                initramfs.display()
            ))
            .devices_xml(&format!(
                "<serial type='file'><source path='{}'/></serial>\n<channel type='unix'>\
                 <target type='virtio' name='org.qemu.guest_agent.0'/></channel>\n",
                directory.join("console.log").display()
            ));
        let vm = self.define(&spec);
        vm.boot();
        vm
    }
}

impl Vm {
    /// Sends one command to the guest agent and returns what it answers under `return`.
    ///
    /// # Errors
    /// What virsh says when the agent refuses or does not answer within 30 s.
    pub fn agent(&self, command: &str, arguments: Value) -> Result<Value, String> {
        let request = json!({ "execute": command, "arguments": arguments }).to_string();
        let output = output_of(virsh(["qemu-agent-command", self.name(), "--timeout", "30"]).arg(request));
        if !output.status.success() {
            return Err(text(&output).trim().to_owned());
        }
        let answer: Value = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
        Ok(answer["return"].clone())
    }

    /// Runs a shell command in the guest; returns its exit status and standard output.
    pub fn guest_exec(&self, command: &str) -> (i64, String) {
        let request = json!({ "path": "/bin/sh", "arg": ["-c", command], "capture-output": true });
        let started = self.agent("guest-exec", request).expect("the agent starts a command");
        let began = Instant::now();
        loop {
            let status = self.agent("guest-exec-status", json!({ "pid": started["pid"] }));
            let status = status.expect("the agent knows its command");
            if status["exited"] == json!(true) {
                let stdout = decode_base64(status["out-data"].as_str().unwrap_or_default());
                let code = status["exitcode"].as_i64().unwrap_or(-1);
                return (code, String::from_utf8_lossy(&stdout).into_owned());
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{command:?} does not end in the guest");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Starts a guest that [`Lab::boot`] made, and waits until its agent answers.
    pub fn boot(&self) {
        // A kernel that boots under emulation takes a whole core: several at once would take longer than tests wait, and
        // hold up what others measure.
        let _turn = turn::wait_for("boots", FlockOperation::LockExclusive);
        self.start();
        self.wait_for_agent();
    }

    /// Asks the agent to switch the guest off, and waits until it is.
    pub fn guest_shutdown(&self) {
        must(&mut virsh(["shutdown", self.name(), "--mode", "agent"]));
        self.wait_for_state("shut off", Duration::from_secs(60));
    }

    /// Presses the power button, and waits until the guest is off.
    pub fn acpi_shutdown(&self) {
        must(&mut virsh(["shutdown", self.name(), "--mode", "acpi"]));
        self.wait_for_state("shut off", Duration::from_secs(60));
    }

    /// Starts a command in the guest and does not wait for it: the agent itself may be what it stops.
    pub fn guest_spawn(&self, command: &str) {
        let request = json!({ "path": "/bin/sh", "arg": ["-c", command] });
        self.agent("guest-exec", request).expect("the agent starts a command");
    }

    /// True while the guest's file systems are frozen, in the agent's own view.
    ///
    /// # Errors
    /// What virsh says when the agent does not answer.
    pub fn is_frozen(&self) -> Result<bool, String> {
        self.agent("guest-fsfreeze-status", json!({})).map(|status| status == "frozen")
    }

    /// What the guest said on its serial console.
    fn console(&self) -> String {
        let xml = self.xml();
        let tree = roxmltree::Document::parse(&xml).expect("libvirt writes XML");
        let serial = tree.descendants().find(|node| node.has_tag_name("serial"));
        let source = serial.and_then(|node| node.children().find(|child| child.has_tag_name("source")));
        let path = source.and_then(|source| source.attribute("path"));
        path.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default()
    }

    /// Waits until the agent answers.
    pub fn wait_for_agent(&self) {
        let limit = BOOT_LIMIT;
        let began = Instant::now();
        loop {
            let said = match self.agent("guest-ping", json!({})) {
                Ok(_) => return,
                Err(said) => said,
            };
            if began.elapsed() > limit {
                let console = self.console();
                panic!("{}: no agent after {limit:?}: {said}\nconsole:\n{console}", self.name());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// What a file of an ext4 file system holds.
pub fn file_in(image: &Path, file: &str) -> String {
    must(Command::new("/sbin/debugfs").args(["-R", &format!("cat {file}")]).arg(image))
}

/// An ext4 file system is clean as it is, with nothing to replay from its journal.
#[track_caller]
pub fn assert_clean(image: &Path) {
    let said = must(Command::new("/sbin/e2fsck").args(["-f", "-n"]).arg(image));
    assert!(!said.contains("recovery") && !said.contains("WARNING"), "{said}");
}

/// Makes a raw file with an empty ext4 file system.
pub fn make_ext4(file: &Path, bytes: u64) {
    let made = fs::File::create_new(file).and_then(|made| made.set_len(bytes));
    made.unwrap_or_else(|error| panic!("Cannot create {}: {error}", file.display()));
    must(Command::new("/sbin/mkfs.ext4").args(["-q", "-F"]).arg(file));
}

/// Copies of the kernel and the initramfs where QEMU's user can read them; builds them when they are missing.
fn guest_files(directory: &Path) -> (PathBuf, PathBuf) {
    must(&mut Command::new(repository().join("scripts/lab-guest.sh")));
    let files = ["vmlinuz", "initramfs"].map(|name| {
        let copy = directory.join(name);
        fs::copy(target().join("lab/guest").join(name), &copy).expect("the guest's files can be copied");
        copy
    });
    let [kernel, initramfs] = files;
    (kernel, initramfs)
}

/// Decodes what the agent sends. Stops at padding; other characters are the agent's fault.
fn decode_base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.bytes().take_while(|letter| *letter != b'=') {
        let value = ALPHABET.iter().position(|known| *known == letter).expect("base64 from the agent");
        bits = (bits << 6) | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    bytes
}
