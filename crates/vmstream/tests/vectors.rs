//! The specification's test vectors against the reader: each good stream as its JSON says, each bad one refused for
//! the reason and at the place its JSON says.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use vmstream::stream::checksum::adler32;
use vmstream::stream::codec::CodecError;
use vmstream::stream::frame::FrameHeaderError;
use vmstream::stream::meta::MetaError;
use vmstream::stream::trailer::TrailerError;
use vmstream::stream::{
    Compression, Damage, Frame, FrameKind, Piece, Problem, Stored, StreamError, StreamFile, TrailerMismatch,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../format-spec/vectors")
}

/// What the reader makes of a stream.
struct Reading {
    /// What it says about itself.
    head: Option<Value>,
    /// The frames up to the first that cannot be walked over, each with its content's CRC-32 where it decodes.
    frames: Vec<Value>,
    /// The first damage: of the structure if there is one there, else of a payload.
    error: Option<Damage>,
}

fn read(path: &Path) -> Reading {
    let mut reading = Reading { head: None, frames: vec![], error: None };
    let stream = match StreamFile::open(path) {
        Ok(stream) => stream,
        Err(error) => {
            reading.error = Some(damage(error));
            return reading;
        }
    };
    reading.head = Some(head(&stream));
    let mut payload = None;
    for frame in stream.frames() {
        match frame {
            Ok(frame) => {
                let content = content_crc(&stream, &frame);
                reading.frames.push(described(&frame, content.as_ref().ok().copied()));
                payload = payload.or(content.err());
            }
            Err(error) => reading.error = Some(damage(error)),
        }
    }
    reading.error = reading.error.or(payload.map(damage));
    reading
}

fn damage(error: StreamError) -> Damage {
    match error {
        StreamError::Damaged(damage) => *damage,
        StreamError::Read { .. } => panic!("{error:?}"),
    }
}

fn head(stream: &StreamFile) -> Value {
    let meta = stream.meta();
    json!({
        "virtualSize": meta.virtual_size,
        "dataSize": meta.data_size,
        "date": meta.date,
        "diskName": meta.disk_name,
        "diskFormat": meta.disk_format,
        "checkpointName": meta.checkpoint_name,
        "compressed": meta.compression.map(Compression::level),
        "parentCheckpoint": meta.parent_checkpoint,
        "incremental": meta.incremental,
        "streamVersion": meta.stream_version,
    })
}

fn content_crc(stream: &StreamFile, frame: &Frame) -> Result<u32, StreamError> {
    let (mut crc, mut stored, mut plain) = (crc32fast::Hasher::new(), Vec::new(), Vec::new());
    if frame.header.kind == FrameKind::Data {
        for piece in frame.pieces() {
            stream.read_piece(&piece, &mut stored, &mut plain)?;
            crc.update(&plain);
        }
    }
    Ok(crc.finalize())
}

fn described(frame: &Frame, crc: Option<u32>) -> Value {
    let kind = if frame.header.kind == FrameKind::Data { "data" } else { "zero" };
    let mut value = json!({
        "kind": kind,
        "start": frame.header.start,
        "length": frame.header.len,
        "header_at": frame.stored_at - 40,
    });
    if frame.header.kind == FrameKind::Data {
        value["stored_at"] = frame.stored_at.into();
        value["stored"] = match &frame.stored {
            Stored::Plain => json!([frame.header.len]),
            Stored::Compressed { pieces, .. } => json!(pieces),
        };
        value["crc32"] = json!(crc);
    }
    value
}

/// The specification's name of a problem.
fn code(problem: &Problem) -> &'static str {
    match problem {
        Problem::CutOff { .. } => "cut-off",
        Problem::NotAStream { .. } => "not-a-stream",
        Problem::MetaTooLong { .. } => "meta-too-long",
        Problem::Meta(MetaError::NotJson { .. }) => "meta-not-json",
        Problem::Meta(MetaError::NotAnObject) => "meta-not-an-object",
        Problem::Meta(MetaError::Field { .. }) => "meta-field",
        Problem::Meta(MetaError::Version { .. }) => "meta-version",
        Problem::Header(FrameHeaderError::Malformed { .. }) => "header",
        Problem::Header(FrameHeaderError::UnknownKind { .. }) => "unknown-kind",
        Problem::Misplaced { .. } => "misplaced",
        Problem::NotZero { .. } => "not-zero",
        Problem::NoLineEnd { .. } => "no-line-end",
        Problem::Empty => "empty-frame",
        Problem::OutOfOrder { .. } => "out-of-order",
        Problem::PastDisk { .. } => "past-disk",
        Problem::Trailer(TrailerError::Unexpected { .. }) => "trailer-syntax",
        Problem::Trailer(TrailerError::TooLarge { .. }) => "trailer-too-large",
        Problem::Trailer(TrailerError::TooSmall { .. }) => "trailer-too-small",
        Problem::Trailer(TrailerError::WrongTotal { .. }) => "trailer-total",
        Problem::Trailer(TrailerError::Read { .. }) => panic!("{problem:?}"),
        Problem::TrailerMismatch(TrailerMismatch::Missing) => "trailer-missing",
        Problem::TrailerMismatch(TrailerMismatch::TooFew) => "trailer-too-few",
        Problem::TrailerMismatch(TrailerMismatch::TooMany) => "trailer-too-many",
        Problem::TrailerMismatch(TrailerMismatch::Form) => "trailer-form",
        Problem::TrailerMismatch(TrailerMismatch::StoredLen { .. }) => "trailer-stored-length",
        Problem::DataSize { .. } => "data-size",
        Problem::BytesAfterEnd { .. } => "bytes-after-end",
        // A look at both ends only says so; a walk names the frame.
        Problem::Lengths { .. } => panic!("{problem:?}"),
        // Only where a sidecar is asked.
        Problem::OtherContent | Problem::OtherMeta => panic!("{problem:?}"),
        Problem::Codec(CodecError::Damaged { .. }) => "payload-damaged",
        Problem::Codec(CodecError::WrongLength { .. }) => "payload-length",
        Problem::Codec(CodecError::TrailingBytes { .. }) => "payload-trailing",
        Problem::Codec(CodecError::CutOff { .. }) => "payload-cut",
        Problem::Codec(CodecError::Compress { .. } | CodecError::TooLarge { .. }) => panic!("{problem:?}"),
    }
}

