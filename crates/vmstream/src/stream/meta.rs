//! The `meta` frame's JSON: what a stream says about itself.
//!
//! Written byte for byte as Python's `json.dumps(indent=4)` prints it, because old readers and people's scripts
//! have only ever seen that form.

use serde_json::{Map, Value};

use super::codec::Compression;

/// The version that this program writes where old readers can read it.
pub const STREAM_VERSION: u32 = 2;

/// The version of streams of zstd frames, which no old reader knows.
pub const ZSTD_STREAM_VERSION: u32 = 3;

/// The most bytes of meta JSON that a reader accepts. Real ones have about 350.
pub const MAX_META_LEN: u64 = 1 << 20;

/// What a stream says about itself. A claim of the file, not yet checked against its frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamMeta {
    /// Bytes of the virtual disk.
    pub virtual_size: u64,
    /// Sum of the lengths of all data frames.
    pub data_size: u64,
    /// Local time without zone, ISO 8601 with microseconds. Kept as written: without a zone it is no instant.
    pub date: String,
    /// The disk target, such as `vda`.
    pub disk_name: String,
    /// `qcow2` or `raw`: the format of the disk that was read, not of the stream.
    pub disk_format: String,
    /// The checkpoint made with this stream. A `diff` or `copy` names one that does not exist.
    pub checkpoint_name: String,
    /// Method and level, `None` for an uncompressed stream. Some writers put LZ4 level 0 for either: see the trailer.
    pub compression: Option<Compression>,
    /// The checkpoint whose changes the stream holds; empty for a full.
    pub parent_checkpoint: String,
    /// True for increments and differences. False also under an `.inc.` name, when the writer fell back to a full.
    pub incremental: bool,
    /// 1 or 2, and 3 for zstd: see [`StreamMeta::version_for`].
    pub stream_version: u32,
}

/// Why a meta text was refused.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// Not JSON at all.
    #[error("The stream's meta text is not valid JSON")]
    NotJson {
        /// Where it stops being JSON.
        source: serde_json::Error,
    },
    /// JSON of another shape.
    #[error("The stream's meta text is JSON, but not an object")]
    NotAnObject,
    /// A needed field is absent or of another type.
    #[error("The stream's meta text has no usable field {field:?}")]
    Field {
        /// The key.
        field: &'static str,
    },
    /// Written by something newer.
    #[error("The stream has version {found}; this program reads 1 to 3")]
    Version {
        /// The version it claims.
        found: u64,
    },
}

impl StreamMeta {
    /// Reads the meta text of version 1 and 2 streams.
    ///
    /// Text fields that old versions did not write come back empty; sizes and the checkpoint name are required.
    ///
    /// # Errors
    /// [`MetaError`] naming the field that cannot be used.
    pub fn parse(json: &[u8]) -> Result<Self, MetaError> {
        let value: Value = serde_json::from_slice(json).map_err(|source| MetaError::NotJson { source })?;
        let object = value.as_object().ok_or(MetaError::NotAnObject)?;
        let version = match object.get("streamVersion").or_else(|| object.get("stream-version")) {
            None => 1,
            Some(found) => found.as_u64().ok_or(MetaError::Field { field: "streamVersion" })?,
        };
        let stream_version = u32::try_from(version)
            .ok()
            .filter(|known| (1..=ZSTD_STREAM_VERSION).contains(known))
            .ok_or(MetaError::Version { found: version })?;
        let checkpoint_name = text(object, "checkpointName")?;
        if checkpoint_name.is_empty() {
            return Err(MetaError::Field { field: "checkpointName" });
        }
        Ok(Self {
            virtual_size: number(object, "virtualSize")?,
            data_size: number(object, "dataSize")?,
            date: text(object, "date")?,
            disk_name: text(object, "diskName")?,
            disk_format: text(object, "diskFormat")?,
            checkpoint_name,
            compression: compression(object, stream_version)?,
            parent_checkpoint: text(object, "parentCheckpoint")?,
            incremental: match object.get("incremental") {
                Some(Value::Bool(incremental)) => *incremental,
                _ => return Err(MetaError::Field { field: "incremental" }),
            },
            stream_version,
        })
    }

    /// The version that a stream of this compression must have.
    pub fn version_for(compression: Option<Compression>) -> u32 {
        if matches!(compression, Some(Compression::Zstd(_))) { ZSTD_STREAM_VERSION } else { STREAM_VERSION }
    }

