//! The file a disk is copied into: a sparse stream, or a raw image.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use vmstream::chain::Coverage;
use vmstream::stream::codec;
use vmstream::stream::meta::StreamMeta;
use vmstream::stream::writer::{FinishedStream, StreamWriter};

use super::{CopyError, DiskTask, FRAME_LEN};

/// What is to be written.
pub enum SinkPlan {
    /// A sparse stream.
    Stream {
        /// The file, `….partial`.
        path: PathBuf,
        /// Its meta frame; the sum of data is filled in.
        meta: StreamMeta,
    },
    /// A raw image with holes where the disk is zero.
    RawImage {
        /// The file, `….partial`.
        path: PathBuf,
        /// Bytes of the disk.
        size: u64,
    },
}

impl SinkPlan {
    /// The file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Stream { path, .. } | Self::RawImage { path, .. } => path,
        }
    }

    /// The LZ4 level that frames are stored with.
    pub(super) fn level(&self) -> Option<u32> {
        match self {
            Self::Stream { meta, .. } => meta.compression,
            Self::RawImage { .. } => None,
        }
    }
}

/// A disk that is copied completely; its file is synced, under its partial name.
#[derive(Debug)]
pub enum Copied {
    /// As a stream.
    Stream(FinishedStream),
    /// As a raw image.
    RawImage {
        /// The open file.
        file: File,
        /// Bytes of data in it.
        data_bytes: u64,
    },
}

/// The file under construction.
pub(super) struct Sink<'a> {
    task: &'a DiskTask,
    form: Form,
}

enum Form {
    Stream { writer: Box<StreamWriter>, zeroes: Zeroes },
    RawImage { file: File, data_bytes: u64 },
}

impl<'a> Sink<'a> {
    pub(super) fn create(task: &'a DiskTask) -> Result<Self, CopyError> {
        let form = match &task.sink {
            SinkPlan::Stream { path, meta } => StreamWriter::create(path, meta.clone()).map(|writer| {
                Form::Stream { writer: Box::new(writer), zeroes: Zeroes::new(meta.compression) }
            }),
            SinkPlan::RawImage { path, size } => {
                create_image(path, *size).map(|file| Form::RawImage { file, data_bytes: 0 })
            }
        };
        let form = form.map_err(|source| write_error(task, source))?;
        Ok(Self { task, form })
    }

    pub(super) fn data(&mut self, start: u64, plain_len: u64, stored: &[u8]) -> Result<(), CopyError> {
        let written = match &mut self.form {
            Form::Stream { writer, .. } => writer.data(start, plain_len, stored),
            Form::RawImage { file, data_bytes } => {
                *data_bytes += plain_len;
                file.write_all_at(stored, start)
            }
        };
        written.map_err(|source| write_error(self.task, source))
    }

    /// A range that reads as zero. Where the chain so far holds data it is written as data, because readers skip
    /// zero frames; elsewhere the restored image is zero already.
    pub(super) fn zero(&mut self, start: u64, len: u64) -> Result<(), CopyError> {
        let Form::Stream { writer, zeroes } = &mut self.form else { return Ok(()) };
        if self.task.earlier_streams.is_empty() {
            return writer.zero(start, len).map_err(|source| write_error(self.task, source));
        }
        let covered: Vec<_> = zeroes.coverage(self.task)?.intersect(start..start + len).collect();
        for range in covered {
            zeroes.write(writer, range.start, range.end).map_err(|source| write_error(self.task, source))?;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Copied, CopyError> {
        let task = self.task;
        let done = match self.form {
            Form::Stream { writer, .. } => writer.finish().map(Copied::Stream),
            Form::RawImage { file, data_bytes } => {
                file.sync_all().map(|()| Copied::RawImage { file, data_bytes })
            }
        };
        done.map_err(|source| write_error(task, source))
    }
}

fn write_error(task: &DiskTask, source: io::Error) -> CopyError {
    CopyError::Write { path: task.sink.path().to_owned(), source }
}

fn create_image(path: &Path, size: u64) -> io::Result<File> {
    let file = File::options().write(true).create(true).truncate(true).mode(0o640).open(path)?;
    file.set_len(size)?;
    Ok(file)
}

/// Zeroes written as data.
struct Zeroes {
    level: Option<u32>,
    /// Where the chain holds data; read from the headers of its streams at the first zero range.
    coverage: Option<Coverage>,
    /// The stored form of the last length written.
    stored: (u64, Vec<u8>),
}

impl Zeroes {
    fn new(level: Option<u32>) -> Self {
        Self { level, coverage: None, stored: (0, Vec::new()) }
    }

    fn coverage(&mut self, task: &DiskTask) -> Result<&Coverage, CopyError> {
        let coverage = match self.coverage.take() {
            Some(known) => known,
            None => Coverage::of_streams(&task.earlier_streams)
                .map_err(|e| CopyError::Chain { target: task.target.clone(), message: e.to_string() })?,
        };
        Ok(self.coverage.insert(coverage))
    }

    fn write(&mut self, writer: &mut StreamWriter, start: u64, end: u64) -> io::Result<()> {
        let mut at = start;
        while at < end {
            let len = FRAME_LEN.min(end - at);
            if self.stored.0 != len {
                self.stored = (len, self.store(len)?);
            }
            writer.data(at, len, &self.stored.1)?;
            at += len;
        }
        Ok(())
    }

    fn store(&self, len: u64) -> io::Result<Vec<u8>> {
        let plain = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        let Some(level) = self.level else { return Ok(plain) };
        let mut stored = Vec::new();
        codec::compress(&plain, level, &mut stored).map_err(io::Error::other)?;
        Ok(stored)
    }
}
