//! A server of our own that shakes hands properly and then answers as a test tells it.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use tempfile::TempDir;
use vmhost::nbd::{Connection, Export, NbdError, ReplyFlaw, StatusExtent};

use super::LONG;

const SIZE: u64 = 1 << 20;
/// Reply chunk types of the NBD protocol.
const NONE: u16 = 0;
const OFFSET_DATA: u16 = 1;
const BLOCK_STATUS: u16 = 5;

type Chunks = Vec<(u16, Vec<u8>)>;

/// Answers every request with the chunks; contexts get the ids 0, 1, … in the order asked for.
fn serve(structured: bool, chunks: Chunks) -> (TempDir, Export) {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // Ends with an error when the client hangs up.
        let _ = shake_hands(&mut stream, structured).and_then(|()| answer_all(&mut stream, &chunks));
    });
    (dir, Export { socket, name: "vda".to_owned() })
}

fn take<const N: usize>(stream: &mut UnixStream) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn shake_hands(stream: &mut UnixStream, structured: bool) -> std::io::Result<()> {
    stream.write_all(b"NBDMAGICIHAVEOPT\x00\x03")?;
    take::<4>(stream)?;
    loop {
        take::<8>(stream)?;
        let option = u32::from_be_bytes(take(stream)?);
        let mut data = vec![0; u32::from_be_bytes(take(stream)?) as usize];
        stream.read_exact(&mut data)?;
        let mut reply = |kind: u32, data: &[u8]| {
            let head = [option, kind, data.len() as u32].map(u32::to_be_bytes).concat();
            stream.write_all(&[&0x0003_e889_0455_65a9_u64.to_be_bytes(), &head[..], data].concat())
        };
        match option {
            7 => {
                reply(3, &[&[0, 0][..], &SIZE.to_be_bytes(), &[0, 3]].concat())?;
                return reply(1, &[]);
            }
            8 if structured => reply(1, &[])?,
            10 => {
                for (id, name) in contexts_asked(&data).into_iter().enumerate() {
                    reply(4, &[&(id as u32).to_be_bytes()[..], &name].concat())?;
                }
                reply(1, &[])?;
            }
            _ => reply(0x8000_0001, &[])?,
        }
    }
}

/// The names in a request to set meta contexts: export name, count, then each with its length before it.
fn contexts_asked(data: &[u8]) -> Vec<Vec<u8>> {
    let word = |at: usize| u32::from_be_bytes(data[at..at + 4].try_into().unwrap()) as usize;
    let mut at = 4 + word(0);
    let count = word(at);
    at += 4;
    (0..count)
        .map(|_| {
            let name = data[at + 4..at + 4 + word(at)].to_vec();
            at += 4 + name.len();
            name
        })
        .collect()
}

fn answer_all(stream: &mut UnixStream, chunks: &Chunks) -> std::io::Result<()> {
    loop {
        let request = take::<28>(stream)?;
        for (i, (kind, payload)) in chunks.iter().enumerate() {
            let last = u16::from(i + 1 == chunks.len());
            let head = [0x668e, 0x33ef, last, *kind].map(u16::to_be_bytes).concat();
            let len = (payload.len() as u32).to_be_bytes();
            stream.write_all(&[&head[..], &request[8..16], &len, payload].concat())?;
        }
    }
}

/// One context's block status chunk: (length, flags) pairs.
fn status(id: u32, extents: &[(u32, u32)]) -> (u16, Vec<u8>) {
    let words = extents.iter().flat_map(|(len, flags)| [*len, *flags]);
    (BLOCK_STATUS, std::iter::once(id).chain(words).flat_map(u32::to_be_bytes).collect())
}

type Heard = Vec<(String, Vec<StatusExtent>)>;

fn ask(chunks: Chunks) -> Result<Heard, NbdError> {
    let (_dir, export) = serve(true, chunks);
    let mut conn = Connection::open(&export, &["one", "two"]).unwrap();
    assert_eq!(conn.size(), SIZE);
    let mut heard = Vec::new();
    let result = conn.block_status(0, 4096, LONG, &mut |context, _, extents| {
        heard.push((context.to_owned(), extents.to_vec()));
    });
    assert!(result.is_ok() || heard.is_empty(), "an error comes before the sink hears anything");
    result.map(|()| heard)
}

