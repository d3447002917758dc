//! Chains of one disk, made by our writer without a VM, each with what the disk holds at every point.

use random::Random;
use std::fs::{File, FileTimes};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};
use vmstream::chain::{CheckpointName, cpt};
use vmstream::sidecar::{
    Block, Digest, Granules, Head, PlainSums, SidecarWriter, StoredSums, StreamIdentity,
};
use vmstream::stream::writer::{FinishedStream, StreamWriter};
use vmstream::stream::{Compression, FrameKind, StreamFile, StreamMeta, codec};

/// Seconds of the first point's files; each later point is a minute newer.
const FIRST_TIME: u64 = 1_795_000_000;

/// Content of a kind that a guest's disk has: noise, something that compresses, or zeros in between.
pub(crate) fn content(random: &mut Random, len: usize) -> Vec<u8> {
    let fill = 1 + random.below(250) as u8;
    match random.below(4) {
        0 => random.bytes(len),
        1 => vec![fill; len],
        2 => (0..len).map(|at| if at % 9000 < 4500 { fill } else { 0 }).collect(),
        _ => {
            (0..len).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[at % 3] & fill).collect()
        }
    }
}

/// What one run stored: frames in disk order, those without content are zero frames.
pub(crate) struct Link {
    pub(crate) size: u64,
    pub(crate) alone: bool,
    pub(crate) frames: Vec<(Range<u64>, Option<Vec<u8>>)>,
}

impl Link {
    /// Does to a disk what a restore of this stream does.
    pub(crate) fn apply(&self, disk: &mut Vec<u8>) {
        if self.alone && self.frames.is_empty() {
            return;
        }
        disk.resize(self.size as usize, 0);
        for (range, content) in &self.frames {
            let place = &mut disk[range.start as usize..range.end as usize];
            match content {
                Some(content) => place.copy_from_slice(content),
                None if self.alone => place.fill(0),
                None => {}
            }
        }
    }
}

/// How the streams are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) compression: Option<u32>,
    pub(crate) frame_len: usize,
    pub(crate) sidecars: bool,
}

/// Writes a set of one disk `vda`: full, increments, and everything beside them.
pub(crate) fn write_chain(dir: &Path, links: &[Link], form: Form) {
    std::fs::create_dir_all(dir.join("checkpoints")).unwrap();
    let names: Vec<CheckpointName> = (0..links.len() as u32).map(CheckpointName::new).collect();
    let mut parent = None;
    for (link, name) in links.iter().zip(&names) {
        let time = UNIX_EPOCH + Duration::from_secs(FIRST_TIME + 60 * u64::from(name.number()));
        let file =
            if name.number() == 0 { "vda.full.data".to_owned() } else { format!("vda.inc.{name}.data") };
        let done = write_stream(&dir.join(&file), link, *name, form);
        done.file.set_times(FileTimes::new().set_modified(time)).unwrap();
        parent = form
            .sidecars
            .then(|| write_sidecar(&dir.join(&file), link, *name, (&done, parent, form)))
            .flatten();
        let small = [
            (format!("{file}.chksum"), done.adler32.to_string()),
            (format!("vmconfig.{name}.xml"), DOMAIN.to_owned()),
            (
                format!("checkpoints/{name}.xml"),
                format!("<domaincheckpoint><name>{name}</name></domaincheckpoint>"),
            ),
        ];
        for (file, content) in small {
            std::fs::write(dir.join(&file), content).unwrap();
            File::open(dir.join(&file)).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
        }
    }
    std::fs::write(dir.join("made.cpt"), cpt::encode(&names)).unwrap();
}

