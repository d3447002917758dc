//! One point after the other into the new folder: its streams and images, the files beside them, and last the sidecars,
//! which name them all.

use super::contents::{NewFile, NewImage, NewPoint, NewStream};
use super::converted::{Converted, ConvertedStream, RawCopy};
use super::error::ConvertError;
use super::new_set::NewSet;
use super::options::{ConvertOptions, Shape};
use super::plan::Plan;
use super::source::Source;
use super::written::{Paths, Written};
use super::{recompress, squash};
use crate::chain::{PointId, StreamKind, StreamSuffix, UnusedSidecar};
use crate::sidecar::{
    Digest, FileIdentity, Granules, Head, Ledger, PlainSums, Run, RunKind, SidecarWriter, StreamIdentity,
    Tables,
};
use crate::verify::Watch;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// A sidecar that waits for the names of the point's files.
struct Waiting {
    writer: SidecarWriter,
    head: Head,
    path: PathBuf,
    old: Option<Digest>,
}

/// The points of a new set, as they are written.
pub(super) struct Points<'a> {
    new: NewSet,
    options: ConvertOptions,
    watch: &'a dyn Watch,
    /// The sidecar that took the place of each old one, by their digests.
    links: BTreeMap<Digest, Digest>,
}

impl<'a> Points<'a> {
    pub(super) fn new(new: NewSet, options: ConvertOptions, watch: &'a dyn Watch) -> Self {
        Self { new, options, watch, links: BTreeMap::new() }
    }

    /// Writes a point; `list` is the checkpoint list as it is at that point.
    pub(super) fn write(
        &mut self,
        point: &NewPoint<'_>,
        list: Option<(&str, Vec<u8>)>,
        converted: &mut Converted,
    ) -> Result<(), ConvertError> {
        let (mut waiting, mut files) = (Vec::new(), Vec::new());
        for stream in &point.streams {
            let (done, sidecar, checksum) = self.stream(point, stream, &mut converted.unused_sidecars)?;
            converted.streams.push(done);
            waiting.extend(sidecar);
            files.push(checksum);
        }
        for image in &point.images {
            let (done, sidecar) = self.image(point, image, &mut converted.unused_sidecars)?;
            converted.raw_images.push(done);
            waiting.push(sidecar);
        }
        let watch = self.watch;
        for file in &point.files {
            let identity = self.new.copy(file, |_, part| seen(watch, part))?;
            // Whoever may not read a secret must be able to prove everything else.
            files.extend((!file.secret).then_some(identity));
        }
        files.extend(list.map(|(name, content)| FileIdentity::of(name, &content)));
        let disks: Vec<String> = waiting.iter().map(|waiting| waiting.head.target.clone()).collect();
        for Waiting { writer, head, path, old } in waiting {
            let (disks, left_out) = (Some(disks.clone()), point.left_out.clone());
            let done = writer.finish(&Head { files: files.clone(), disks, left_out, ..head });
            let done = done.map_err(|source| ConvertError::Write { path: path.clone(), source })?;
            self.new.finish(&path, &done.file, point.time)?;
            self.links.extend(old.map(|old| (old, done.digest)));
        }
        converted.points.push(point.id);
        Ok(())
    }

    /// Writes what belongs to no point, and lets the new set appear.
    pub(super) fn publish(mut self, plan: &Plan<'_>) -> Result<(), ConvertError> {
        let watch = self.watch;
        for file in &plan.files {
            self.new.copy(file, |_, part| seen(watch, part))?;
        }
        plan.links.iter().try_for_each(|link| self.new.link(link))?;
        let newest = plan.points.iter().rev().find(|point| matches!(point.id, PointId::Checkpoint(_)));
        if let Some((name, point)) = plan.list.as_ref().zip(newest) {
            self.new.write(name, &plan.list_at(point.id), point.time)?;
        }
        self.new.publish()
    }

