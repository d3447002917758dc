//! The files of one point, written under partial names and published together.
//!
//! ```text
//! write and sync all ─► journal ─► archive the old chain ─► rename small files ─► rename streams ─► rename marker
//! ```
//! The point exists once the marker (`.cpt`, or `vmconfig.copy.xml` of a copy) has its new content. Whoever finds the
//! journal of a run that died before undoes the renames.

use std::fs::{self, File, FileTimes};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags};
use vmstream::fresh;
use vmstream::sidecar::FileIdentity;

use super::CommitError;
use crate::engine::claims::journal::{ArchiveMove, Stage};
use crate::engine::fail_point::FailPoint;
use crate::engine::failure::FileError;
use crate::engine::plan::names::partial_name;
use vmstore::durable;
use vmstore::presence;

/// Mode of a small file, and of one for root alone.
const MODE: u32 = 0o640;
const SECRET_MODE: u32 = 0o600;

/// The files of one point under construction.
pub(crate) struct PointFiles {
    dir: PathBuf,
    time: SystemTime,
    small: Vec<String>,
    /// Those of the small ones that only root may read.
    secret: Vec<String>,
    streams: Vec<String>,
    sidecars: Vec<String>,
    marker: Option<(String, String)>,
    /// The small files and the marker, for the sidecars.
    identities: Vec<FileIdentity>,
}

impl PointFiles {
    /// In a chain directory; all files get this modification time.
    pub(crate) fn new(dir: &Path, time: SystemTime) -> Self {
        Self {
            dir: dir.to_owned(),
            time,
            small: vec![],
            secret: vec![],
            streams: vec![],
            sidecars: vec![],
            marker: None,
            identities: vec![],
        }
    }

    /// Where a file is written until it is published.
    pub(crate) fn partial_path(&self, name: &str) -> PathBuf {
        self.dir.join(partial_name(name))
    }

    /// Writes a small file, synced.
    pub(crate) fn add_small(&mut self, name: &str, content: &[u8]) -> Result<(), CommitError> {
        self.identities.push(FileIdentity::of(name, content));
        self.add_earlier(name, content, self.time)
    }

    /// Takes a copy of a file, synced. It is never held in memory.
    pub(crate) fn add_copy(&mut self, name: &str, from: &mut impl io::Read) -> Result<(), CommitError> {
        let path = self.partial_path(name);
        let mut copy = || {
            let mut file = File::create(&path)?;
            let identity = FileIdentity::of_copy(name, from, &mut file)?;
            file.set_times(FileTimes::new().set_modified(self.time))?;
            file.sync_all()?;
            Ok(identity)
        };
        self.identities.push(copy().map_err(|source| self.failed("write", &path, source))?);
        self.small.push(name.to_owned());
        Ok(())
    }

    /// Writes a small file that belongs to the time of an earlier point, and so is not named by this point's sidecars:
    /// a disk added late to a long chain has one for each point before.
    pub(crate) fn add_earlier(
        &mut self,
        name: &str,
        content: &[u8],
        time: SystemTime,
    ) -> Result<(), CommitError> {
        self.write(name, content, time, MODE)?;
        self.small.push(name.to_owned());
        Ok(())
    }

    /// Writes a file that only root may read, in a folder that only root may enter.
    pub(crate) fn add_secret(&mut self, name: &str, content: &[u8]) -> Result<(), CommitError> {
        // No sidecar tells its sum: whoever may not read it must be able to prove everything else.
        self.write(name, content, self.time, SECRET_MODE)?;
        self.small.push(name.to_owned());
        self.secret.push(name.to_owned());
        Ok(())
    }

    /// Takes a stream or image that was written and synced at its partial path.
    pub(crate) fn add_stream(&mut self, name: &str, file: &File) -> Result<(), CommitError> {
        self.add_stream_at(name, file, self.time)
    }

    /// Takes a stream that belongs to the time of another point.
    pub(crate) fn add_stream_at(
        &mut self,
        name: &str,
        file: &File,
        time: SystemTime,
    ) -> Result<(), CommitError> {
        self.set_time(name, file, time)?;
        self.streams.push(name.to_owned());
        Ok(())
    }

    /// Takes a sidecar that was written at its partial path.
    pub(crate) fn add_sidecar(&mut self, name: &str, file: &File) -> Result<(), CommitError> {
        self.set_time(name, file, self.time)?;
        self.sidecars.push(name.to_owned());
        Ok(())
    }

    /// What a sidecar says of the small files and the marker.
    pub(crate) fn identities(&self) -> &[FileIdentity] {
        &self.identities
    }

    /// The modification time of the files.
    pub(crate) fn time(&self) -> SystemTime {
        self.time
    }

