//! Random chains, and frames of any size: written again and put together they are the disk that was written.

use super::set_up::{converted, digests, disk_at, flip, point};
use crate::chains::{Form, Link, content, write_chain};
use random::Random;
use std::num::NonZeroUsize;
use std::path::Path;
use vmstream::chain::{BackupSet, DiskContent, PointId, StreamEntry};
use vmstream::convert::{Compression, ConvertOptions, Shape, convert};
use vmstream::sidecar::{Sidecar, Tables, Value as Granule};

/// Where the sidecars of `vda` know the disk's content at a point: the beginning of each granule. All of it must be so.
fn known(dir: &Path, at: PointId, disk: &[u8]) -> Vec<u64> {
    let set = BackupSet::open(dir).unwrap();
    let DiskContent::Streams(entries) = set.content(&"vda".parse().unwrap(), at).unwrap() else { panic!() };
    let open = |entry: &&StreamEntry| Some(Sidecar::open(entry.sidecar.as_ref()?).unwrap());
    let sidecars: Vec<_> = entries.iter().map(open).collect();
    sidecars.iter().flatten().for_each(|sidecar| sidecar.check().unwrap());
    let newest = sidecars.len() - 1;
    let mut found = Vec::new();
    Tables::new(sidecars)
        .window(&(0..disk.len() as u64), |layer, known| {
            let Some((granules, values)) = known.filter(|_| layer == newest) else { return };
            for (number, value) in values.iter().enumerate() {
                let range = granules.range(number as u64);
                let sum = crc32fast::hash(&disk[range.start as usize..range.end as usize]);
                match value {
                    Granule::Known(known) => assert_eq!(*known, sum, "{at}, granule {number}"),
                    Granule::Unknown => continue,
                }
                found.push(range.start);
            }
        })
        .unwrap();
    found
}

/// A random chain: disks that grow, shrink, come late, and fulls in mid-chain.
fn random_links(random: &mut Random) -> Vec<Link> {
    let mut size = 70_001;
    let late = random.below(4) == 0;
    (0..1 + random.below(6))
        .map(|number| {
            if late && number == 0 {
                return Link { size, alone: true, frames: Vec::new() };
            }
            if random.below(4) == 0 {
                size = 1 + random.below(200_000);
            }
            let alone = number == 0 || late && number == 1 || random.below(5) == 0;
            let (mut frames, mut at) = (Vec::new(), 0);
            while at < size {
                let end = size.min(at + 1 + random.below(40_000));
                match random.below(4) {
                    0 => frames.push((at..end, None)),
                    1 | 2 => frames.push((at..end, Some(content(random, (end - at) as usize)))),
                    // A full in mid-chain names all that is zero.
                    _ if alone && number > 0 => frames.push((at..end, None)),
                    _ => {}
                }
                at = end;
            }
            if frames.is_empty() {
                frames.push((0..1, Some(vec![7])));
            }
            Link { size, alone, frames }
        })
        .collect()
}

