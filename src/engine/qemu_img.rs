//! `qemu-img` as a program: image facts, and bitmaps of images that nobody has open.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::Deserialize;

/// `qemu-img` failed or could not be run.
#[derive(Debug, thiserror::Error)]
pub enum QemuImgError {
    /// Not installed, or not to be run.
    #[error("Cannot run qemu-img: {source} (Debian and Ubuntu: package qemu-utils)")]
    Run {
        /// What the system said.
        source: io::Error,
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
    /// Its output, as it belongs into `DISK.IDENT.qcow.json`.
    pub json: String,
    /// Bytes of the virtual disk.
    pub virtual_size: u64,
    /// Bytes the file takes on the host.
    pub actual_size: u64,
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
    #[serde(default)]
    actual_size: u64,
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

/// Reads an image's facts; the image may be in use.
pub fn info(image: &Path) -> Result<ImageInfo, QemuImgError> {
    let output = run(&["info", "--output=json", "--force-share"], image, &[])?;
    let json = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    let parsed: Info = serde_json::from_str(&json).map_err(|e| not_understood(image, &e))?;
    let data_file = parsed.data_file();
    let data = parsed.format_specific.map(|f| f.data).unwrap_or_default();
    let is_qcow2_v2 = data.get("compat").and_then(|v| v.as_str()) == Some("0.10");
    let stored = data.get("bitmaps").and_then(|v| v.as_array()).cloned().unwrap_or_default();
    let in_use = |b: &&serde_json::Value| b["flags"].as_array().is_some_and(|f| f.contains(&"in-use".into()));
    let name = |b: &serde_json::Value| b["name"].as_str().map(str::to_owned);
    Ok(ImageInfo {
        json,
        virtual_size: parsed.virtual_size,
        actual_size: parsed.actual_size,
        stands_alone: parsed.backing_filename.is_none() && data_file.is_none(),
        is_qcow2_v2,
        bitmaps: stored.iter().filter_map(name).collect(),
        sound_bitmaps: stored.iter().filter(|b| !in_use(b)).filter_map(name).collect(),
    })
}

/// The image with every file that its content depends on: those that back it, however deep, and external data files.
pub fn chain_files(image: &Path) -> Result<Vec<PathBuf>, QemuImgError> {
    let output = run(&["info", "--output=json", "--force-share", "--backing-chain"], image, &[])?;
    let chain: Vec<Info> = serde_json::from_slice(&output.stdout).map_err(|e| not_understood(image, &e))?;
    Ok(chain.into_iter().flat_map(|info| info.data_file().into_iter().chain([info.filename])).collect())
}

fn not_understood(image: &Path, error: &serde_json::Error) -> QemuImgError {
    let message = format!("its output is not understood: {error}");
    QemuImgError::Failed { what: "info", image: image.to_owned(), message }
}

/// Removes a bitmap from an image that nobody has open.
pub fn remove_bitmap(image: &Path, bitmap: &str) -> Result<(), QemuImgError> {
    run(&["bitmap", "--remove", "-f", "qcow2"], image, &[bitmap]).map(drop)
}

fn run(before: &[&'static str], image: &Path, after: &[&str]) -> Result<Output, QemuImgError> {
    let output = Command::new("qemu-img")
        .args(before)
        .arg(image)
        .args(after)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| QemuImgError::Run { source })?;
    if output.status.success() {
        return Ok(output);
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(QemuImgError::Failed { what: before[0], image: image.to_owned(), message })
}
