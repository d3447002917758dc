//! A backup set as `vmbackup` writes it, sidecars and all, small enough to damage every byte of it.

use random::Random;
use std::fs;
use std::path::{Path, PathBuf};
use vmstream::chain::{CheckpointName, cpt};
use vmstream::sidecar::{
    Digest, FileIdentity, Granules, Head, LeftOut, PlainSums, Recorder, Sidecar, SidecarWriter, StoredSums,
    StreamIdentity,
};
use vmstream::stream::{Compression, StreamMeta, codec};

pub(crate) const GRANULE: usize = 64 << 10;

/// Bytes of `vda`: some granules and a bit.
pub(crate) const DISK: usize = 5 * GRANULE + 1536;

/// A chain of one qcow2 disk, `vda`, and a raw one, `vdb`.
pub(crate) struct Ours {
    dir: tempfile::TempDir,
    level: Option<u32>,
    /// Something that the domain's files say, which those of another VM or time do not.
    pub(crate) tag: &'static str,
    /// What `vda` holds at each point.
    pub(crate) disks: Vec<Vec<u8>>,
    /// What `vdb` holds.
    pub(crate) raw: Vec<u8>,
}

/// A part of a disk that an increment is about.
pub(crate) enum Change {
    /// Content, in the stream and in the sidecar.
    Data(std::ops::Range<usize>),
    /// Content that the sidecar knows and the stream lacks: what a faulty writer makes.
    Forgotten(std::ops::Range<usize>),
}

impl Ours {
    /// A full and two increments.
    pub(crate) fn new(level: Option<u32>) -> Self {
        let mut ours = Self::empty(level);
        let mut disk = vec![0; DISK];
        fill(&mut disk[..600], 1);
        fill(&mut disk[DISK - 700..], 2);
        ours.add(disk.clone(), &[Change::Data(0..600), Change::Data(DISK - 700..DISK)]);
        fill(&mut disk[300..500], 3);
        ours.add(disk.clone(), &[Change::Data(0..GRANULE)]);
        fill(&mut disk[2 * GRANULE..2 * GRANULE + 100], 4);
        ours.add(disk.clone(), &[Change::Data(2 * GRANULE..3 * GRANULE)]);
        ours
    }

    /// A folder without points.
    pub(crate) fn empty(level: Option<u32>) -> Self {
        let mut raw = vec![0; GRANULE + 512];
        fill(&mut raw[500..600], 9);
        Self { dir: tempfile::tempdir().unwrap(), level, tag: "", disks: Vec::new(), raw }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// Every file of the set.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let folders = [self.dir().to_owned(), self.path("checkpoints")];
        let entries = folders.iter().flat_map(|dir| fs::read_dir(dir).unwrap());
        let mut files: Vec<_> =
            entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
        files.sort();
        files
    }