#[test]
fn answers_without_progress_are_errors() {
    let good = |id| status(id, &[(512, 3)]);
    let cases = [
        ("one context only", vec![good(0)], "two", ReplyFlaw::Unanswered),
        ("nothing", vec![(NONE, vec![])], "one", ReplyFlaw::Unanswered),
        ("unknown context", vec![good(0), good(9)], "two", ReplyFlaw::Unanswered),
        ("twice", vec![good(0), good(1), good(0)], "one", ReplyFlaw::Twice),
    ];
    for (name, chunks, wanted, flaw) in cases {
        match ask(chunks) {
            Err(NbdError::BadStatus { context, flaw: got, .. }) => {
                assert_eq!((context.as_str(), got), (wanted, flaw), "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

fn extent(len: u32, flags: u32) -> StatusExtent {
    StatusExtent { len, flags }
}

fn heard(each: [(&str, Vec<StatusExtent>); 2]) -> Heard {
    each.map(|(context, extents)| (context.to_owned(), extents)).into()
}

/// Older versions of libnbd hand such an extent on, and we refuse it; newer ones (1.22) cut the answer before it.
#[test]
fn an_extent_of_no_length_is_never_heard() {
    match ask(vec![status(0, &[(512, 3)]), status(1, &[(512, 0), (0, 3)])]) {
        Err(NbdError::BadStatus { context, flaw: ReplyFlaw::ZeroLength, .. }) => assert_eq!(context, "two"),
        Ok(whole) => {
            assert_eq!(whole, heard([("one", vec![extent(512, 3)]), ("two", vec![extent(512, 0)])]));
        }
        other => panic!("{other:?}"),
    }
}

/// Newer versions of libnbd (1.22) fail such answers.
#[test]
fn an_extent_that_cannot_be_arrives_as_it_is_or_not_at_all() {
    for (name, odd) in [("shorter than a block", (4, 3)), ("past the end of the export", (1 << 30, 0))] {
        match ask(vec![status(1, &[(512, 1)]), status(0, &[odd])]) {
            Err(NbdError::BlockStatus { .. }) => {}
            Ok(whole) => {
                let want = [("one", vec![extent(odd.0, odd.1)]), ("two", vec![extent(512, 1)])];
                assert_eq!(whole, heard(want), "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn broken_chunks_fail_the_request() {
    let cases = [
        ("no extent", vec![status(0, &[])]),
        ("torn", vec![(BLOCK_STATUS, vec![0; 16])]),
        ("data", vec![(OFFSET_DATA, vec![0; 520])]),
        ("unknown type", vec![(77, vec![])]),
    ];
    for (name, chunks) in cases {
        assert!(matches!(ask(chunks), Err(NbdError::BlockStatus { .. })), "{name}");
    }
}

#[test]
fn short_and_long_answers_arrive_as_they_are() {
    let rest = SIZE as u32 - 512;
    let answer = ask(vec![status(1, &[(512, 1), (rest, 0)]), status(0, &[(512, 3)])]).unwrap();
    let want = [("one", vec![extent(512, 3)]), ("two", vec![extent(512, 1), extent(rest, 0)])];
    assert_eq!(answer, heard(want));
}

#[test]
fn a_read_reply_that_leaves_bytes_out_is_an_error() {
    let data = |offset: u64, len| (OFFSET_DATA, [&offset.to_be_bytes()[..], &vec![7; len]].concat());
    let cases = [
        ("short", vec![data(0, 512)], false),
        ("nothing", vec![(NONE, vec![])], false),
        ("past the buffer", vec![data(0, 4097)], false),
        ("elsewhere", vec![data(8192, 4096)], false),
        ("two halves", vec![data(2048, 2048), data(0, 2048)], true),
    ];
    for (name, chunks, good) in cases {
        let (_dir, export) = serve(true, chunks);
        let mut conn = Connection::open(&export, &[]).unwrap();
        conn.start_read(vec![0xEE; 4096], 0, 0).unwrap();
        let done = conn.wait(LONG).unwrap();
        assert_eq!(done[0].result.is_ok(), good, "{name}: {:?}", done[0].result);
        assert_eq!(done[0].buf.len(), 4096, "{name}");
        assert!(!good || done[0].buf == [7; 4096], "{name}");
    }
}

#[test]
fn contexts_need_structured_replies() {
    let (_dir, export) = serve(false, vec![]);
    let error = Connection::open(&export, &["one"]).unwrap_err();
    assert!(matches!(error, NbdError::NoStructuredReplies { .. }), "{error:?}");
}