/// The parts of a good vector's JSON that the reader can tell.
fn good(path: &Path) -> Value {
    let reading = read(path);
    if let Some(damage) = reading.error {
        return format!("refused: {damage}").into();
    }
    let bytes = fs::read(path).unwrap();
    let coding = format!("{:?}", StreamFile::open(path).unwrap().coding()).to_lowercase();
    json!({
        "size": bytes.len(),
        "adler32": adler32(&bytes),
        "meta": reading.head,
        "coding": coding,
        "frames": reading.frames,
    })
}

fn bad(path: &Path) -> Value {
    let reading = read(path);
    let error = reading.error.map(|Damage { frame, at, disk, problem }| {
        let disk = disk.map(|disk| [disk.start, disk.end]);
        json!({ "code": code(&problem), "at": at, "frame": frame, "disk": disk })
    });
    json!({ "error": error, "frames": reading.frames })
}

fn parsed(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The names that the index lists for a folder.
fn listed(folder_name: &str) -> Vec<String> {
    let index = parsed(&folder().join("index.json"));
    let names: Vec<String> = serde_json::from_value(index[folder_name].clone()).unwrap();
    assert!(!names.is_empty());
    names
}

/// Holds each vector of a folder against its JSON, and shows all differences at once.
fn run(folder_name: &str, reading: impl Fn(&Path) -> Value) {
    let mut wrong = Vec::new();
    for name in listed(folder_name) {
        let path = folder().join(folder_name).join(format!("{name}.data"));
        let want = parsed(&path.with_extension("json"));
        assert_eq!(want["result"], folder_name, "{name}");
        let found = reading(&path);
        let Some(parts) = found.as_object() else {
            wrong.push(format!("{name}: {found}"));
            continue;
        };
        for (key, part) in parts.iter().filter(|(key, part)| want.get(*key) != Some(*part)) {
            wrong.push(format!("{name}: {key} {part}\n    must be {}", want[key]));
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn good_streams_are_read_as_they_were_made() {
    run("good", good);
}

#[test]
fn bad_streams_are_refused_for_the_right_reason() {
    run("bad", bad);
}

#[test]
fn the_index_lists_every_file() {
    for folder_name in ["good", "bad"] {
        let names = listed(folder_name);
        let want: BTreeSet<String> =
            names.iter().flat_map(|name| [format!("{name}.data"), format!("{name}.json")]).collect();
        assert_eq!(want.len(), 2 * names.len(), "a name twice");
        let there: BTreeSet<String> = fs::read_dir(folder().join(folder_name))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(there, want, "{folder_name}");
    }
}

/// Every reason that a reader can have is tried by some vector.
#[test]
fn the_bad_vectors_show_every_kind_of_damage() {
    let codes: BTreeSet<String> = listed("bad")
        .iter()
        .map(|name| parsed(&folder().join("bad").join(format!("{name}.json"))))
        .map(|json| json["error"]["code"].as_str().unwrap().to_owned())
        .collect();
    let spec = fs::read_to_string(folder().join("../1-stream.md")).unwrap();
    let (_, table) = spec.split_once("| code |").unwrap();
    let named: BTreeSet<String> = table
        .lines()
        .skip(2)
        .map_while(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(code, _)| code.to_owned())
        .collect();
    assert_eq!(codes, named, "vectors against the table of chapter 1");
}

/// Pieces are what a reader works with; they make up their frame.
#[test]
fn pieces_make_up_their_frames() {
    for name in listed("good") {
        let stream = StreamFile::open(&folder().join("good").join(format!("{name}.data"))).unwrap();
        for frame in stream.frames().map(Result::unwrap).filter(|f| f.header.kind == FrameKind::Data) {
            let pieces: Vec<Piece> = frame.pieces().collect();
            let (first, last) = (&pieces[0], &pieces[pieces.len() - 1]);
            assert_eq!((first.disk.start..last.disk.end, first.stored_at), (frame.disk(), frame.stored_at));
            for pair in pieces.windows(2) {
                assert_eq!(pair[0].disk.end, pair[1].disk.start, "{name}");
                assert_eq!(pair[0].stored_at + pair[0].stored_len, pair[1].stored_at, "{name}");
            }
        }
    }
}

/// The scripts beside the vectors: they were made by the one, and the grammar agrees with them by the other.
#[test]
fn the_vectors_are_what_their_script_makes_and_the_grammar_reads() {
    for (script, argument) in [("vectors/make.py", Some("--check")), ("check_grammar.py", None)] {
        let script = folder().join("..").join(script);
        let done = Command::new("/usr/bin/python3").arg("-B").arg(&script).args(argument).output().unwrap();
        let said =
            String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{}:\n{said}", script.display());
    }
}
