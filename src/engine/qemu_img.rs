//! `qemu-img` as a program: image facts, bitmaps of images that nobody has open, scratch files.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::cancel::Cancel;
use crate::program::{NEVER, Output, Program, ProgramError, Stopped};

/// How long it may take to open an image and do a little: as a rule some ten milliseconds.
const LIMIT: Duration = Duration::from_secs(60);

/// How long it may take to read all tables of an image, which are a thousandth of what it holds. It is for a forecast.
const MEASURE_LIMIT: Duration = Duration::from_secs(300);

/// Address space that it may take. It needs some ten MiB, and up to 32 MiB for each image of a long chain.
const MEMORY_BYTES: u64 = 1 << 30;

/// `qemu-img` failed or could not be run.
#[derive(Debug, thiserror::Error)]
pub enum QemuImgError {
    /// Not installed, or not to be run.
    #[error("qemu-img {source} (Debian and Ubuntu: package qemu-utils)")]
    Run {
        /// Why.
        source: ProgramError,
    },
    /// It did not come to its end.
    #[error("qemu-img {what} of {} {source}", image.display())]
    Hung {
        /// The subcommand.
        what: &'static str,
        /// The image.
        image: PathBuf,
        /// How long it was waited for.
        source: ProgramError,
    },
    /// It ended with an error.
    #[error("qemu-img {what} failed for {}: {message}", image.display())]
    Failed {
        /// The subcommand.
        what: &'static str,
        /// The image.
        image: PathBuf,
        /// What it printed.
        message: String,
    },
}

/// What `qemu-img info` tells of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// Its output, as it belongs into `DISK.IDENT.qcow.json`. Without the image's external data file: `virtnbdrestore`
    /// would make the restored image with one of that name, over the one in use.
    pub json: String,
    /// Bytes of the virtual disk.
    pub virtual_size: u64,
    /// Bytes of the disk that its image, and what backs it, have room taken for. A forecast.
    pub allocated_bytes: u64,
    /// It has neither a backing file nor an external data file.
    pub stands_alone: bool,
    /// A qcow2 image of version 2 (compat 0.10), which cannot keep bitmaps.
    pub is_qcow2_v2: bool,
    /// Bitmaps that the image keeps.
    pub bitmaps: Vec<String>,
    /// Those that were closed in order. While QEMU has the image open they all count as in use.
    pub sound_bitmaps: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Info {
    virtual_size: u64,
    actual_size: Option<u64>,
    filename: PathBuf,
    backing_filename: Option<String>,
    format_specific: Option<FormatSpecific>,
}

#[derive(Deserialize)]
struct FormatSpecific {
    #[serde(default)]
    data: serde_json::Map<String, serde_json::Value>,
}

impl Info {
    /// The external data file. QEMU takes a relative name from its working directory, which under libvirt is `/`.
    fn data_file(&self) -> Option<PathBuf> {
        let name = self.format_specific.as_ref()?.data.get("data-file")?.as_str()?;
        Some(Path::new("/").join(name))
    }
}

/// Reads an image's facts; the image may be in use. `driver` is QEMU's for its format: a guest could write what a probe
/// would believe.
pub fn info(image: &Path, driver: &'static str, cancel: &Cancel) -> Result<ImageInfo, QemuImgError> {
    let stopped = || cancel.stopped().is_some();
    let arguments = ["info", "--output=json", "--force-share", "-f", driver];
    let output = run(&arguments, image, &[], LIMIT, &stopped)?;
    let told: Value = serde_json::from_slice(&output.stdout).map_err(|e| not_understood(image, &e))?;
    let json = standalone(told.clone());
    let parsed: Info = serde_json::from_value(told).map_err(|e| not_understood(image, &e))?;
    let data_file = parsed.data_file();
    let stands_alone = parsed.backing_filename.is_none() && data_file.is_none();
    // Of a block device the system tells nothing, which is 0.
    let stored = parsed.actual_size.filter(|bytes| *bytes > 0 && stands_alone);
    let allocated = stored.or_else(|| measured_bytes(image, driver, &stopped));
    let data = parsed.format_specific.map(|f| f.data).unwrap_or_default();
    let is_qcow2_v2 = data.get("compat").and_then(|v| v.as_str()) == Some("0.10");
    let stored = data.get("bitmaps").and_then(|v| v.as_array()).cloned().unwrap_or_default();
    let in_use = |b: &&serde_json::Value| b["flags"].as_array().is_some_and(|f| f.contains(&"in-use".into()));
    let name = |b: &serde_json::Value| b["name"].as_str().map(str::to_owned);
    Ok(ImageInfo {
        json,
        virtual_size: parsed.virtual_size,
        allocated_bytes: allocated.map_or(parsed.virtual_size, |bytes| bytes.min(parsed.virtual_size)),
        stands_alone,
        is_qcow2_v2,
        bitmaps: stored.iter().filter_map(name).collect(),
        sound_bitmaps: stored.iter().filter(|b| !in_use(b)).filter_map(name).collect(),
    })
}