    fn set_time(&self, name: &str, file: &File, time: SystemTime) -> Result<(), CommitError> {
        let set = file.set_times(FileTimes::new().set_modified(time)).and_then(|()| file.sync_all());
        set.map_err(|source| self.failed("set the time of", &self.partial_path(name), source))
    }

    /// Writes the marker: the file that is published last.
    pub(crate) fn set_marker(&mut self, name: &str, content: &str) -> Result<(), CommitError> {
        self.write(name, content.as_bytes(), self.time, MODE)?;
        self.identities.push(FileIdentity::of(name, content.as_bytes()));
        self.marker = Some((name.to_owned(), content.to_owned()));
        Ok(())
    }

    /// What the journal must say before [`PointFiles::publish`].
    pub(crate) fn stage(&self, archive: Option<ArchiveMove>) -> Stage {
        let files = self.small.iter().chain(&self.sidecars).chain(&self.streams).cloned().collect();
        let (marker, marker_text) = self.marker.clone().unwrap_or_default();
        Stage::Publishing { archive, files, marker, marker_text }
    }

    /// Makes sure that no stream of this point has its name already, once those of `archived` are moved away: it would
    /// be one that nobody knows of. A sidecar without its stream proves nothing, and is put aside.
    pub(crate) fn make_way(&self, archived: &[String]) -> Result<(), CommitError> {
        let stays = |name: &&String| !archived.contains(name);
        for name in self.streams.iter().filter(stays) {
            let path = self.dir.join(name);
            let taken = presence::there(&path)
                .and_then(|there| if there { Err(durable::taken(&path)) } else { Ok(()) });
            taken.map_err(|source| self.failed("publish", &path, source))?;
        }
        // The folder of a point of another chain, which was archived without it.
        let mut folders: Vec<String> =
            self.secret.iter().filter_map(|name| Some(name.split_once('/')?.0.to_owned())).collect();
        folders.dedup();
        for name in self.sidecars.iter().chain(&folders).filter(stays) {
            let path = self.dir.join(name);
            put_aside(&path).map_err(|source| self.failed("put aside", &path, source))?;
        }
        Ok(())
    }

    /// Renames everything to its final name, the marker last. `at` is told each step, for tests that die there.
    pub(crate) fn publish(
        &self,
        archive: Option<&ArchiveMove>,
        at: &dyn Fn(FailPoint),
    ) -> Result<(), CommitError> {
        if let Some(archive) = archive {
            let moved = super::archive::move_all(&self.dir, &archive.to, &archive.names, at);
            moved.map_err(|source| self.failed("archive the chain in", &self.dir, source))?;
        }
        at(FailPoint::Archived);
        self.rename_all(&self.small, durable::rename_over)?;
        self.rename_all(&self.sidecars, durable::rename_new)?;
        at(FailPoint::SmallFilesRenamed);
        let (first, rest) = self.streams.split_at(self.streams.len().min(1));
        self.rename_all(first, durable::rename_new)?;
        at(FailPoint::FirstStreamRenamed);
        self.rename_all(rest, durable::rename_new)?;
        self.sync_dir(&self.dir)?;
        at(FailPoint::StreamsRenamed);
        if let Some((marker, _)) = &self.marker {
            self.rename_all(std::slice::from_ref(marker), durable::rename_over)?;
            self.sync_dir(&self.dir)?;
        }
        Ok(())
    }

    fn rename_all(
        &self,
        names: &[String],
        rename: impl Fn(&Path, &Path) -> io::Result<()>,
    ) -> Result<(), CommitError> {
        for name in names {
            let to = self.dir.join(name);
            if let Some(folder) = to.parent().filter(|folder| *folder != self.dir) {
                let private = self.secret.contains(name);
                let made =
                    if private { private_folders(&self.dir, folder) } else { fs::create_dir_all(folder) };
                made.map_err(|source| self.failed("create", folder, source))?;
                rename(&self.partial_path(name), &to)
                    .map_err(|source| self.failed("publish", &to, source))?;
                self.sync_dir(folder)?;
                continue;
            }
            rename(&self.partial_path(name), &to).map_err(|source| self.failed("publish", &to, source))?;
        }
        Ok(())
    }

    fn write(&self, name: &str, content: &[u8], time: SystemTime, mode: u32) -> Result<(), CommitError> {
        let path = self.partial_path(name);
        let write = || {
            let mut file = fresh::create(&path, mode)?;
            if mode == SECRET_MODE {
                // Before there is anything in it.
                own(&file)?;
            }
            file.write_all(content)?;
            file.set_times(FileTimes::new().set_modified(time))?;
            file.sync_all()
        };
        write().map_err(|source| self.failed("write", &path, source))
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), CommitError> {
        durable::sync_folder(dir).map_err(|source| self.failed("sync folder", dir, source))
    }