    /// The text as Python's `json.dumps(indent=4)` prints it.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = self.to_open_json();
        json.extend_from_slice(b"\n}");
        json
    }

    /// The same text, with blanks after the last value so that it has exactly `len` bytes.
    ///
    /// A writer reserves room with the largest `data_size` it may reach and fills in the real one at the end.
    /// `None` when `len` is too small.
    pub fn to_padded_json(&self, len: usize) -> Option<Vec<u8>> {
        let mut json = self.to_open_json();
        let filled = len.checked_sub(2).filter(|filled| *filled >= json.len())?;
        json.resize(filled, b' ');
        json.extend_from_slice(b"\n}");
        Some(json)
    }

    /// Everything up to the last value.
    fn to_open_json(&self) -> Vec<u8> {
        let compressed = self.compression.map_or("false".to_owned(), |known| known.level().to_string());
        // Old writers name it also where nothing is compressed.
        let method = self.compression.map_or("lz4", Compression::method);
        let fields = [
            ("virtualSize", self.virtual_size.to_string()),
            ("dataSize", self.data_size.to_string()),
            ("date", quoted(&self.date)),
            ("diskName", quoted(&self.disk_name)),
            ("diskFormat", quoted(&self.disk_format)),
            ("checkpointName", quoted(&self.checkpoint_name)),
            ("compressed", compressed),
            ("compressionMethod", quoted(method)),
            ("parentCheckpoint", quoted(&self.parent_checkpoint)),
            ("incremental", self.incremental.to_string()),
            ("streamVersion", self.stream_version.to_string()),
        ];
        let lines: Vec<String> =
            fields.iter().map(|(key, value)| format!("    \"{key}\": {value}")).collect();
        format!("{{\n{}", lines.join(",\n")).into_bytes()
    }
}

fn number(object: &Map<String, Value>, field: &'static str) -> Result<u64, MetaError> {
    object.get(field).and_then(Value::as_u64).ok_or(MetaError::Field { field })
}

/// Absent and `null` are empty; another type is an error.
fn text(object: &Map<String, Value>, field: &'static str) -> Result<String, MetaError> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(MetaError::Field { field }),
    }
}

/// `true` is what early versions wrote before there were levels. Version 3 is zstd and nothing else.
fn compression(object: &Map<String, Value>, version: u32) -> Result<Option<Compression>, MetaError> {
    let wrong = MetaError::Field { field: "compressed" };
    let level = match object.get("compressed") {
        None | Some(Value::Null | Value::Bool(false)) => None,
        Some(Value::Bool(true)) => Some(1),
        Some(Value::Number(level)) => {
            Some(level.as_u64().and_then(|level| u32::try_from(level).ok()).ok_or(wrong)?)
        }
        Some(_) => return Err(wrong),
    };
    let method = text(object, "compressionMethod")?;
    match (version, method.as_str(), level) {
        (ZSTD_STREAM_VERSION, "zstd", Some(level @ 1..)) => Ok(Some(Compression::Zstd(level))),
        (ZSTD_STREAM_VERSION, "zstd", _) => Err(MetaError::Field { field: "compressed" }),
        (ZSTD_STREAM_VERSION, _, _) => Err(MetaError::Field { field: "compressionMethod" }),
        (_, "" | "lz4", Some(level)) => Ok(Some(Compression::Lz4(level))),
        (_, _, Some(_)) => Err(MetaError::Field { field: "compressionMethod" }),
        (_, _, None) => Ok(None),
    }
}