fn write_stream(path: &Path, link: &Link, name: CheckpointName, form: Form) -> FinishedStream {
    let parent = name.number().checked_sub(1).filter(|_| !link.alone).map(CheckpointName::new);
    let meta = StreamMeta {
        virtual_size: link.size,
        data_size: 0,
        date: "2026-11-22T20:02:30.768021".to_owned(),
        disk_name: "vda".to_owned(),
        disk_format: "qcow2".to_owned(),
        checkpoint_name: name.to_string(),
        compression: form.compression.map(Compression::Lz4),
        parent_checkpoint: parent.map(|parent| parent.to_string()).unwrap_or_default(),
        incremental: !link.alone,
        stream_version: 2,
    };
    let mut writer = StreamWriter::create(path, meta).unwrap();
    let mut stored = Vec::new();
    for (range, content) in &link.frames {
        let Some(content) = content else {
            writer.zero(range.start, range.end - range.start).unwrap();
            continue;
        };
        let mut at = range.start;
        for part in content.chunks(form.frame_len) {
            stored.clear();
            match form.compression {
                Some(level) => drop(codec::compress(part, Compression::Lz4(level), &mut stored).unwrap()),
                None => stored.extend_from_slice(part),
            }
            writer.data(at, part.len() as u64, &stored).unwrap();
            at += part.len() as u64;
        }
    }
    writer.finish().unwrap()
}

/// Writes the sidecar that belongs to a stream, as the engine does: every granule of a stream that stands alone, of an
/// increment those that it touches. A placeholder has none.
fn write_sidecar(
    path: &Path,
    link: &Link,
    name: CheckpointName,
    (done, parent, form): (&FinishedStream, Option<(Digest, Granules)>, Form),
) -> Option<(Digest, Granules)> {
    if link.alone && link.frames.is_empty() {
        return None;
    }
    let granules = Granules::of_disk(link.size);
    let stream = StreamFile::open(path).unwrap();
    let sidecar = path.with_extension("idx");
    let mut writer = SidecarWriter::create(&sidecar, granules).unwrap();
    let (mut stored, mut plain) = (Vec::new(), Vec::new());
    let frames = stream.frames().map(Result::unwrap).filter(|frame| frame.header.kind == FrameKind::Data);
    for piece in frames.flat_map(|frame| frame.pieces().collect::<Vec<_>>()) {
        stream.read_piece(&piece, &mut stored, &mut plain).unwrap();
        let sums = PlainSums::of(piece.disk.start, &plain, granules);
        let bytes = if form.compression.is_some() { &stored } else { &plain };
        let (disk, place) = ((piece.disk.start, plain.len() as u64), (piece.stored_at, piece.stored_len));
        writer.block(&Block::new(disk, place, &sums, &StoredSums::of(bytes)).unwrap()).unwrap();
    }
    let mut told = 0;
    for (range, content) in &link.frames {
        if link.alone && told < range.start {
            writer.zero(told, range.start - told).unwrap();
        }
        match content {
            Some(content) => {
                let sums = PlainSums::of(range.start, content, granules);
                writer.data(range.start, content.len() as u64, &sums).unwrap();
            }
            None if link.alone => writer.zero(range.start, range.end - range.start).unwrap(),
            None => {}
        }
        told = range.end;
    }
    if link.alone && told < link.size {
        writer.zero(told, link.size - told).unwrap();
    }
    let file = path.file_name().unwrap().to_str().unwrap().to_owned();
    let identity = StreamIdentity {
        name: file,
        size: done.size,
        adler32: Some(done.adler32),
        digest: Some(done.digest),
    };
    let linked = parent.filter(|(_, parent)| !link.alone && *parent == granules);
    let head = Head {
        writer: "test".to_owned(),
        stream: identity,
        target: "vda".to_owned(),
        point: name.to_string(),
        parent: (!link.alone).then(|| stream.meta().parent_checkpoint.clone()),
        parent_sidecar: linked.map(|(digest, _)| digest),
        taken_seconds: FIRST_TIME,
        granules,
        disks: None,
        left_out: Vec::new(),
        files: Vec::new(),
    };
    let done = writer.finish(&head).unwrap();
    Some((done.digest, granules))
}

/// A definition that restore programs find the disk in.
const DOMAIN: &str = "<domain type='qemu'>
  <name>made</name>
  <memory unit='KiB'>65536</memory>
  <os><type arch='x86_64'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/images/vda.qcow2'/>
      <target dev='vda' bus='virtio'/>
    </disk>
  </devices>
</domain>
";
