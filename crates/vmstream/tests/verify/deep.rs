//! A deep look, and the default one: digests of disks, content that is decoded, threads.

use super::set_up::{flip, verify};
use crate::golden::{Golden, build_plain, data_header};
use crate::model::digest;
use crate::program::{text, vmstream};
use serde_json::Value;

#[test]
fn deep_digests_are_those_of_the_images() {
    let golden = Golden::extract();
    let (exit, json) = verify(&golden.lz4(), &["--deep", "."]);
    assert_eq!(exit, 0);
    let digests = json["digests"].as_array().unwrap();
    assert_eq!(digests.len(), 8);
    for found in digests {
        let (point, disk) = (found["point"].as_str().unwrap(), found["disk"].as_str().unwrap());
        let args = ["extract", ".", "--disk", disk, "--until", point, "-o", "-"];
        let image = vmstream(&golden.lz4(), &args).stdout;
        assert_eq!(found["blake3_of_mib_of_64k_blake3"], digest(&image), "{disk} at {point}");
    }
    let (_, plain) = verify(&golden.plain(), &["--deep", "."]);
    // A raw disk is the same at every point; the difference has its own content.
    let told = |disk: &str, point: &str| {
        let all = plain["digests"].as_array().unwrap().iter();
        let mut found = all.filter(|found| found["disk"] == disk && found["point"] == point);
        found.next().unwrap()["blake3_of_mib_of_64k_blake3"].as_str().unwrap().to_owned()
    };
    assert_eq!(told("vdb", "virtnbdbackup.0"), told("vdb", "diff.1795377788"));
    assert_ne!(told("vda", "virtnbdbackup.1"), told("vda", "diff.1795377788"));
    let (_, copy) = verify(&golden.copy(), &["--deep", "."]);
    assert_eq!(copy["digests"][0]["blake3_of_mib_of_64k_blake3"], told("vda", "diff.1795377788"));
}

#[test]
fn deep_text_says_what_it_proves() {
    let golden = Golden::extract();
    let shown = vmstream(&golden.copy(), &["verify", "--deep", "."]);
    let digest = |disk: &str| {
        let (_, json) = verify(&golden.copy(), &["--deep", "."]);
        let all = json["digests"].as_array().unwrap().clone();
        let found = all.into_iter().find(|found| found["disk"] == disk).unwrap();
        found["blake3_of_mib_of_64k_blake3"].as_str().unwrap().to_owned()
    };
    let want = format!(
        "unproven: vdb.copy.data: a raw image has no checksum: nothing proves it

  copy  vda: good  vdb: unproven

  copy  vda  40.0 MiB
    {}
  copy  vdb  1.00 MiB
    {}

Each of these was put together from its streams, to the last byte. The digest
is the BLAKE3 over one for each MiB of the disk, that over the BLAKE3 of each of
its 64 KiB: equal digests are equal disks. What the guest had at that moment is
written nowhere, so that it is the same is not proven; `vmstream compare` holds
a disk against an image.

.: UNPROVEN, 1 restore point: 1 unproven (1 stream, 512 KiB of content)
",
        digest("vda"),
        digest("vdb")
    );
    assert_eq!((text(&shown.stdout), shown.status.code()), (&want[..], Some(2)));
}

/// What the default look promises is that the stored bytes are as they were written, where anything tells; where nothing
/// does, and at a deep look, that they decode.
#[test]
fn content_is_decoded_where_its_stored_bytes_are_not_proven() {
    let golden = Golden::extract();
    let dir = golden.lz4();
    let name = "vda.inc.virtnbdbackup.1.data";
    let (path, sum_path) = (dir.join(name), dir.join(format!("{name}.chksum")));
    let stream = vmstream::stream::StreamFile::open(&path).unwrap();
    let data = |frame: &vmstream::stream::Frame| frame.header.kind == vmstream::stream::FrameKind::Data;
    let frame = stream.frames().map(Result::unwrap).find(data).unwrap();
    let at = frame.stored_at as usize + 100;
    let named = |args: &[&str]| {
        let (exit, json) = verify(&dir, args);
        let findings = json["findings"].as_array().unwrap().clone();
        let damage: Vec<_> = findings.iter().filter(|finding| finding["level"] == "damage").collect();
        let frames: Vec<_> = damage.iter().map(|finding| finding["frame"].clone()).collect();
        (exit, frames)
    };
    // Changed on its way: the bytes are not those that were summed. The checksum tells that, the frame tells where.
    flip(&path, at);
    let (exit, frames) = named(&["."]);
    assert_eq!((exit, frames.contains(&Value::from(frame.index))), (1, true), "{frames:?}");
    // Written like that, by a faulty host.
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&sum_path, vmstream::stream::checksum::adler32(&bytes).to_string()).unwrap();
    assert_eq!(named(&["."]), (0, vec![]));
    assert_eq!(named(&["--deep", "."]), (1, vec![Value::from(frame.index)]));
    for unusable in [Some("none"), None] {
        match unusable {
            Some(text) => std::fs::write(&sum_path, text).unwrap(),
            None => std::fs::remove_file(&sum_path).unwrap(),
        }
        let (exit, frames) = named(&["."]);
        assert_eq!((exit, frames.contains(&Value::from(frame.index))), (1, true), "{frames:?}");
    }
}

#[test]
fn deep_digests_stop_where_a_disk_is_lost() {
    let golden = Golden::extract();
    let path = golden.lz4().join("vda.inc.virtnbdbackup.2.data");
    let middle = std::fs::read(&path).unwrap().len() / 2;
    flip(&path, middle);
    let (exit, json) = verify(&golden.lz4(), &["--deep", "."]);
    assert_eq!(exit, 1);
    let digests = json["digests"].as_array().unwrap().iter();
    let of = |disk: &str| digests.clone().filter(|found| found["disk"] == disk).count();
    assert_eq!((of("vda"), of("vdb")), (2, 4));
}

#[test]
fn one_big_stream_is_the_same_on_any_number_of_threads() {
    let golden = Golden::extract();
    let dir = golden.root().join("big");
    std::fs::create_dir(&dir).unwrap();
    let (frame, count) = (3 << 20, 30u64);
    let mut frames = Vec::new();
    for number in 0..count {
        frames.extend_from_slice(&data_header(number * frame, frame));
        frames.extend((0..frame).map(|at| (at * 31 / 7 + number) as u8));
        frames.extend_from_slice(b"\r\n");
    }
    let path = dir.join("vda.copy.data");
    let mut bytes = build_plain(count * frame, count * frame, &frames);
    std::fs::write(&path, &bytes).unwrap();
    let sum = vmstream::stream::checksum::adler32(&bytes);
    std::fs::write(dir.join("vda.copy.data.chksum"), sum.to_string()).unwrap();
    let reports = || ["1", "2", "5"].map(|workers| verify(&dir, &["--workers", workers, "vda.copy.data"]));
    for (exit, json) in reports() {
        assert_eq!((exit, &json["stream"]["proof"]), (0, &"checksum".into()), "{json}");
    }
    // One byte of content, and a frame's line end further on, behind which nothing can be walked.
    let at = bytes.len() / 3;
    bytes[at] ^= 1;
    let header = data_header(20 * frame, frame);
    let place = bytes.windows(40).position(|window| window == header).unwrap();
    bytes[place - 1] = b'x';
    std::fs::write(&path, &bytes).unwrap();
    let [one, two, five] = reports();
    assert_eq!((one.0, one.1["findings"].as_array().unwrap().len()), (1, 2), "{}", one.1);
    assert_eq!(one, two);
    assert_eq!(one, five);
}
