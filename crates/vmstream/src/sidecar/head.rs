//! What a sidecar says about its stream, its point and the files beside it: one JSON object.

use super::granule::Granules;
use super::sums::Digest;
use crate::regular;
use serde_json::{Map, Value, json};
use std::io::{self, Read, Write};
use std::path::{Component, Path};

/// The most bytes of a head that a reader accepts.
pub(super) const MAX_HEAD_LEN: u64 = 1 << 20;

/// Bytes that are copied at once.
const COPY_BYTES: usize = 256 << 10;

/// What a sidecar says about everything but blocks and granules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Program and version that wrote it. For people.
    pub writer: String,
    /// The file it is about.
    pub stream: StreamIdentity,
    /// The disk's target.
    pub target: String,
    /// The point's checkpoint, or `copy`.
    pub point: String,
    /// The checkpoint whose changes the stream holds. `None` for one that stands alone.
    pub parent: Option<String>,
    /// The digest of the parent's sidecar, whose granules count on where this one has none.
    pub parent_sidecar: Option<Digest>,
    /// Seconds since 1970, UTC.
    pub taken_seconds: u64,
    /// How the disk is cut.
    pub granules: Granules,
    /// The disks that the point has as streams or raw images, this one among them. `None` where the writer did not say.
    pub disks: Option<Vec<String>>,
    /// Disks of the domain that the point does not have.
    pub left_out: Vec<LeftOut>,
    /// The point's other files.
    pub files: Vec<FileIdentity>,
}

/// A disk of the domain that a point does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its target.
    pub disk: String,
    /// Why. For people.
    pub reason: String,
}

/// What tells the stream that a sidecar was made with from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamIdentity {
    /// The file's name, without folder.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// What its checksum file says. `None` for a raw image, which has none.
    pub adler32: Option<u32>,
    /// See the specification, 6.4. `None` for a raw image, whose granules say all.
    pub digest: Option<Digest>,
}

/// A file of the point that does not change later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    /// Its name in the folder; at most one slash, for a folder inside.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// BLAKE3 of them.
    pub digest: Digest,
}

/// Why a head was refused.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// Not JSON at all.
    #[error("The sidecar's head is not valid JSON")]
    NotJson(#[source] serde_json::Error),
    /// A needed field is absent or of another type or range.
    #[error("The sidecar's head has no usable field {0:?}")]
    Field(&'static str),
}

impl LeftOut {
    /// `{"disk": …, "reason": …}`
    pub fn to_json(&self) -> Value {
        json!({"disk": self.disk, "reason": self.reason})
    }

    /// Reads what [`LeftOut::to_json`] gives.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let text = |key: &str| value.get(key)?.as_str().map(str::to_owned);
        Some(Self { disk: text("disk")?, reason: text("reason")? })
    }
}

impl FileIdentity {
    /// The identity of a file with this content.
    pub fn of(name: &str, content: &[u8]) -> Self {
        Self { name: name.to_owned(), size: content.len() as u64, digest: blake3::hash(content).into() }
    }

    /// Copies a file of any size, and returns the identity of the copy.
    pub fn of_copy(name: &str, from: &mut impl Read, to: &mut impl Write) -> io::Result<Self> {
        let (mut hasher, mut size) = (blake3::Hasher::new(), 0);
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    to.write_all(&buffer[..count])?;
                    hasher.update(&buffer[..count]);
                    size += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { name: name.to_owned(), size, digest: hasher.finalize().into() })
    }

    /// `{"name": …, "size": …, "blake3": …}`, the digest in hex.
    pub fn to_json(&self) -> Value {
        json!({"name": self.name, "size": self.size, "blake3": hex(&self.digest)})
    }

    /// Reads what [`FileIdentity::to_json`] gives.
    ///
    /// # Errors
    /// [`HeadError::Field`], also for a name that leads elsewhere.
    pub fn from_json(value: &Value) -> Result<Self, HeadError> {
        let file = Fields(value.as_object().ok_or(HeadError::Field("files"))?);
        let digest = file.digest("blake3")?.ok_or(HeadError::Field("blake3"))?;
        Ok(Self { name: inner_name(file.text("name")?)?, size: file.number("size")?, digest })
    }

    /// Whether the file at `path` is this one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn is_at(&self, path: &Path) -> io::Result<bool> {
        let about = std::fs::metadata(path)?;
        // A file may claim any size: none is read before that is right.
        if !about.is_file() || about.len() != self.size {
            return Ok(false);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(regular::open(path)?.take(self.size))?;
        Ok(self.digest == *hasher.finalize().as_bytes())
    }
}

impl Head {
    /// True when the stream holds the whole disk: granules that the sidecar does not have are unknown then, not the
    /// parent's.
    pub fn stands_alone(&self) -> bool {
        self.parent.is_none()
    }

    /// True for the sidecar of a raw image, which has no checksum file.
    pub fn is_of_raw_image(&self) -> bool {
        self.stream.adler32.is_none() && self.stream.digest.is_none()
    }