/// A JSON string as Python writes it: everything outside printable ASCII as `\uXXXX`.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    /// Printed by Python 3 in virtnbdbackup 2.47.
    const GOLDEN: &str = r#"{
    "virtualSize": 100663296,
    "dataSize": 458752,
    "date": "2026-11-22T20:02:30.768021",
    "diskName": "vda",
    "diskFormat": "qcow2",
    "checkpointName": "virtnbdbackup.1",
    "compressed": 4,
    "compressionMethod": "lz4",
    "parentCheckpoint": "virtnbdbackup.0",
    "incremental": true,
    "streamVersion": 2
}"#;

    #[test]
    fn prints_what_python_prints() {
        let meta = StreamMeta::parse(GOLDEN.as_bytes()).unwrap();
        assert_eq!(meta.compression, Some(Compression::Lz4(4)));
        assert!(meta.incremental);
        assert_eq!(String::from_utf8(meta.to_json()).unwrap(), GOLDEN);
        let plain = GOLDEN.replace("\"compressed\": 4", "\"compressed\": false");
        let meta = StreamMeta::parse(plain.as_bytes()).unwrap();
        assert_eq!((meta.compression, String::from_utf8(meta.to_json()).unwrap()), (None, plain));
    }

    #[test]
    fn padding_is_exact_and_means_the_same() {
        let meta = StreamMeta::parse(GOLDEN.as_bytes()).unwrap();
        for extra in [0, 1, 19, 500] {
            let padded = meta.to_padded_json(GOLDEN.len() + extra).unwrap();
            assert_eq!(padded.len(), GOLDEN.len() + extra);
            assert_eq!(StreamMeta::parse(&padded).unwrap(), meta);
        }
        assert_eq!(meta.to_padded_json(GOLDEN.len()).unwrap(), GOLDEN.as_bytes());
        assert_eq!(meta.to_padded_json(GOLDEN.len() - 1), None);
        assert_eq!(meta.to_padded_json(0), None);
    }

    #[test]
    fn strings_are_escaped_as_python_does() {
        let text = "a\"\\/\u{8}\u{c}\n\r\t\0\u{7f}é😀";
        assert_eq!(quoted(text), r#""a\"\\/\b\f\n\r\t\u0000\u007f\u00e9\ud83d\ude00""#);
        assert_eq!(serde_json::from_str::<String>(&quoted(text)).unwrap(), text);
    }

    #[test]
    fn reads_version_1_and_the_old_key() {
        let old = br#"{"virtualSize": 5, "dataSize": 4, "checkpointName": "virtnbdbackup.0",
                       "incremental": false, "stream-version": 1}"#;
        let meta = StreamMeta::parse(old).unwrap();
        assert_eq!((meta.stream_version, meta.compression, meta.virtual_size), (1, None, 5));
        let without = br#"{"virtualSize": 5, "dataSize": 4, "checkpointName": "x", "incremental": false}"#;
        assert_eq!(StreamMeta::parse(without).unwrap().stream_version, 1);
    }

    #[test]
    fn zstd_is_a_version_of_its_own() {
        let zstd = GOLDEN.replace("lz4", "zstd").replace("Version\": 2", "Version\": 3");
        let meta = StreamMeta::parse(zstd.as_bytes()).unwrap();
        assert_eq!(meta.compression, Some(Compression::Zstd(4)));
        assert_eq!(StreamMeta::version_for(meta.compression), meta.stream_version);
        assert_eq!(String::from_utf8(meta.to_json()).unwrap(), zstd);
    }

    #[test]
    fn refuses_what_it_cannot_use() {
        let zstd = GOLDEN.replace("lz4", "zstd").replace("Version\": 2", "Version\": 3");
        let cases = [
            ("cut", GOLDEN[..200].to_owned()),
            ("list", "[]".to_owned()),
            ("newer", GOLDEN.replace("Version\": 2", "Version\": 4")),
            ("version 3 is zstd", GOLDEN.replace("Version\": 2", "Version\": 3")),
            ("zstd is version 3", GOLDEN.replace("lz4", "zstd")),
            ("a method nobody knows", GOLDEN.replace("lz4", "brotli")),
            ("zstd, not compressed", zstd.replace("\"compressed\": 4", "\"compressed\": false")),
            ("zstd of level 0", zstd.replace("\"compressed\": 4", "\"compressed\": 0")),
            ("negative size", GOLDEN.replace("100663296", "-1")),
            ("size past u64", GOLDEN.replace("100663296", "99999999999999999999")),
            ("text as size", GOLDEN.replace("458752", "\"458752\"")),
            ("no checkpoint", GOLDEN.replace("virtnbdbackup.1", "")),
            ("level as text", GOLDEN.replace("\"compressed\": 4", "\"compressed\": \"4\"")),
            ("incremental missing", GOLDEN.replace("\"incremental\"", "\"other\"")),
        ];
        for (name, json) in cases {
            assert!(StreamMeta::parse(json.as_bytes()).is_err(), "{name}");
        }
    }
}