    /// Writes one stream and its checksum file.
    fn stream(
        &mut self,
        point: &NewPoint<'_>,
        stream: &NewStream<'_>,
        unused: &mut Vec<UnusedSidecar>,
    ) -> Result<(ConvertedStream, Option<Waiting>, FileIdentity), ConvertError> {
        let source = Source::open(stream)?;
        let name = stream.kind.file_name(&stream.disk, self.options.compression.suffix());
        let paths = self.paths(&name, stream)?;
        let Written { stream: done, sidecar, old, sums } = match stream.shape {
            Shape::SamePoints => recompress::run(&source, &paths, self.options, self.watch)?,
            Shape::Full(_) => squash::run(&source, &paths, self.options, self.watch)?,
        };
        let unproven = source.check(&sums, unused)?;
        self.new.finish(&paths.stream, &done.file, point.time)?;
        let checksum =
            self.new.write(&format!("{name}.chksum"), done.adler32.to_string().as_bytes(), point.time)?;
        let identity = StreamIdentity {
            name: name.clone(),
            size: done.size,
            adler32: Some(done.adler32),
            digest: Some(done.digest),
        };
        let waiting = match sidecar {
            None => None,
            Some(writer) => {
                let mut head = head(point, stream.disk.as_str(), identity, writer.granules());
                if stream.shape == Shape::SamePoints {
                    self.link(&source, &mut head);
                }
                self.new.expect(&stream.kind.sidecar_name(&stream.disk));
                Some(Waiting { writer, head, path: paths.sidecar, old })
            }
        };
        let done = ConvertedStream {
            file: name,
            disk: stream.disk.clone(),
            source_bytes: stream.sources.iter().map(|entry| entry.file_len).sum(),
            file_bytes: done.size,
            data_bytes: done.data_size,
            unproven,
        };
        Ok((done, waiting, checksum))
    }

    fn paths(&mut self, name: &str, stream: &NewStream<'_>) -> Result<Paths, ConvertError> {
        let sidecar = self.new.unfinished_path(&stream.kind.sidecar_name(&stream.disk));
        Ok(Paths { stream: self.new.unfinished(name)?, sidecar })
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
        &mut self,
        point: &NewPoint<'_>,
        image: &NewImage<'_>,
        unused: &mut Vec<UnusedSidecar>,
    ) -> Result<(RawCopy, Waiting), ConvertError> {
        let NewImage { disk, source, taken, in_doubt } = image;
        let (kind, granules) = (StreamKind::Copy, Granules::of_disk(source.len));
        let (name, sidecar) = (kind.file_name(disk, StreamSuffix::Data), kind.sidecar_name(disk));
        if let Some(problem) = source.other_length() {
            return Err(ConvertError::RawLength { path: source.path.clone(), problem });
        }
        let path = self.new.unfinished(&sidecar)?;
        let failed = |source| ConvertError::Write { path: path.clone(), source };
        let sidecar_failed = |error| ConvertError::Sidecar { stream: source.path.clone(), source: error };
        let old = source.usable_sidecar(unused);
        let ledger = Ledger::of(Tables::new(vec![old]), source.len).map_err(sidecar_failed)?;
        let mut writer = SidecarWriter::create(&path, granules).map_err(failed)?;
        let watch = self.watch;
        let file = NewFile { name, from: source.path.clone(), time: point.time, secret: false };
        let copied = self.new.copy(&file, |at, part| {
            if let Some(ledger) = &ledger {
                ledger.note(at, part);
            }
            if !in_doubt {
                writer.data(at, part.len() as u64, &PlainSums::of(at, part, granules))?;
            }
            seen(watch, part)
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
        let identity = StreamIdentity { name: name.clone(), size: copied.size, adler32: None, digest: None };
        let head = head(point, disk.as_str(), identity, granules);
        let done = RawCopy { file: name, disk: disk.clone(), taken: *taken, proven };
        Ok((done, Waiting { writer, head, path, old: None }))
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
