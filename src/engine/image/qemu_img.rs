//! `qemu-img` as a program: image facts, bitmaps of images that nobody has open, scratch files.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::devices;
use crate::engine::cancel::Cancel;
use crate::engine::domain::layout::{Backing, Devices, Layout};
use vmprogram::{NEVER, Output, Program, ProgramError, Stopped};

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
    Run { source: ProgramError },
    /// It did not come to its end.
    #[error("qemu-img {what} of {} {source}", image.display())]
    Hung {
        what: &'static str,
        image: PathBuf,
        /// How long it was waited for.
        source: ProgramError,
    },
    /// It ended with an error.
    #[error("qemu-img {what} failed for {}: {message}{}", image.display(), mend(message))]
    Failed { what: &'static str, image: PathBuf, message: String },
}

fn mend(message: &str) -> &'static str {
    if says_missing(message) { ". Put that file back, or mount the file system it is on" } else { "" }
}

/// Whether it failed because an image, or one below it, does not exist. It takes the system's words, and never sets a language.
pub(crate) fn says_missing(message: &str) -> bool {
    message.ends_with("No such file or directory")
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
    /// Its content is in another file.
    pub has_data_file: bool,
    /// A qcow2 image of version 2 (compat 0.10), which cannot keep bitmaps.
    pub is_qcow2_v2: bool,
    /// Bitmaps that the image keeps.
    pub bitmaps: Vec<String>,
    /// Those that were closed in order. While QEMU has the image open they all count as in use.
    pub sound_bitmaps: Vec<String>,
    /// QEMU found it damaged, and marked it so.
    pub is_marked_corrupt: bool,
}

/// What `qemu-img info` tells of one image of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The file or device.
    pub image: PathBuf,
    /// QEMU's name of its format.
    pub driver: String,
    /// Where its content is, if not there.
    pub data_file: Option<PathBuf>,
    /// Bitmaps that it keeps.
    pub bitmaps: Vec<String>,
    /// Those that were closed in order.
    pub sound_bitmaps: Vec<String>,
    /// QEMU found it damaged, and marked it so.
    pub is_marked_corrupt: bool,
    /// Its counts of references may be wrong, and are made anew when it is opened.
    pub is_dirty: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Info {
    virtual_size: u64,
    actual_size: Option<u64>,
    filename: PathBuf,
    format: String,
    #[serde(default)]
    dirty_flag: bool,
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

    fn datum(&self, name: &str) -> Option<&Value> {
        self.format_specific.as_ref()?.data.get(name)
    }

    fn bitmaps(&self, wanted: impl Fn(&Value) -> bool) -> Vec<String> {
        let stored = self.datum("bitmaps").and_then(Value::as_array).into_iter().flatten();
        stored.filter(|bitmap| wanted(bitmap)).filter_map(|b| b["name"].as_str().map(str::to_owned)).collect()
    }

    fn sound_bitmaps(&self) -> Vec<String> {
        self.bitmaps(|b| b["flags"].as_array().is_none_or(|flags| !flags.contains(&"in-use".into())))
    }

    fn is_marked_corrupt(&self) -> bool {
        self.datum("corrupt").and_then(Value::as_bool).unwrap_or(false)
    }

    fn into_layer(self) -> Layer {
        Layer {
            data_file: self.data_file(),
            bitmaps: self.bitmaps(|_| true),
            sound_bitmaps: self.sound_bitmaps(),
            is_marked_corrupt: self.is_marked_corrupt(),
            is_dirty: self.dirty_flag,
            image: self.filename,
            driver: self.format,
        }
    }
}

/// An image as it is named to `qemu-img`: by its path, or by its node where the definition has more to say of it.
struct Named<'a> {
    image: &'a Path,
    arguments: Vec<String>,
}

impl<'a> Named<'a> {
    fn of(
        image: &'a Path,
        driver: &str,
        layout: &Layout,
        stopped: Stopped<'_>,
    ) -> Result<Self, QemuImgError> {
        let alone = Layout { backing: Backing::OfHeader, ..layout.clone() };
        if alone == Layout::default() {
            let arguments = vec!["-f".to_owned(), driver.to_owned(), image.to_string_lossy().into_owned()];
            return Ok(Self { image, arguments });
        }
        let hung = |source| QemuImgError::Hung { what: "info", image: image.to_owned(), source };
        let devices: Devices = devices::among(&alone.files(image), stopped).map_err(hung)?;
        Ok(Self { image, arguments: vec![format!("json:{}", alone.node(driver, image, &devices))] })
    }

