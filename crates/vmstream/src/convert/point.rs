//! One point after the other into the new folder: its streams and images, the files beside them, and last the sidecars,
//! which name them all.

use super::contents::{NewFile, NewImage, NewPoint, NewStream};
use super::converted::{Converted, ConvertedStream, RawCopy};
use super::copying;
use super::error::ConvertError;
use super::new_set::NewSet;
use super::options::{ConvertOptions, Shape};
use super::plan::Plan;
use super::source::Source;
use super::written::{Paths, Written};
use super::{recompress, squash};
use crate::chain::{StreamKind, StreamSuffix, UnusedSidecar};
use crate::new_point::{OpenSidecar, PointWriter, SealedPoint};
use crate::sidecar::{
    Digest, Granules, Head, Ledger, PlainSums, Run, RunKind, SidecarWriter, StreamIdentity, Tables,
};
use crate::verify::Watch;
use std::collections::BTreeMap;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

/// The checkpoint list as it is at a point.
pub(super) struct List<'a> {
    pub(super) name: &'a str,
    pub(super) content: Vec<u8>,
    /// It is that of the new set.
    pub(super) is_last: bool,
}

/// The points of a new set, as they are written.
pub(super) struct Points<'a> {
    new: NewSet,
    options: ConvertOptions,
    watch: &'a dyn Watch,
    sealed: Vec<SealedPoint>,
    /// The sidecar that took the place of each old one, by their digests.
    links: BTreeMap<Digest, Digest>,
}

impl<'a> Points<'a> {
    pub(super) fn new(new: NewSet, options: ConvertOptions, watch: &'a dyn Watch) -> Self {
        Self { new, options, watch, sealed: Vec::new(), links: BTreeMap::new() }
    }

    /// Writes a point.
    pub(super) fn write(
        &mut self,
        point: &NewPoint<'_>,
        list: Option<List<'_>>,
        converted: &mut Converted,
    ) -> Result<(), ConvertError> {
        let mut files = self.new.begin(point.time);
        // Digests of the sidecars whose places new ones take, in their order.
        let mut old = Vec::new();
        for stream in &point.streams {
            let done = self.stream(point, stream, &mut files, &mut old, &mut converted.unused_sidecars)?;
            converted.streams.push(done);
        }
        for image in &point.images {
            converted.raw_images.push(self.image(
                point,
                image,
                &mut files,
                &mut converted.unused_sidecars,
            )?);
            old.push(None);
        }
        for file in &point.files {
            copying::file(&mut files, file, |_, part| seen(self.watch, part))?;
        }
        match list {
            Some(List { name, content, is_last: true }) => files.set_list(name, &content)?,
            Some(List { name, content, is_last: false }) => files.note_list(name, &content),
            None => {}
        }
        let (sealed, sidecars) = files.seal(&point.left_out)?;
        self.sealed.push(sealed);
        let links = old.into_iter().zip(sidecars).filter_map(|(old, new)| Some((old?, new.digest)));
        self.links.extend(links);
        converted.points.push(point.id);
        Ok(())
    }

    /// Writes what belongs to no point, and lets the new set appear.
    pub(super) fn publish(self, plan: &Plan<'_>) -> Result<(), ConvertError> {
        let Self { new, watch, mut sealed, .. } = self;
        let mut files = new.begin(UNIX_EPOCH);
        plan.files
            .iter()
            .try_for_each(|file| copying::file(&mut files, file, |_, part| seen(watch, part)))?;
        sealed.push(files.seal(&[])?.0);
        plan.links.iter().try_for_each(|link| new.link(link))?;
        new.publish(&sealed)
    }

    /// Writes one stream and its checksum file.
    fn stream(
        &self,
        point: &NewPoint<'_>,
        stream: &NewStream<'_>,
        files: &mut PointWriter<'_>,
        replaced: &mut Vec<Option<Digest>>,
        unused: &mut Vec<UnusedSidecar>,
    ) -> Result<ConvertedStream, ConvertError> {
        let source = Source::open(stream)?;
        let name = stream.kind.file_name(&stream.disk, self.options.compression.suffix());
        let sidecar_name = stream.kind.sidecar_name(&stream.disk);
        let paths =
            Paths { stream: files.unfinished_path(&name), sidecar: files.unfinished_path(&sidecar_name) };
        let Written { stream: done, sidecar, old, sums } = match stream.shape {
            Shape::SamePoints => recompress::run(&source, &paths, self.options, self.watch)?,
            Shape::Full(_) => squash::run(&source, &paths, self.options, self.watch)?,
        };
        let unproven = source.check(&sums, unused)?;
        files.add_stream(&name, &done.file)?;
        files.add_small(&format!("{name}.chksum"), done.adler32.to_string().as_bytes())?;
        let identity = StreamIdentity {
            name: name.clone(),
            size: done.size,
            adler32: Some(done.adler32),
            digest: Some(done.digest),
        };
        if let Some(writer) = sidecar {
            let mut head = head(point, stream.disk.as_str(), identity, writer.granules());
            if stream.shape == Shape::SamePoints {
                self.link(&source, &mut head);
            }
            files.add_sidecar(OpenSidecar { name: sidecar_name, writer, head });
            replaced.push(old);
        }
        Ok(ConvertedStream {
            file: name,
            disk: stream.disk.clone(),
            source_bytes: stream.sources.iter().map(|entry| entry.file_len).sum(),
            file_bytes: done.size,
            data_bytes: done.data_size,
            unproven,
        })
    }

