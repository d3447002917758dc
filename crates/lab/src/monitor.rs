//! Writes to the disks of a running VM through QEMU's monitor.
//!
//! The monitor's `qemu-io` command goes through the block layer as a guest's request does and marks dirty
//! bitmaps. It returns nothing: what it has to say, errors too, appears in the VM's log file. So each batch is
//! quiet, ends with a marker that QEMU answers in the log, and everything in the log before that answer is an
//! error of the batch.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use virt::connect::Connect;
use virt::domain::Domain;

/// One request to a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOp {
    /// Fills the range with one byte value.
    Write { offset: u64, len: u64, pattern: u8 },
    /// Makes the range read as zeros; `unmap` lets the image give the space back.
    WriteZeroes { offset: u64, len: u64, unmap: bool },
    /// Tells the image that the range is not needed. What it reads as afterwards is the image's choice.
    Discard { offset: u64, len: u64 },
    /// Asks for everything written so far to be on stable storage.
    Flush,
}

impl DiskOp {
    pub(super) fn qemu_io(self) -> String {
        match self {
            Self::Write { offset, len, pattern } => format!("write -q -P {pattern} {offset} {len}"),
            Self::WriteZeroes { offset, len, unmap: true } => format!("write -q -z -u {offset} {len}"),
            Self::WriteZeroes { offset, len, unmap: false } => format!("write -q -z {offset} {len}"),
            Self::Discard { offset, len } => format!("discard -q {offset} {len}"),
            Self::Flush => "flush".to_owned(),
        }
    }
}

/// What QEMU said about a batch of requests.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    #[error("Domain {domain}: the monitor refuses {command:?}: {said}")]
    Refused { domain: String, command: String, said: String },
    #[error("Domain {domain} is not active or has no disk {target}")]
    NoDevice { domain: String, target: String },
    #[error("Domain {domain}: requests to {device} failed: {said}")]
    Failed { domain: String, device: String, said: String },
    #[error("Domain {domain}: libvirt: {said}")]
    Libvirt { domain: String, said: String },
    #[error("Domain {domain}: cannot follow {log}")]
    Log { domain: String, log: PathBuf, source: std::io::Error },
    #[error("Domain {domain}: no answer in {log} after {waited_s} s, only: {said}")]
    Silent { domain: String, log: PathBuf, waited_s: u64, said: String },
}

/// The monitor of one domain. Holds no connection, so daemons may restart between batches.
#[derive(Clone, Debug)]
pub(super) struct Monitor {
    domain: String,
}

impl Monitor {
    pub(super) fn new(domain: &str) -> Self {
        Self { domain: domain.to_owned() }
    }

    /// Carries out requests in order on one device, given by its monitor name.
    ///
    /// Takes about 2 ms per request, nearly all of it in libvirt's way to the monitor.
    pub(super) fn run(&self, device: &str, ops: &[DiskOp]) -> Result<(), MonitorError> {
        let commands: Vec<String> = ops.iter().map(|op| op.qemu_io()).collect();
        let said = self.qemu_io(device, &commands)?;
        if said.is_empty() {
            return Ok(());
        }
        Err(MonitorError::Failed { domain: self.domain.clone(), device: device.to_owned(), said })
    }

    /// Writes a whole file to the device. QEMU's user must be able to read it.
    pub(super) fn write_file(
        &self,
        device: &str,
        offset: u64,
        len: u64,
        file: &Path,
    ) -> Result<(), MonitorError> {
        let said = self.qemu_io(device, &[format!("write -q -s {} {offset} {len}", file.display())])?;
        if said.is_empty() {
            return Ok(());
        }
        Err(MonitorError::Failed { domain: self.domain.clone(), device: device.to_owned(), said })
    }

    /// True when a range reads as one byte value everywhere.
    pub(super) fn reads_as(
        &self,
        device: &str,
        offset: u64,
        len: u64,
        pattern: u8,
    ) -> Result<bool, MonitorError> {
        let said = self.qemu_io(device, &[format!("read -q -P {pattern} {offset} {len}")])?;
        if said.is_empty() {
            return Ok(true);
        }
        if said.contains("Pattern verification failed") {
            return Ok(false);
        }
        Err(MonitorError::Failed { domain: self.domain.clone(), device: device.to_owned(), said })
    }

    /// The names the monitor has for the devices of this domain that can hold a disk.
    pub(super) fn device_names(&self) -> Result<Vec<String>, MonitorError> {
        let answer = self.connect()?.1.qemu_monitor_command(r#"{"execute":"query-block"}"#, 0);
        let answer: serde_json::Value = serde_json::from_str(&answer.map_err(|error| self.libvirt(&error))?)
            .expect("QEMU's monitor answers in JSON");
        let blocks = answer["return"].as_array().expect("query-block returns a list");
        Ok(blocks.iter().filter_map(|block| block["qdev"].as_str().map(str::to_owned)).collect())
    }

    /// Sends `qemu-io` commands and returns what QEMU wrote to its log meanwhile.
    fn qemu_io(&self, device: &str, commands: &[String]) -> Result<String, MonitorError> {
        static MARKS: AtomicU64 = AtomicU64::new(0);
        let log_path = Path::new("/var/log/libvirt/qemu").join(format!("{}.log", self.domain));
        let log_error =
            |source| MonitorError::Log { domain: self.domain.clone(), log: log_path.clone(), source };
        let mut log = File::open(&log_path).map_err(log_error)?;
        log.seek(SeekFrom::End(0)).map_err(log_error)?;

        let (_connect, domain) = self.connect()?;
        let mark = format!("lab-mark-{}", MARKS.fetch_add(1, Ordering::Relaxed));
        for command in commands.iter().chain([&mark]) {
            let line = format!("qemu-io -d {device} \"{command}\"");
            let hmp = virt::sys::VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP;
            let said = domain.qemu_monitor_command(&line, hmp).map_err(|error| self.libvirt(&error))?;
            if !said.trim().is_empty() {
                let said = said.trim().to_owned();
                return Err(MonitorError::Refused { domain: self.domain.clone(), command: line, said });
            }
        }

        let answer = format!("command \"{mark}\" not found");
        let limit = Duration::from_secs(20);
        let began = Instant::now();
        let mut said = String::new();
        loop {
            log.read_to_string(&mut said).map_err(log_error)?;
            if let Some((before, _)) = said.split_once(&answer) {
                // A backup that breaks off is no failed request: QEMU's server tells of its client.
                let lines = before.lines().filter(|line| !line.contains(": Disconnect client, due to:"));
                return Ok(lines.collect::<Vec<_>>().join("\n").trim().to_owned());
            }
            if began.elapsed() > limit {
                let waited_s = limit.as_secs();
                return Err(MonitorError::Silent {
                    domain: self.domain.clone(),
                    log: log_path,
                    waited_s,
                    said,
                });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn connect(&self) -> Result<(Connect, Domain), MonitorError> {
        let connect = Connect::open(Some("qemu:///system")).map_err(|error| self.libvirt(&error))?;
        let domain = connect.lookup_domain_by_name(&self.domain).map_err(|error| self.libvirt(&error))?;
        Ok((connect, domain))
    }

    fn libvirt(&self, error: &virt::error::Error) -> MonitorError {
        MonitorError::Libvirt { domain: self.domain.clone(), said: error.to_string() }
    }
}
