//! Disks that are large in some way: what opening them and reading a little takes does not grow with it.

use crate::made::{Coding, Made, OURS, Stream};
use crate::program::VMSTREAM;
use random::Random;
use std::path::Path;
use std::process::Command;
use vmstream::chain::{BackupSet, CheckpointName, cpt};
use vmstream::disk::{Disk, DiskOptions, Proof};
use vmstream::sidecar::{Head, PlainSums, Recorder, StoredSums, StreamIdentity};
use vmstream::stream::StreamMeta;

/// What `vmstream cat` writes, and the most memory that it had, in KiB.
fn cat(set: &Path, offset: u64, length: u64) -> (Vec<u8>, u64) {
    let (offset, length) = (offset.to_string(), length.to_string());
    let mut command = Command::new("/usr/bin/time");
    command.args(["-q", "-f", "%M", VMSTREAM, "cat"]);
    let done = command.arg(set).args(["--offset", &offset, "--length", &length]).output().unwrap();
    let told = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success(), "{told}");
    (done.stdout, told.lines().last().unwrap().parse().unwrap())
}

const FRAMES: u64 = 1_000_000;
const SPARSE: u64 = 63 << 40;
const STEP: u64 = SPARSE / FRAMES / 4096 * 4096;

fn content_of(frame: u64) -> [u8; 16] {
    (u128::from(frame).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) | 1).to_le_bytes()
}

/// Reads a few of the million frames, with what is around them.
fn sparse_is_right(set: &Path, most_kib: u64) {
    let mut highest = 0;
    for frame in [0, 1, 777_777, FRAMES - 1] {
        let at = frame * STEP;
        let (bytes, kib) = cat(set, at, 4096);
        assert_eq!((&bytes[..16], &bytes[16..]), (&content_of(frame)[..], &[0; 4080][..]), "frame {frame}");
        highest = highest.max(kib);
    }
    println!("{}: {highest} KiB", set.display());
    assert!(highest < most_kib, "{highest} KiB");
}

#[test]
fn a_million_frames_without_sidecar_take_32_bytes_each() {
    let dir = tempfile::tempdir().unwrap();
    let mut stream = Stream::new(0, SPARSE, false, Coding::Plain);
    (0..FRAMES).for_each(|frame| stream.data(frame * STEP, &content_of(frame)));
    Made::new(dir.path(), true).point(stream, Vec::new());
    // 32 MB of index, and what the program takes anyway.
    sparse_is_right(dir.path(), (32 << 20) / 1024 + (24 << 10));
}

#[test]
fn a_million_blocks_of_a_sidecar_take_what_is_read_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let name = CheckpointName::new(0);
    let meta = StreamMeta {
        virtual_size: SPARSE,
        data_size: 0,
        date: String::new(),
        disk_name: "vda".to_owned(),
        disk_format: "qcow2".to_owned(),
        checkpoint_name: name.to_string(),
        compression: None,
        parent_checkpoint: String::new(),
        incremental: false,
        stream_version: 2,
    };
    let path = |end: &str| dir.path().join(format!("vda.full.{end}"));
    let mut recorder = Recorder::create(&path("data"), &path("idx"), meta).unwrap();
    let granules = recorder.granules();
    for frame in 0..FRAMES {
        let (at, content) = (frame * STEP, content_of(frame));
        let sums = (PlainSums::of(at, &content, granules), StoredSums::of(&content));
        recorder.data(at, 16, &content, (&sums.0, &sums.1)).unwrap();
        let rest = if frame + 1 == FRAMES { SPARSE } else { at + STEP };
        recorder.zero_content(at + 16, rest - at - 16).unwrap();
        recorder.zero_frame(at + 16, rest - at - 16).unwrap();
    }
    let (done, writer) = recorder.finish().unwrap();
    let stream = StreamIdentity {
        name: "vda.full.data".to_owned(),
        size: done.size,
        adler32: Some(done.adler32),
        digest: Some(done.digest),
    };
    let head = Head {
        writer: "test".to_owned(),
        stream,
        target: "vda".to_owned(),
        point: name.to_string(),
        parent: None,
        parent_sidecar: None,
        taken_seconds: 0,
        granules,
        disks: None,
        left_out: Vec::new(),
        files: Vec::new(),
    };
    writer.finish(&head).unwrap();
    std::fs::write(path("data.chksum"), done.adler32.to_string()).unwrap();
    std::fs::write(dir.path().join("vm.cpt"), cpt::encode(&[name])).unwrap();
    sparse_is_right(dir.path(), 24 << 10);
}

/// A full and increments, each with a block of its own and one that others have too.
fn chain(dir: &Path, increments: u32) -> Vec<u8> {
    let size = 4 << 20;
    let mut random = Random::from_seed(0x5eed_b0d5_0001);
    let mut shadow = vec![0; size];
    let mut made = Made::new(dir, false);
    for number in 0..=increments {
        let coding = if number % 3 == 0 { Coding::Lz4(OURS) } else { Coding::Plain };
        let mut stream = Stream::new(number, size as u64, number > 0, coding);
        let own = u64::from(number) * 2048 % (size as u64 - 4096);
        let mut places = [own, random.below(size as u64 / 4096) * 4096];
        places.sort_unstable();
        let mut end = 0;
        for at in places.into_iter().filter(|at| *at < size as u64) {
            if at >= end {
                let content = [number.to_le_bytes(), (!number).to_le_bytes()].concat().repeat(256);
                shadow[at as usize..][..2048].copy_from_slice(&content);
                stream.data(at, &content);
                end = at + 2048;
            }
        }
        made.point(stream, Vec::new());
    }
    shadow
}

#[test]
fn a_chain_of_2000_increments_is_read_anywhere() {
    let (short, long) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    chain(short.path(), 20);
    let want = chain(long.path(), 2000);
    let (_, few) = cat(short.path(), 1 << 20, 4096);
    let (bytes, many) = cat(long.path(), 1 << 20, 4096);
    assert!(bytes == want[1 << 20..][..4096]);
    println!("{few} KiB for 20, {many} KiB for 2000");
    // What is known of each stream, and its frames.
    assert!(many < few + 2000 * 8, "{few} KiB for 20, {many} KiB for 2000");
    let set = BackupSet::open(long.path()).unwrap();
    let point = set.newest().unwrap().id;
    let disk = Disk::open(&set, &"vda".parse().unwrap(), point, DiskOptions::default(), &|_| ()).unwrap();
    let mut random = Random::from_seed(0x5eed_b0d5_0002);
    for _ in 0..300 {
        let (at, len) = (random.below(4_000_000) as usize, 1 + random.below(100_000) as usize);
        let mut bytes = vec![0xee; len];
        assert_eq!(disk.read_at(at as u64, &mut bytes).unwrap(), Proof::Unproven);
        assert!(bytes == want[at..at + len], "{at}+{len}");
    }
}