    /// What an increment builds on, and when it was taken.
    fn link(&self, source: &Source<'_>, head: &mut Head) {
        let meta = source.newest();
        head.parent = meta.incremental.then(|| meta.parent_checkpoint.clone());
        if let Some(Some(old)) = source.sidecars().pop() {
            head.taken_seconds = old.head().taken_seconds;
            let parent = old.head().parent_sidecar;
            head.parent_sidecar = parent.and_then(|parent| self.links.get(&parent).copied());
        }
    }

    /// Copies a raw image, and writes its sidecar from what is read.
    fn image(
        &self,
        point: &NewPoint<'_>,
        image: &NewImage<'_>,
        files: &mut PointWriter<'_>,
        unused: &mut Vec<UnusedSidecar>,
    ) -> Result<RawCopy, ConvertError> {
        let NewImage { disk, source, taken, in_doubt } = image;
        let (kind, granules) = (StreamKind::Copy, Granules::of_disk(source.len));
        let (name, sidecar) = (kind.file_name(disk, StreamSuffix::Data), kind.sidecar_name(disk));
        if let Some(problem) = source.other_length() {
            return Err(ConvertError::RawLength { path: source.path.clone(), problem });
        }
        let path = files.unfinished_path(&sidecar);
        let failed = |source| ConvertError::Write { path: path.clone(), source };
        let sidecar_failed = |error| ConvertError::Sidecar { stream: source.path.clone(), source: error };
        let old = source.usable_sidecar(unused);
        let ledger = Ledger::of(Tables::new(vec![old]), source.len).map_err(sidecar_failed)?;
        let mut writer = SidecarWriter::create(&path, granules).map_err(failed)?;
        let file = NewFile { name, from: source.path.clone(), time: point.time, secret: false };
        let (written, copied) = copying::image(files, &file, |at, part| {
            if let Some(ledger) = &ledger {
                ledger.note(at, part);
            }
            if !in_doubt {
                writer.data(at, part.len() as u64, &PlainSums::of(at, part, granules))?;
            }
            seen(self.watch, part)
        })?;
        if *in_doubt {
            for first in 0..granules.count() {
                writer.run(&Run { first, kind: RunKind::Unknown(1) }).map_err(failed)?;
            }
        }
        let checked = ledger.map(Ledger::finish);
        if let Some(range) = checked.as_ref().and_then(|checked| checked.wrong.first()) {
            return Err(ConvertError::RawContent { path: source.path.clone(), range: range.clone() });
        }
        let proven = !in_doubt && checked.is_some_and(|checked| checked.unproven_bytes == 0);
        let NewFile { name, .. } = file;
        files.add_stream(&name, &written)?;
        let identity = StreamIdentity { name: name.clone(), size: copied.size, adler32: None, digest: None };
        let head = head(point, disk.as_str(), identity, granules);
        files.add_sidecar(OpenSidecar { name: sidecar, writer, head });
        Ok(RawCopy { file: name, disk: disk.clone(), taken: *taken, proven })
    }
}

fn seen(watch: &dyn Watch, part: &[u8]) -> io::Result<()> {
    watch.read(part.len() as u64);
    Ok(())
}

/// A head of something that stands alone. The point's files are not known yet.
fn head(point: &NewPoint<'_>, target: &str, stream: StreamIdentity, granules: Granules) -> Head {
    Head {
        writer: format!("vmstream {}", env!("CARGO_PKG_VERSION")),
        stream,
        target: target.to_owned(),
        point: point.id.ident(),
        parent: None,
        parent_sidecar: None,
        taken_seconds: seconds(point.time),
        granules,
        disks: None,
        left_out: Vec::new(),
        files: Vec::new(),
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
