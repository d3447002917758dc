//! A folder that appears at once: complete and durable, or not at all.
//!
//! ```text
//! NEW.partial/NAME.partial ─ each written, timed, synced ─► NEW.partial/NAME ─ all renamed, folders synced ─► NEW
//! ```
//! So wherever this stops, no reader takes what is left for a backup.

use super::contents::{NewFile, NewLink};
use super::error::ConvertError;
use crate::durable::{self, PARTIAL};
use crate::regular;
use crate::restore::raw::COPY_LEN;
use crate::restore::zeros::write_parts;
use crate::sidecar::FileIdentity;
use crate::unfinished::Unfinished;
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, FileTimes, Metadata, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{
    DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, symlink,
};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The folder in the making. Dropped before it is published, it is removed.
pub(super) struct NewSet {
    target: PathBuf,
    /// Closed to others until it is published.
    dir: PathBuf,
    /// What the finished folder gets.
    permissions: Permissions,
    names: Vec<String>,
    unfinished: Unfinished,
}

impl NewSet {
    /// Begins a folder that gets the permissions of another.
    pub(super) fn create(target: &Path, like: &Path) -> Result<Self, ConvertError> {
        let failed = |source| ConvertError::Write { path: target.to_owned(), source };
        let dir = durable::partial_path(target).ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        if fs::symlink_metadata(target).is_ok() {
            return Err(ConvertError::Exists { path: target.to_owned() });
        }
        let permissions = fs::metadata(like).map_err(failed)?.permissions();
        let made = Unfinished::folder(&dir, || DirBuilder::new().mode(0o700).create(&dir));
        let unfinished = made.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => ConvertError::Unfinished { path: dir.clone() },
            _ => failed(error),
        })?;
        Ok(Self { target: target.to_owned(), dir, permissions, names: Vec::new(), unfinished })
    }

    /// Takes a file into the set that is written at its unfinished path.
    pub(super) fn expect(&mut self, name: &str) {
        self.names.push(name.to_owned());
    }

    /// Where a file is written until the set is published.
    pub(super) fn unfinished(&mut self, name: &str) -> Result<PathBuf, ConvertError> {
        let path = self.unfinished_path(name);
        if let Some(folder) = path.parent().filter(|folder| *folder != self.dir) {
            fs::create_dir_all(folder).map_err(|source| write_failed(folder, source))?;
        }
        self.expect(name);
        Ok(path)
    }

    /// Gives a written file its time and makes it durable.
    pub(super) fn finish(&self, path: &Path, file: &File, time: SystemTime) -> Result<(), ConvertError> {
        let done = file.set_times(FileTimes::new().set_modified(time)).and_then(|()| file.sync_all());
        done.map_err(|source| write_failed(path, source))
    }

    /// Writes a small file.
    pub(super) fn write(
        &mut self,
        name: &str,
        content: &[u8],
        time: SystemTime,
    ) -> Result<FileIdentity, ConvertError> {
        let path = self.unfinished(name)?;
        let failed = |source| write_failed(&path, source);
        let mut file = File::create_new(&path).map_err(failed)?;
        file.write_all(content).map_err(failed)?;
        self.finish(&path, &file, time)?;
        Ok(FileIdentity::of(name, content))
    }

    /// Copies a file of any size, with holes where it is zero. It gets the permissions it had; a secret is readable by
    /// its owner alone at every moment, and stays its owner's. `see` meets its bytes in order.
    pub(super) fn copy(
        &mut self,
        NewFile { name, from, time, secret }: &NewFile,
        mut see: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> Result<FileIdentity, ConvertError> {
        if *secret {
            self.private_folders(Path::new(name), from)?;
        }
        let path = self.unfinished(name)?;
        let failed = |source| write_failed(&path, source);
        let read_failed = |source| ConvertError::Read { path: from.clone(), source };
        let input = regular::open(from).map_err(read_failed)?;
        let about = input.metadata().map_err(read_failed)?;
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        let (mut buffer, mut size, mut digest) = (Vec::new(), 0, blake3::Hasher::new());
        loop {
            buffer.clear();
            let len = (&input).take(COPY_LEN as u64).read_to_end(&mut buffer).map_err(read_failed)? as u64;
            if len == 0 {
                break;
            }
            write_parts(size, &buffer, |at, part| file.write_all_at(part, at)).map_err(failed)?;
            digest.update(&buffer);
            see(size, &buffer).map_err(failed)?;
            size += len;
        }
        file.set_len(size).map_err(failed)?;
        let access =
            if *secret { keep_owner(&file, &about) } else { file.set_permissions(about.permissions()) };
        access.map_err(failed)?;
        self.finish(&path, &file, *time)?;
        Ok(FileIdentity { name: name.clone(), size, digest: digest.finalize().into() })
    }

    /// The folders of the secret file `name`: each for its owner alone, who is that of the folder it is copied from.
    fn private_folders(&self, name: &Path, from: &Path) -> Result<(), ConvertError> {
        let Some((folder, like)) = name.parent().zip(from.parent()) else { return Ok(()) };
        if folder.as_os_str().is_empty() {
            return Ok(());
        }
        self.private_folders(folder, like)?;
        let path = self.dir.join(folder);
        let make = || match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                let made = File::open(&path)?;
                keep_owner(&made, &fs::metadata(like)?)?;
                made.set_permissions(Permissions::from_mode(0o700)) // a folder of a group hands on more
            }
        };
        make().map_err(|source| write_failed(&path, source))
    }

    /// Makes a link.
    pub(super) fn link(&self, NewLink { name, target }: &NewLink) -> Result<(), ConvertError> {
        let path = self.dir.join(name);
        symlink(target, &path).map_err(|source| write_failed(&path, source))
    }

    /// Gives every file its name, and then the folder. After [`ConvertError::NotDurable`] the folder is there.
    pub(super) fn publish(self) -> Result<(), ConvertError> {
        let mut folders = BTreeSet::from([self.dir.clone()]);
        for name in &self.names {
            let path = self.dir.join(name);
            fs::rename(self.unfinished_path(name), &path).map_err(|source| write_failed(&path, source))?;
            folders.extend(
                path.ancestors().skip(1).take_while(|folder| *folder != self.dir).map(Path::to_owned),
            );
        }
        fs::set_permissions(&self.dir, self.permissions.clone())
            .map_err(|source| write_failed(&self.dir, source))?;
        for folder in &folders {
            durable::sync_folder(folder).map_err(|source| write_failed(folder, source))?;
        }
        self.unfinished.finish(|| durable::rename_new(&self.dir, &self.target)).map_err(
            |source| match source.kind() {
                io::ErrorKind::AlreadyExists => ConvertError::Exists { path: self.target.clone() },
                _ => write_failed(&self.target, source),
            },
        )?;
        durable::sync_folder_of(&self.target)
            .map_err(|source| ConvertError::NotDurable { path: self.target.clone(), source })
    }

    pub(super) fn unfinished_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}{PARTIAL}"))
    }
}

fn write_failed(path: &Path, source: io::Error) -> ConvertError {
    ConvertError::Write { path: path.to_owned(), source }
}

/// Gives a file to who has another; only root can.
fn keep_owner(file: &File, like: &Metadata) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        fchown(file, Some(like.uid()), Some(like.gid()))?;
    }
    Ok(())
}