/// The facts of an image as a restored one has them: whole in one file.
fn standalone(mut image: Value) -> String {
    if let Some(data) = image.pointer_mut("/format-specific/data").and_then(Value::as_object_mut) {
        data.remove("data-file");
        data.remove("data-file-raw");
    }
    format!("{image:#}")
}

/// What the tables of an image and of all that backs it call allocated. Reads them.
fn measured_bytes(image: &Path, driver: &'static str, stopped: Stopped<'_>) -> Option<u64> {
    // Only this follows images that back it, and would follow a chain that leads back to itself until memory ends.
    chain_files(image, stopped).ok()?;
    let arguments = ["measure", "--output=json", "--force-share", "-O", "qcow2", "-f", driver];
    let output = run(&arguments, image, &[], MEASURE_LIMIT, stopped).ok()?;
    let measured: Value = serde_json::from_slice(&output.stdout).ok()?;
    measured["required"].as_u64()
}

/// The image with every file that its content depends on: those that back it, however deep, and external data files.
/// An error when they lead back to the image.
pub(super) fn chain_files(image: &Path, stopped: Stopped<'_>) -> Result<Vec<PathBuf>, QemuImgError> {
    let arguments = ["info", "--output=json", "--force-share", "--backing-chain"];
    let output = run(&arguments, image, &[], LIMIT, stopped)?;
    let chain: Vec<Info> = serde_json::from_slice(&output.stdout).map_err(|e| not_understood(image, &e))?;
    Ok(chain.into_iter().flat_map(|info| info.data_file().into_iter().chain([info.filename])).collect())
}

fn not_understood(image: &Path, error: &serde_json::Error) -> QemuImgError {
    let message = format!("its output is not understood: {error}");
    QemuImgError::Failed { what: "info", image: image.to_owned(), message }
}

/// Removes a bitmap from an image that nobody has open.
pub fn remove_bitmap(image: &Path, bitmap: &str) -> Result<(), QemuImgError> {
    run(&["bitmap", "--remove", "-f", "qcow2"], image, &[bitmap], LIMIT, NEVER).map(drop)
}

/// Makes a scratch file for a disk of `size` bytes that only root may read, encrypted with `key` if one is given.
pub fn create_scratch(file: &Path, size: u64, key: Option<&[u8]>) -> Result<(), QemuImgError> {
    let failed = |message: String| QemuImgError::Failed { what: "create", image: file.to_owned(), message };
    let closed = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    closed.map_err(|e| failed(e.to_string()))?;
    let mut program = program().args(["create", "-q", "-f", "qcow2"]);
    if let Some(key) = key {
        // The key is random: no need to make guesses at it slow.
        let options = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";
        program = program.args(["--object", "secret,id=key,file=/dev/stdin", "-o", options]).input(key);
    }
    finish(program.arg(file).arg(size.to_string()), "create", file, LIMIT, NEVER).map(drop)
}

fn program() -> Program {
    Program::new("qemu-img").memory(MEMORY_BYTES)
}

fn run(
    before: &[&'static str],
    image: &Path,
    after: &[&str],
    limit: Duration,
    stopped: Stopped<'_>,
) -> Result<Output, QemuImgError> {
    finish(program().args(before).arg(image).args(after), before[0], image, limit, stopped)
}

fn finish(
    program: Program,
    what: &'static str,
    image: &Path,
    limit: Duration,
    stopped: Stopped<'_>,
) -> Result<Output, QemuImgError> {
    let image = image.to_owned();
    match program.run(limit, stopped) {
        Ok(output) if output.status.success() => Ok(output),
        Ok(output) => Err(QemuImgError::Failed { what, image, message: output.message() }),
        Err(source @ ProgramError::Start { .. }) => Err(QemuImgError::Run { source }),
        Err(source) => Err(QemuImgError::Hung { what, image, source }),
    }
}
