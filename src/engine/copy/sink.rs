//! The file a disk is copied into, a sparse stream or a raw image, with its sidecar.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use vmstream::chain::Coverage;
use vmstream::fresh;
use vmstream::page_cache;
use vmstream::sidecar::{PlainSums, Recorder, SidecarWriter, StoredSums};
use vmstream::stream::Compression;
use vmstream::stream::codec;
use vmstream::stream::writer::{FRAME_LEN, FinishedStream, LEAST_DATA};

use super::error::CopyError;
use super::piece::Sums;
use super::task::{DiskTask, SinkPlan};
use vmhost::nbd::{Connection, NbdError};

/// A server that needs longer than this for one sector hangs.
const READ_LIMIT: Duration = Duration::from_secs(120);

/// A disk that is copied completely, under its partial name; its file is not synced yet. Its sidecar lacks only its head,
/// which names the point's other files.
#[derive(Debug)]
pub enum Copied {
    Stream {
        stream: FinishedStream,
        sidecar: Box<SidecarWriter>,
    },
    RawImage {
        /// The open file.
        file: File,
        /// Bytes of data in it.
        data_bytes: u64,
        sidecar: Box<SidecarWriter>,
    },
}

/// The file under construction.
pub(super) struct Sink<'a> {
    task: &'a DiskTask,
    form: Form,
}

enum Form {
    /// `held` is the last zero range of a stream that stands alone, not written yet.
    Stream {
        writer: Box<Recorder>,
        zeroes: Zeroes,
        held: Option<Range<u64>>,
    },
    RawImage {
        file: File,
        data_bytes: u64,
        sidecar: Box<SidecarWriter>,
    },
}

impl<'a> Sink<'a> {
    pub(super) fn create(task: &'a DiskTask) -> Result<Self, CopyError> {
        let form = match &task.sink {
            SinkPlan::Stream { path, meta } => {
                Recorder::create(path, &task.sidecar.path, meta.clone()).map(|writer| Form::Stream {
                    writer: Box::new(writer),
                    zeroes: Zeroes::new(meta.compression),
                    held: None,
                })
            }
            SinkPlan::RawImage { path, size } => create_image(path, *size).and_then(|file| {
                let sidecar = SidecarWriter::create(&task.sidecar.path, task.sink.granules())?;
                Ok(Form::RawImage { file, data_bytes: 0, sidecar: Box::new(sidecar) })
            }),
        };
        let form = form.map_err(|source| write_error(task, source))?;
        Ok(Self { task, form })
    }

    pub(super) fn data(
        &mut self,
        start: u64,
        plain_len: u64,
        stored: &[u8],
        sums: &Sums,
    ) -> Result<(), CopyError> {
        let written = match &mut self.form {
            Form::Stream { writer, held, .. } => {
                let sums = (&sums.plain, &sums.stored);
                write_held(writer, held).and_then(|()| writer.data(start, plain_len, stored, sums))
            }
            Form::RawImage { file, data_bytes, sidecar } => {
                let before = *data_bytes;
                *data_bytes += plain_len;
                let written = file.write_all_at(stored, start);
                // An image with holes of any size is no place for direct I/O.
                page_cache::let_go_in_steps(file, before..*data_bytes);
                written.and_then(|()| sidecar.data(start, plain_len, &sums.plain))
            }
        };
        written.map_err(|source| write_error(self.task, source))
    }

    /// A range that reads as zero. Where the chain so far holds data it is written as data, because readers skip
    /// zero frames; elsewhere the restored image is zero already, and only a stream that stands alone says so.
    pub(super) fn zero(&mut self, start: u64, len: u64) -> Result<(), CopyError> {
        let task = self.task;
        let failed = |source| write_error(task, source);
        let (writer, zeroes, held) = match &mut self.form {
            Form::Stream { writer, zeroes, held } => (writer, zeroes, held),
            Form::RawImage { sidecar, .. } => return sidecar.zero(start, len).map_err(failed),
        };
        writer.zero_content(start, len).map_err(failed)?;
        let covered: Vec<_> = match task.earlier_streams.as_slice() {
            [] => vec![],
            _ => zeroes.coverage(task)?.intersect(start..start + len).collect(),
        };
        let mut at = start;
        for range in covered {
            hold(writer, held, at..range.start, task).map_err(failed)?;
            write_held(writer, held).map_err(failed)?;
            zeroes.write(writer, range.start, range.end).map_err(failed)?;
            at = range.end;
        }
        hold(writer, held, at..start + len, task).map_err(failed)
    }

    pub(super) fn finish(self) -> Result<Copied, CopyError> {
        let task = self.task;
        let failed = |source| write_error(task, source);
        match self.form {
            Form::Stream { mut writer, mut zeroes, held } => {
                match held {
                    held if writer.data_size() > 0 => {
                        write_held(&mut writer, &mut { held }).map_err(failed)?
                    }
                    Some(range) => zeroes.write_last(&mut writer, range).map_err(failed)?,
                    None => write_sector(&mut writer, &zeroes, task)?,
                }
                let (stream, sidecar) = writer.finish().map_err(failed)?;
                Ok(Copied::Stream { stream, sidecar: Box::new(sidecar) })
            }
            Form::RawImage { file, data_bytes, sidecar } => {
                page_cache::let_go(&file);
                Ok(Copied::RawImage { file, data_bytes, sidecar })
            }
        }
    }
}

