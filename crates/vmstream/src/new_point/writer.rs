//! The files of one point as they are written, under the names under which they wait.

use std::fs::{File, FileTimes};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use super::error::PointError;
use super::folder::{PointFolder, Way};
use super::private::{self, Access, Owner, make_folders};
use super::sealed::{SealedPoint, SealedSidecar};
use crate::sidecar::{FileIdentity, Head, LeftOut, SidecarWriter};

/// A point in the making. Nothing is durable before [`PointFolder::sync`], and nothing is there before
/// [`PointFolder::commit`].
#[derive(Debug)]
pub struct PointWriter<'a> {
    folder: &'a PointFolder,
    time: SystemTime,
    point: SealedPoint,
    sidecars: Vec<OpenSidecar>,
    /// The point's own small files and its list, for the sidecars.
    identities: Vec<FileIdentity>,
}

/// A sidecar that lacks its head.
#[derive(Debug)]
pub struct OpenSidecar {
    /// Its final name. It is written at its unfinished path.
    pub name: String,
    /// What is written of it.
    pub writer: SidecarWriter,
    /// Its head, without what is the same in each sidecar of the point: its disks, those left out, its files.
    pub head: Head,
}

impl<'a> PointWriter<'a> {
    pub(super) fn new(folder: &'a PointFolder, time: SystemTime) -> Self {
        let point = SealedPoint { small: vec![], sidecars: vec![], streams: vec![], list: None };
        Self { folder, time, point, sidecars: vec![], identities: vec![] }
    }

    /// The modification time of its files.
    pub fn time(&self) -> SystemTime {
        self.time
    }

    /// What the sidecars will say of the point's files, as far as they are written.
    pub fn identities(&self) -> &[FileIdentity] {
        &self.identities
    }

    /// Where a file waits.
    pub fn unfinished_path(&self, name: &str) -> PathBuf {
        self.folder.unfinished_path(name)
    }

    /// Takes a stream or raw image that was written at its unfinished path.
    pub fn add_stream(&mut self, name: &str, file: &File) -> Result<(), PointError> {
        self.add_stream_at(name, file, self.time)
    }

    /// Takes a stream that belongs to the time of another point.
    pub fn add_stream_at(&mut self, name: &str, file: &File, time: SystemTime) -> Result<(), PointError> {
        self.end(name, file, time)?;
        self.point.streams.push(name.to_owned());
        Ok(())
    }

    /// Takes a sidecar, which is ended once all else is written.
    pub fn add_sidecar(&mut self, sidecar: OpenSidecar) {
        self.sidecars.push(sidecar);
    }

    /// Writes a small file.
    pub fn add_small(&mut self, name: &str, content: &[u8]) -> Result<(), PointError> {
        self.add_earlier(name, content, self.time)?;
        self.identities.push(FileIdentity::of(name, content));
        Ok(())
    }

    /// Writes a small file that belongs to the time of another point, and so is not named by this point's sidecars: a disk
    /// added late to a long chain has one for each point before.
    pub fn add_earlier(&mut self, name: &str, content: &[u8], time: SystemTime) -> Result<(), PointError> {
        self.write(name, content, Access::Group, time)?;
        self.point.small.push((name.to_owned(), Access::Group));
        Ok(())
    }

    /// Takes a copy of a file. It is never held in memory.
    pub fn add_copy(&mut self, name: &str, from: &mut impl Read) -> Result<(), PointError> {
        let mut file = self.create(name, Access::Group)?;
        let copied = FileIdentity::of_copy(name, from, &mut file);
        let identity = copied.map_err(PointError::when("write", &self.unfinished_path(name)))?;
        self.add_file(identity, &file, self.time)
    }

    /// Takes a small file that was written at its unfinished path.
    pub fn add_file(
        &mut self,
        identity: FileIdentity,
        file: &File,
        time: SystemTime,
    ) -> Result<(), PointError> {
        self.end(&identity.name, file, time)?;
        self.point.small.push((identity.name.clone(), Access::Group));
        self.identities.push(identity);
        Ok(())
    }

    /// Writes a file that only root may read, in a folder that only root may enter.
    pub fn add_secret(&mut self, name: &str, content: &[u8]) -> Result<(), PointError> {
        let access = Access::Private(Owner::ROOT);
        self.write(name, content, access, self.time)?;
        self.point.small.push((name.to_owned(), access));
        Ok(())
    }

    /// Takes a private file that was made by [`Self::create`]. No sidecar tells its sum: whoever may not read it must be able
    /// to prove everything else.
    pub fn add_private(
        &mut self,
        name: &str,
        file: &File,
        time: SystemTime,
        owner: Owner,
    ) -> Result<(), PointError> {
        self.end(name, file, time)?;
        self.point.small.push((name.to_owned(), Access::Private(owner)));
        Ok(())
    }

    /// Makes a file at its unfinished path.
    pub fn create(&self, name: &str, access: Access) -> Result<File, PointError> {
        let path = self.unfinished_path(name);
        let folders = match self.folder.way() {
            Way::Beside => Ok(()),
            Way::Hidden => make_folders(self.folder.dir(), name, access),
        };
        let created = folders.and_then(|()| private::create(&path, access));
        created.map_err(PointError::when("write", &path))
    }

    /// Writes the list, or what stands for it: the file that gets its name last.
    pub fn set_list(&mut self, name: &str, content: &[u8]) -> Result<(), PointError> {
        self.write(name, content, Access::Group, self.time)?;
        self.note_list(name, content);
        self.point.list = Some((name.to_owned(), content.to_owned()));
        Ok(())
    }

    /// Says what the list was at this point, where a later one is written.
    pub fn note_list(&mut self, name: &str, content: &[u8]) {
        self.identities.push(FileIdentity::of(name, content));
    }

    /// Ends the sidecars, and so the point. Each names the disks of the point, those that are left out, and its files.
    pub fn seal(mut self, left_out: &[LeftOut]) -> Result<(SealedPoint, Vec<SealedSidecar>), PointError> {
        let disks: Vec<String> = self.sidecars.iter().map(|sidecar| sidecar.head.target.clone()).collect();
        let mut sealed = Vec::new();
        for OpenSidecar { name, writer, head } in std::mem::take(&mut self.sidecars) {
            let (files, left_out) = (self.identities.clone(), left_out.to_vec());
            let finished = writer.finish(&Head { disks: Some(disks.clone()), left_out, files, ..head });
            let finished = finished.map_err(PointError::when("write", &self.unfinished_path(&name)))?;
            self.end(&name, &finished.file, self.time)?;
            self.point.sidecars.push(name.clone());
            let (digest, without_files) = (finished.digest, finished.without_files);
            sealed.push(SealedSidecar { name, digest, without_files });
        }
        Ok((self.point, sealed))
    }

    fn write(&self, name: &str, content: &[u8], access: Access, time: SystemTime) -> Result<(), PointError> {
        let mut file = self.create(name, access)?;
        file.write_all(content).map_err(PointError::when("write", &self.unfinished_path(name)))?;
        self.end(name, &file, time)
    }

    /// Gives a file that is written its time.
    fn end(&self, name: &str, file: &File, time: SystemTime) -> Result<(), PointError> {
        let timed = file.set_times(FileTimes::new().set_modified(time));
        let ended = timed.and_then(|()| self.folder.together().add(file));
        ended.map_err(PointError::when("finish", &self.unfinished_path(name)))
    }
}
