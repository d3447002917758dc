//! A qcow2 file as the target, made by `qemu-img` and filled through `qemu-nbd`: one pass, no raw file in between.

use super::error::ExtractError;
use super::nbd::{Access, Nbd, SECTOR};
use super::options::ExtractOptions;
use super::partial::{NewFileError, Partial};
use super::target::Target;
use super::zeros::write_parts;
use crate::unfinished::Unfinished;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An unfinished qcow2 image.
#[derive(Debug)]
pub(super) struct Qcow2Image {
    nbd: Nbd,
    partial: Partial,
    target: PathBuf,
}

impl Qcow2Image {
    pub(super) fn create(target: &Path, size: u64, options: ExtractOptions) -> Result<Self, ExtractError> {
        // First, so that a refused target leaves no file and an old partial one is out of the way.
        let partial = Partial::create(target, options.existing())?;
        let program = |name: &'static str| {
            move |source: io::Error| match source.kind() {
                io::ErrorKind::NotFound => ExtractError::NoQemu { program: name },
                _ => ExtractError::Qcow2 { path: target.to_owned(), source },
            }
        };
        let path = std::path::absolute(partial.path())
            .map_err(|source| NewFileError::Write { path: target.to_owned(), source })?;
        let mut command = Command::new("qemu-img");
        command
            .args(["create", "-q", "-f", "qcow2", "--"])
            .arg(path)
            .arg(size.checked_next_multiple_of(SECTOR).unwrap_or(size).to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let (made, running) = Unfinished::program(&mut command).map_err(program("qemu-img"))?;
        let made = made.wait_with_output().map_err(program("qemu-img"))?;
        drop(running);
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr).trim().to_owned();
            let source = io::Error::other(said);
            return Err(ExtractError::Qcow2 { path: target.to_owned(), source });
        }
        let nbd = Nbd::serve(partial.path(), "qcow2", Access::Write, options.workers.get())
            .map_err(program("qemu-nbd"))?;
        Ok(Self { nbd, partial, target: target.to_owned() })
    }
}

impl Target for Qcow2Image {
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<u64> {
        write_parts(at, bytes, |at, part| self.nbd.write_at(at, part))
    }

    fn finish(self: Box<Self>, free: &dyn Fn() -> Result<(), ExtractError>) -> Result<(), ExtractError> {
        let Self { nbd, partial, target } = *self;
        nbd.finish().map_err(|source| ExtractError::Qcow2 { path: target, source })?;
        partial.sync()?;
        free()?;
        Ok(partial.publish()?)
    }
}