/// Takes a zero range of a stream that stands alone; the one before it is written when they do not touch.
fn hold(
    writer: &mut Recorder,
    held: &mut Option<Range<u64>>,
    range: Range<u64>,
    task: &DiskTask,
) -> io::Result<()> {
    if range.is_empty() || !task.sink.stands_alone() {
        return Ok(());
    }
    if let Some(before) = held.as_mut().filter(|before| before.end == range.start) {
        before.end = range.end;
        return Ok(());
    }
    write_held(writer, held)?;
    *held = Some(range);
    Ok(())
}

fn write_held(writer: &mut Recorder, held: &mut Option<Range<u64>>) -> io::Result<()> {
    held.take().map_or(Ok(()), |range| writer.zero_frame(range.start, range.end - range.start))
}

/// Gives an increment without any change its first sector as data, so that no stream is without data:
/// virtnbdrestore 1.9.15 passes over such before it looks whether the point is the one to stop at (`--until`), and
/// applies what comes later.
fn write_sector(writer: &mut Recorder, zeroes: &Zeroes, task: &DiskTask) -> Result<(), CopyError> {
    let failed = |source: NbdError| CopyError::Read { target: task.target.clone(), source: Box::new(source) };
    let mut connection = Connection::open(&task.export, &[]).map_err(failed)?;
    let len = LEAST_DATA.min(connection.size());
    if len == 0 {
        return Ok(());
    }
    connection.start_read(vec![0; len as usize], 0, 0).map_err(failed)?;
    let read = connection.wait(READ_LIMIT).map_err(failed)?.pop();
    let read = read.ok_or_else(|| failed(connection.silent(READ_LIMIT)))?;
    read.result.map_err(failed)?;
    let plain = PlainSums::of(0, &read.buf, writer.granules());
    let stored = zeroes.store(read.buf).map_err(|source| write_error(task, source))?;
    let sums = (&plain, &StoredSums::of(&stored));
    // The sector did not change: the parent's sidecar knows it.
    writer.frame(0, len, &stored, sums).map_err(|source| write_error(task, source))
}

fn write_error(task: &DiskTask, source: io::Error) -> CopyError {
    CopyError::Write { path: task.sink.path().to_owned(), source }
}

fn create_image(path: &Path, size: u64) -> io::Result<File> {
    let file = fresh::create(path, 0o640)?;
    file.set_len(size)?;
    Ok(file)
}

/// Zeroes written as data.
struct Zeroes {
    compression: Option<Compression>,
    /// Where the chain holds data; read from the headers of its streams at the first zero range.
    coverage: Option<Coverage>,
    /// The stored form of the last length written, and its sums.
    stored: Option<(u64, Vec<u8>, Sums)>,
}

impl Zeroes {
    fn new(compression: Option<Compression>) -> Self {
        Self { compression, coverage: None, stored: None }
    }

    fn coverage(&mut self, task: &DiskTask) -> Result<&Coverage, CopyError> {
        let coverage = match self.coverage.take() {
            Some(known) => known,
            None => Coverage::of_streams(&task.earlier_streams)
                .map_err(|e| CopyError::Chain { target: task.target.clone(), message: e.to_string() })?,
        };
        Ok(self.coverage.insert(coverage))
    }

    fn write(&mut self, writer: &mut Recorder, start: u64, end: u64) -> io::Result<()> {
        let mut at = start;
        while at < end {
            let len = FRAME_LEN.min(end - at);
            let (_, stored, sums) = match self.stored.take() {
                Some(last) if last.0 == len => self.stored.insert(last),
                _ => {
                    let stored = self.store(vec![0; usize::try_from(len).map_err(io::Error::other)?])?;
                    let sums = Sums { plain: PlainSums::of_zeros(len), stored: StoredSums::of(&stored) };
                    self.stored.insert((len, stored, sums))
                }
            };
            writer.frame(at, len, stored, (&sums.plain, &sums.stored))?;
            at += len;
        }
        Ok(())
    }

    /// Writes the last zero range of a stream that has no data, its last sector as data; see [`write_sector`].
    fn write_last(&mut self, writer: &mut Recorder, range: Range<u64>) -> io::Result<()> {
        let last = range.end.saturating_sub(LEAST_DATA).max(range.start);
        if last > range.start {
            writer.zero_frame(range.start, last - range.start)?;
        }
        self.write(writer, last, range.end)
    }

    /// What the file stores of these bytes.
    fn store(&self, plain: Vec<u8>) -> io::Result<Vec<u8>> {
        let Some(compression) = self.compression else { return Ok(plain) };
        let mut stored = Vec::new();
        codec::compress(&plain, compression, &mut stored).map_err(io::Error::other)?;
        Ok(stored)
    }
}