    /// True for the sidecar of a file of this name and size; `recorded` is what its checksum file says, if it has one.
    pub fn fits(&self, name: &str, size: u64, recorded: Option<u32>) -> bool {
        let StreamIdentity { name: own_name, size: own_size, adler32, .. } = &self.stream;
        let sums_differ = recorded.zip(*adler32).is_some_and(|(recorded, own)| recorded != own);
        own_name == name && *own_size == size && !sums_differ
    }

    /// The head as a reader takes it. `None` when none does.
    pub(super) fn to_readable_json(&self) -> Option<Vec<u8>> {
        let json = self.to_json();
        (json.len() as u64 <= MAX_HEAD_LEN && Self::parse(&json).is_ok()).then_some(json)
    }

    fn to_json(&self) -> Vec<u8> {
        let mut value = json!({
            "writer": self.writer,
            "stream": {
                "name": self.stream.name,
                "size": self.stream.size,
                "adler32": self.stream.adler32,
                "digest": self.stream.digest.as_ref().map(hex),
            },
            "disk": {"target": self.target, "virtual_size": self.granules.disk_size()},
            "point": {"checkpoint": self.point, "parent": self.parent, "taken": self.taken_seconds},
            "granule_size": self.granules.size(),
            "parent_sidecar": self.parent_sidecar.as_ref().map(hex),
            "files": self.files.iter().map(FileIdentity::to_json).collect::<Vec<_>>(),
        });
        if let Some(disks) = &self.disks {
            value["disks"] = json!(disks);
            value["left_out"] = self.left_out.iter().map(LeftOut::to_json).collect();
        }
        value.to_string().into_bytes()
    }

    pub(super) fn parse(json: &[u8]) -> Result<Self, HeadError> {
        let value: Value = serde_json::from_slice(json).map_err(HeadError::NotJson)?;
        let top = Fields(value.as_object().ok_or(HeadError::Field("the object itself"))?);
        let (stream, disk, point) = (top.object("stream")?, top.object("disk")?, top.object("point")?);
        let granules = Granules::of_size(top.number("granule_size")?, disk.number("virtual_size")?)
            .ok_or(HeadError::Field("granule_size"))?;
        let files = top.0.get("files").and_then(Value::as_array).ok_or(HeadError::Field("files"))?;
        Ok(Self {
            writer: top.text("writer")?.to_owned(),
            stream: StreamIdentity {
                name: stream.text("name")?.to_owned(),
                size: stream.number("size")?,
                adler32: stream.optional("adler32", |value| u32::try_from(value.as_u64()?).ok())?,
                digest: stream.digest("digest")?,
            },
            target: disk.text("target")?.to_owned(),
            point: point.text("checkpoint")?.to_owned(),
            parent: point.optional("parent", |value| value.as_str().map(str::to_owned))?,
            parent_sidecar: top.digest("parent_sidecar")?,
            taken_seconds: point.number("taken")?,
            granules,
            disks: top.optional("disks", |value| texts(value.as_array()?))?,
            left_out: top
                .optional("left_out", |value| value.as_array()?.iter().map(LeftOut::from_json).collect())?
                .unwrap_or_default(),
            files: files.iter().map(FileIdentity::from_json).collect::<Result<_, HeadError>>()?,
        })
    }
}

fn texts(values: &[Value]) -> Option<Vec<String>> {
    values.iter().map(|value| value.as_str().map(str::to_owned)).collect()
}

fn hex(digest: &Digest) -> String {
    blake3::Hash::from_bytes(*digest).to_hex().to_string()
}

/// A name that leads to nowhere but into the folder, one level deep at most.
fn inner_name(name: &str) -> Result<String, HeadError> {
    let parts: Vec<_> = Path::new(name).components().collect();
    let inside = parts.iter().all(|part| matches!(part, Component::Normal(_)));
    match parts.len() {
        1 | 2 if inside && !name.contains('\0') => Ok(name.to_owned()),
        _ => Err(HeadError::Field("name")),
    }
}

struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn need<T>(&self, key: &'static str, read: impl Fn(&'a Value) -> Option<T>) -> Result<T, HeadError> {
        self.0.get(key).and_then(read).ok_or(HeadError::Field(key))
    }

    /// `null` and absent are the same.
    fn optional<T>(
        &self,
        key: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, HeadError> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).ok_or(HeadError::Field(key)),
        }
    }

    fn text(&self, key: &'static str) -> Result<&'a str, HeadError> {
        self.need(key, Value::as_str)
    }

    fn number(&self, key: &'static str) -> Result<u64, HeadError> {
        self.need(key, Value::as_u64)
    }

    fn object(&self, key: &'static str) -> Result<Self, HeadError> {
        self.need(key, Value::as_object).map(Fields)
    }

    fn digest(&self, key: &'static str) -> Result<Option<Digest>, HeadError> {
        self.optional(key, |value| Some(*blake3::Hash::from_hex(value.as_str()?).ok()?.as_bytes()))
    }
}