    fn run(
        &self,
        before: &[&'static str],
        limit: Duration,
        stopped: Stopped<'_>,
    ) -> Result<Output, QemuImgError> {
        finish(program().args(before).args(&self.arguments), before[0], self.image, limit, stopped)
    }
}

/// Reads an image's facts; the image may be in use. `driver` is QEMU's for its format: a guest could write what a probe
/// would believe.
pub fn info(
    image: &Path,
    driver: &'static str,
    layout: &Layout,
    cancel: &Cancel,
) -> Result<ImageInfo, QemuImgError> {
    let stopped = || cancel.stopped().is_some();
    let named = Named::of(image, driver, layout, &stopped)?;
    let output = named.run(&["info", "--output=json", "--force-share"], LIMIT, &stopped)?;
    let told: Value = serde_json::from_slice(&output.stdout).map_err(|e| not_understood(image, &e))?;
    let json = standalone(told.clone());
    let parsed: Info = serde_json::from_value(told).map_err(|e| not_understood(image, &e))?;
    let has_data_file = parsed.data_file().is_some();
    let stands_alone = parsed.backing_filename.is_none() && !has_data_file;
    // Of a block device the system tells nothing, which is 0.
    let stored = parsed.actual_size.filter(|bytes| *bytes > 0 && stands_alone);
    let allocated = stored.or_else(|| measured_bytes(&named, &stopped));
    Ok(ImageInfo {
        json,
        virtual_size: parsed.virtual_size,
        allocated_bytes: allocated.map_or(parsed.virtual_size, |bytes| bytes.min(parsed.virtual_size)),
        stands_alone,
        has_data_file,
        is_qcow2_v2: parsed.datum("compat").and_then(Value::as_str) == Some("0.10"),
        bitmaps: parsed.bitmaps(|_| true),
        sound_bitmaps: parsed.sound_bitmaps(),
        is_marked_corrupt: parsed.is_marked_corrupt(),
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
fn measured_bytes(named: &Named<'_>, stopped: Stopped<'_>) -> Option<u64> {
    // Only this follows images that back it, and would follow a chain that leads back to itself until memory ends.
    named.run(&CHAIN, LIMIT, stopped).ok()?;
    let arguments = ["measure", "--output=json", "--force-share", "-O", "qcow2"];
    let output = named.run(&arguments, MEASURE_LIMIT, stopped).ok()?;
    let measured: Value = serde_json::from_slice(&output.stdout).ok()?;
    measured["required"].as_u64()
}

/// Asks about an image and all that backs it by their headers. An error when they lead back to the image.
const CHAIN: [&str; 4] = ["info", "--output=json", "--force-share", "--backing-chain"];

/// An image, and what backs it by its header, however deep. Of an image that is not `whole`, itself alone.
pub(crate) fn layers(
    image: &Path,
    driver: &str,
    layout: &Layout,
    whole: bool,
    stopped: Stopped<'_>,
) -> Result<Vec<Layer>, QemuImgError> {
    let named = Named::of(image, driver, layout, stopped)?;
    let output = named.run(if whole { &CHAIN } else { &CHAIN[..3] }, LIMIT, stopped)?;
    let failed = |e| not_understood(image, &e);
    let infos: Vec<Info> = if whole {
        serde_json::from_slice(&output.stdout).map_err(failed)?
    } else {
        vec![serde_json::from_slice(&output.stdout).map_err(failed)?]
    };
    let mut layers: Vec<_> = infos.into_iter().map(Info::into_layer).collect();
    if let Some(top) = layers.first_mut() {
        top.image = image.to_owned();
        top.data_file = layout.data_file.clone().or(top.data_file.take());
    }
    Ok(layers)
}

/// How many references of a qcow2 image that nobody has open lead to nowhere, or to what another has too: it was cut short,
/// or damaged. Reads its tables.
pub(crate) fn broken_references(
    image: &Path,
    layout: &Layout,
    stopped: Stopped<'_>,
) -> Result<u64, QemuImgError> {
    let named = Named::of(image, "qcow2", layout, stopped)?;
    let program = program().args(["check", "--output=json", "--force-share"]).args(&named.arguments);
    // The exit code is 2 then, and 3 where clusters are lost, which harms nobody.
    let hung = |source| QemuImgError::Hung { what: "check", image: image.to_owned(), source };
    let output = program.run(MEASURE_LIMIT, stopped).map_err(hung)?;
    let told: Value = serde_json::from_slice(&output.stdout).map_err(|_| {
        let message = output.message();
        QemuImgError::Failed { what: "check", image: image.to_owned(), message }
    })?;
    Ok(told["corruptions"].as_u64().unwrap_or_default())
}

/// Makes an empty image over `file` with an empty bitmap of that name.
pub(crate) fn create_with_bitmap(file: &Path, size: u64, bitmap: &str) -> Result<(), QemuImgError> {
    run(&["create", "-q", "-f", "qcow2"], file, &[&size.to_string()], LIMIT, NEVER)?;
    run(&["bitmap", "--add", "-f", "qcow2"], file, &[bitmap], LIMIT, NEVER).map(drop)
}

/// Adds to a bitmap of `file` what the one of the same name of another image has, which is opened as `node`. `key` is what
/// that calls the object `key`.
pub(crate) fn merge_bitmap(
    file: &Path,
    bitmap: &str,
    node: &Value,
    key: Option<&[u8]>,
    stopped: Stopped<'_>,
) -> Result<(), QemuImgError> {
    let mut program = program().arg("bitmap");
    if let Some(key) = key {
        program = program.args(["--object", "secret,id=key,file=/dev/stdin"]).input(key);
    }
    let program = program.args(["--merge", bitmap, "-f", "qcow2", "-b", &format!("json:{node}")]);
    finish(program.arg(file).arg(bitmap), "bitmap", file, MEASURE_LIMIT, stopped).map(drop)
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