    /// Adds the next point, at which `vda` holds `disk`.
    pub(crate) fn add(&mut self, disk: Vec<u8>, changes: &[Change]) {
        let number = self.disks.len() as u32;
        let ident = format!("virtnbdbackup.{number}");
        let name = if number == 0 { "vda.full".to_owned() } else { format!("vda.inc.{ident}") };
        let (file, sidecar) = (format!("{name}.data"), format!("{name}.idx"));
        let mut recorder =
            Recorder::create(&self.path(&file), &self.path(&sidecar), self.meta(number)).unwrap();
        let mut at = 0;
        for change in changes {
            let (Change::Data(range) | Change::Forgotten(range)) = change;
            // A full tells of every byte.
            if number == 0 && range.start > at {
                recorder.zero_content(at as u64, (range.start - at) as u64).unwrap();
                recorder.zero_frame(at as u64, (range.start - at) as u64).unwrap();
            }
            at = range.end;
            let (start, plain) = (range.start as u64, &disk[range.clone()]);
            match change {
                Change::Forgotten(_) => recorder.zero_content(start, plain.len() as u64).unwrap(),
                Change::Data(_) => {
                    let stored = self.stored(plain);
                    let sums = (PlainSums::of(start, plain, recorder.granules()), StoredSums::of(&stored));
                    recorder.data(start, plain.len() as u64, &stored, (&sums.0, &sums.1)).unwrap();
                }
            }
        }
        let granules = recorder.granules();
        let (finished, writer) = recorder.finish().unwrap();
        let mut files = Vec::new();
        let mut small = |name: String, content: String| {
            fs::create_dir_all(self.path("checkpoints")).unwrap();
            fs::write(self.path(&name), &content).unwrap();
            files.push(FileIdentity::of(&name, content.as_bytes()));
        };
        small(format!("{file}.chksum"), finished.adler32.to_string());
        small(
            format!("checkpoints/{ident}.xml"),
            format!("<domaincheckpoint>{ident}{}</domaincheckpoint>\n", self.tag),
        );
        small(format!("vmconfig.{ident}.xml"), format!("<domain type='kvm'>\n{}</domain>\n", self.tag));
        small(format!("vda.{ident}.qcow.json"), "{\"format\": \"qcow2\"}".to_owned());
        small(format!("VARS.fd.{ident}"), "nvram".to_owned());
        let names: Vec<_> = (0..=number).map(CheckpointName::new).collect();
        small("web.cpt".to_owned(), String::from_utf8(cpt::encode(&names)).unwrap());
        let before = match number {
            0 => None,
            1 => Some("vda.full.idx".to_owned()),
            _ => Some(format!("vda.inc.virtnbdbackup.{}.idx", number - 1)),
        };
        let before: Option<Digest> = before.map(|name| *Sidecar::open(&self.path(&name)).unwrap().digest());
        let stream = StreamIdentity {
            name: file,
            size: finished.size,
            adler32: Some(finished.adler32),
            digest: Some(finished.digest),
        };
        let head = Self::head(number, stream, granules, before, files);
        writer.finish(&head).unwrap();
        if number == 0 {
            self.add_raw(&head);
        }
        self.disks.push(disk);
    }

    fn add_raw(&self, beside: &Head) {
        let granules = Granules::of_disk(self.raw.len() as u64);
        let mut writer = SidecarWriter::create(&self.path("vdb.copy.idx"), granules).unwrap();
        writer.data(0, granules.disk_size(), &PlainSums::of(0, &self.raw, granules)).unwrap();
        fs::write(self.path("vdb.copy.data"), &self.raw).unwrap();
        let (name, size) = ("vdb.copy.data".to_owned(), granules.disk_size());
        let stream = StreamIdentity { name, size, adler32: None, digest: None };
        writer.finish(&Head { stream, target: "vdb".to_owned(), granules, ..beside.clone() }).unwrap();
    }

    fn head(
        number: u32,
        stream: StreamIdentity,
        granules: Granules,
        parent_sidecar: Option<Digest>,
        files: Vec<FileIdentity>,
    ) -> Head {
        Head {
            writer: "test".to_owned(),
            stream,
            target: "vda".to_owned(),
            point: format!("virtnbdbackup.{number}"),
            parent: number.checked_sub(1).map(|before| format!("virtnbdbackup.{before}")),
            parent_sidecar,
            taken_seconds: 1_795_377_786 + u64::from(number),
            granules,
            disks: Some(if number == 0 {
                vec!["vda".to_owned(), "vdb".to_owned()]
            } else {
                vec!["vda".to_owned()]
            }),
            left_out: if number == 0 {
                Vec::new()
            } else {
                vec![LeftOut { disk: "vdb".to_owned(), reason: "raw disk".to_owned() }]
            },
            files,
        }
    }

    fn stored(&self, plain: &[u8]) -> Vec<u8> {
        let mut stored = Vec::new();
        match self.level {
            None => stored.extend(plain),
            Some(level) => drop(codec::compress(plain, Compression::Lz4(level), &mut stored).unwrap()),
        }
        stored
    }

    fn meta(&self, number: u32) -> StreamMeta {
        StreamMeta {
            virtual_size: DISK as u64,
            data_size: 0,
            date: "2026-11-22T20:02:30.768021".to_owned(),
            disk_name: "vda".to_owned(),
            disk_format: "qcow2".to_owned(),
            checkpoint_name: format!("virtnbdbackup.{number}"),
            compression: self.level.map(Compression::Lz4),
            parent_checkpoint: number
                .checked_sub(1)
                .map(|n| format!("virtnbdbackup.{n}"))
                .unwrap_or_default(),
            incremental: number > 0,
            stream_version: 2,
        }
    }
}

/// Content that looks like nothing.
fn fill(bytes: &mut [u8], seed: u64) {
    bytes.copy_from_slice(&Random::from_seed(seed).bytes(bytes.len()));
}