#[test]
fn any_chain_can_be_written_again_and_put_together() {
    let mut random = Random::seeded("CONVERT_SEED", 0x5eed_c0de_0001);
    for round in 0..40 {
        let dir = tempfile::tempdir().unwrap();
        let links = random_links(&mut random);
        let form = Form {
            compression: [None, Some(1)][random.below(2) as usize],
            frame_len: 1 + random.below(20_000) as usize,
            sidecars: random.below(2) == 0,
        };
        let old = dir.path().join("old");
        write_chain(&old, &links, form);
        let set = BackupSet::open(&old).unwrap();
        let compression = [Compression::None, Compression::Lz4(2)][random.below(2) as usize];
        let frame_len = 1 + random.below(30_000);
        let workers = NonZeroUsize::new(1 + random.below(3) as usize).unwrap();
        let options = ConvertOptions { compression, frame_len, check: true, workers };
        let again = dir.path().join("again");
        convert(&set, Shape::SamePoints, &again, options, &()).unwrap();
        let mut shadow = Vec::new();
        for (number, link) in links.iter().enumerate() {
            link.apply(&mut shadow);
            let at = point(&format!("virtnbdbackup.{number}"));
            if link.alone && link.frames.is_empty() {
                continue;
            }
            assert!(disk_at(&again, "vda", at) == shadow, "round {round}, point {number}");
            let (before, after) = (known(&old, at, &shadow), known(&again, at, &shadow));
            if form.sidecars {
                assert_eq!(after, before, "round {round}, point {number}");
            }
            let full = dir.path().join(format!("full-{number}"));
            convert(&set, Shape::Full(at), &full, options, &()).unwrap();
            assert!(
                disk_at(&full, "vda", point("virtnbdbackup.0")) == shadow,
                "round {round}, full {number}"
            );
            assert_eq!(digests(&full).len(), 1);
            // What nothing told of the disk, the new full cannot tell.
            assert_eq!(
                known(&full, point("virtnbdbackup.0"), &shadow),
                before,
                "round {round}, full {number}"
            );
        }
    }
}

/// The disk is put together in windows of 32 MiB; each byte of a stream belongs to one of them.
#[test]
fn frames_may_cross_every_window() {
    let mut random = Random::seeded("CONVERT_SEED", 0x5eed_c0de_0002);
    const MIB: u64 = 1 << 20;
    let mut content = |range: std::ops::Range<u64>| {
        let len = (range.end - range.start) as usize;
        let fill = 1 + random.below(250) as u8;
        (range, Some((0..len).map(|at| fill ^ (at / 7000) as u8).collect::<Vec<u8>>()))
    };
    let link = |mib: u64, alone, frames| Link { size: mib * MIB, alone, frames };
    let links = [
        link(
            100,
            true,
            vec![content(MIB..70 * MIB), (70 * MIB..95 * MIB, None), content(95 * MIB..99 * MIB)],
        ),
        link(
            100,
            false,
            vec![content(30 * MIB..33 * MIB), content(40 * MIB..65 * MIB), content(96 * MIB..98 * MIB)],
        ),
        // What lay behind 80 MiB is gone, also when the disk grows again.
        link(80, false, vec![content(31 * MIB..34 * MIB), content(63 * MIB..65 * MIB)]),
        link(120, false, vec![content(64 * MIB - 4096..64 * MIB + 4096), content(119 * MIB..120 * MIB)]),
    ];
    for (compression, frame_len) in [(None, 5 * MIB), (Some(1), 9 * MIB), (Some(1), 32 * MIB - 1)] {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("old");
        write_chain(&old, &links, Form { compression, frame_len: frame_len as usize, sidecars: false });
        let mut shadow = Vec::new();
        for (number, link) in links.iter().enumerate() {
            link.apply(&mut shadow);
            let new = dir.path().join(format!("full-{number}"));
            let at = Shape::Full(point(&format!("virtnbdbackup.{number}")));
            converted(&old, at, &new, Compression::Lz4(1)).unwrap();
            assert!(
                disk_at(&new, "vda", point("virtnbdbackup.0")) == shadow,
                "{compression:?}, {frame_len}, {number}"
            );
            std::fs::remove_dir_all(&new).unwrap();
        }
        // A byte in what newer streams hide, and one behind the end of the smaller disk.
        let full = old.join("vda.full.data");
        for place in [3, 100] {
            let pristine = std::fs::read(&full).unwrap();
            flip(&full, |len| if place == 3 { len / 3 } else { len - len / 200 - 4000 });
            let failed = converted(
                &old,
                Shape::Full(point("virtnbdbackup.3")),
                &dir.path().join("new"),
                Compression::None,
            );
            assert!(failed.unwrap_err().is_damage(), "{compression:?}, {frame_len}, {place}");
            std::fs::write(&full, pristine).unwrap();
        }
    }
}