    fn failed(&self, doing: &'static str, path: &Path, source: io::Error) -> CommitError {
        FileError { doing, path: path.to_owned(), source }.into()
    }
}

/// Gives a file that is in the way another name.
fn put_aside(path: &Path) -> io::Result<()> {
    let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else { return Ok(()) };
    let aside = (1_u32..).map(|n| path.with_file_name(format!("{name}.old.{n}")));
    match (presence::there(path)?, presence::first_free(aside)?) {
        (true, Some(aside)) => durable::rename_new(path, &aside),
        _ => Ok(()),
    }
}

/// Creates the folders between `base` and `folder` for root alone: mode 0700, without the group that `base` hands on.
fn private_folders(base: &Path, folder: &Path) -> io::Result<()> {
    let below = folder.strip_prefix(base).map_err(io::Error::other)?;
    let mut path = base.to_owned();
    for part in below {
        path.push(part);
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        let open = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = File::from(rustix::fs::open(&path, open, Mode::empty())?);
        own(&opened)?;
        opened.set_permissions(fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Gives a file to root and root's group, where we are root.
fn own(file: &File) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        rustix::fs::fchown(file, Some(rustix::fs::Uid::ROOT), Some(rustix::fs::Gid::ROOT))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn secrets_are_for_the_owner_alone_also_below_a_folder_of_a_group() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o2770)).unwrap();
        let mut files = PointFiles::new(dir.path(), at(1000, 0));
        let name = ".tpm-state.virtnbdbackup.0/tpm2/tpm2-00.permall";
        files.add_secret(name, b"key").unwrap();
        let mode = |path: PathBuf| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(files.partial_path(name)), 0o600);
        files.publish(None, &|_| {}).unwrap();
        let folder = dir.path().join(".tpm-state.virtnbdbackup.0");
        assert_eq!((mode(folder.clone()), mode(folder.join("tpm2"))), (0o700, 0o700));
        assert_eq!(mode(dir.path().join(name)), 0o600);
        assert_eq!(fs::read(dir.path().join(name)).unwrap(), b"key");
    }

    fn at(seconds: u64, millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(millis)
    }

    #[test]
    fn no_stream_and_no_sidecar_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = PointFiles::new(dir.path(), at(1000, 0));
        for (name, is_stream) in
            [("vda.inc.virtnbdbackup.1.data", true), ("vda.inc.virtnbdbackup.1.idx", false)]
        {
            let file = File::create(files.partial_path(name)).unwrap();
            fs::write(dir.path().join(name), "older").unwrap();
            if is_stream {
                files.add_stream(name, &file).unwrap()
            } else {
                files.add_sidecar(name, &file).unwrap()
            }
        }
        let archived = ["vda.inc.virtnbdbackup.1.data".to_owned(), "vda.inc.virtnbdbackup.1.idx".to_owned()];
        files.make_way(&archived).unwrap();
        assert!(files.make_way(&[]).is_err(), "a stream is in the way");
        assert!(files.publish(None, &|_| {}).is_err(), "it came later");
        fs::rename(dir.path().join(&archived[0]), dir.path().join("moved")).unwrap();
        files.make_way(&[]).unwrap();
        let aside = dir.path().join("vda.inc.virtnbdbackup.1.idx.old.1");
        assert_eq!(fs::read_to_string(aside).unwrap(), "older");
        files.publish(None, &|_| {}).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("moved")).unwrap(), "older");
    }

    #[test]
    fn publishes_everything_under_its_final_name_with_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = PointFiles::new(dir.path(), at(1000, 0));
        let stream = File::create(files.partial_path("vda.full.data")).unwrap();
        files.add_stream("vda.full.data", &stream).unwrap();
        files.add_small("checkpoints/virtnbdbackup.0.xml", b"<x/>").unwrap();
        files.add_earlier("vdb.full.data.chksum", b"1", at(900, 0)).unwrap();
        files.set_marker("web.cpt", "[]").unwrap();
        let named: Vec<&str> = files.identities().iter().map(|file| file.name.as_str()).collect();
        assert_eq!(named, ["checkpoints/virtnbdbackup.0.xml", "web.cpt"]);
        files.publish(None, &|_| {}).unwrap();
        for name in ["vda.full.data", "checkpoints/virtnbdbackup.0.xml", "web.cpt"] {
            assert_eq!(
                fs::metadata(dir.path().join(name)).unwrap().modified().unwrap(),
                at(1000, 0),
                "{name}"
            );
        }
        let earlier = fs::metadata(dir.path().join("vdb.full.data.chksum")).unwrap();
        assert_eq!(earlier.modified().unwrap(), at(900, 0));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    }
}
