//! What the codec and the meta text produce, read by the old restore program.

use crate::golden::Golden;
use std::path::Path;
use std::process::Command;
use vmstream::stream::{Compression, FrameHeader, FrameKind, StreamFile, TrailerEntry, codec, trailer};

/// Writes a stream again: compressed in frames of at most 2 MiB, its meta text padded.
fn recode(path: &Path) {
    let stream = StreamFile::open(path).unwrap();
    let (mut frames, mut entries) = (Vec::new(), Vec::new());
    let (mut stored, mut plain) = (Vec::new(), Vec::new());
    for frame in stream.frames().map(Result::unwrap) {
        if frame.header.kind == FrameKind::Zero {
            frames.extend_from_slice(&frame.header.encode());
            continue;
        }
        for piece in frame.pieces() {
            stream.read_piece(&piece, &mut stored, &mut plain).unwrap();
            for (number, part) in plain.chunks(2 << 20).enumerate() {
                let start = piece.disk.start + ((number as u64) << 21);
                let header = FrameHeader { kind: FrameKind::Data, start, len: part.len() as u64 };
                frames.extend_from_slice(&header.encode());
                entries.push(TrailerEntry::Plain(
                    codec::compress(part, Compression::Lz4(1), &mut frames).unwrap() as u64,
                ));
                frames.extend_from_slice(b"\r\n");
            }
        }
    }
    let mut meta = stream.meta().clone();
    meta.compression = Some(Compression::Lz4(1));
    let json = meta.to_padded_json(meta.to_json().len() + 20).unwrap();
    let header = |kind, len: usize| FrameHeader { kind, start: 0, len: len as u64 }.encode();
    let list = trailer::encode(&entries);
    let parts: [&[u8]; 8] = [
        &header(FrameKind::Meta, json.len()),
        &json,
        b"\r\n",
        &frames,
        &header(FrameKind::Stop, 0),
        &list,
        b"\r\n",
        &header(FrameKind::Comp, list.len()),
    ];
    let modified = std::fs::metadata(path).unwrap().modified().unwrap();
    std::fs::write(path, parts.concat()).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

fn run(command: &mut Command) -> String {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn virtnbdrestore_reads_our_lz4_and_our_padded_meta() {
    let golden = Golden::extract();
    for name in ["vda.full.data", "vda.inc.virtnbdbackup.1.data", "vda.diff.1795377788.data"] {
        recode(&golden.plain().join(name));
        std::fs::remove_file(golden.plain().join(format!("{name}.chksum"))).unwrap();
    }
    let out = golden.root().join("restored");
    std::fs::create_dir(&out).unwrap();
    // The test driver stands in for a libvirt daemon: only the configuration would be handed to it.
    run(Command::new("virtnbdrestore")
        .args(["-U", "test:///default", "-n", "-d", "vda", "-L"])
        .arg(golden.root().join("restore.log"))
        .arg("-i")
        .arg(golden.plain())
        .arg("-o")
        .arg(&out));
    let raw = out.join("vda.raw");
    run(Command::new("qemu-img").args(["convert", "-O", "raw"]).arg(out.join("vda.qcow2")).arg(&raw));
    let found = run(Command::new("sha256sum").arg(&raw));
    let record = std::fs::read_to_string(golden.root().join("plain/sha256.live")).unwrap();
    let want = record.lines().find_map(|line| line.strip_prefix("diff vda ")).unwrap();
    assert_eq!(found.split(' ').next(), Some(want));
}
