//! The folder that keeps the saved versions of the host's configuration: their names, their age, who may read them.
//!
//! Everything goes through one open folder, so that no link that is put in its place leads anywhere else.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use jiff::civil::DateTime;
use rustix::fs::{self, AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use vmstore::durable::{self, PARTIAL};

use vmstore::Store;

use super::HostConfigError;

const PREFIX: &str = "host_config_";
const SUFFIX: &str = ".tar.gz";
const TIME: &str = "%Y%m%d_%H%M%S";

/// The name of a version: `host_config_YYYYMMDD_HHMMSS.tar.gz`, in local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(DateTime);

impl Version {
    fn parse(name: &str) -> Option<Self> {
        let time = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        let version = Self(DateTime::strptime(TIME, time).ok()?);
        (version.name() == name).then_some(version)
    }

    pub(super) fn name(self) -> String {
        format!("{PREFIX}{}{SUFFIX}", self.0.strftime(TIME))
    }

    /// The next one: of now, but later than the newest whatever the clock says.
    pub(super) fn next(now: DateTime, newest: Option<Self>) -> Self {
        let second = |time: DateTime| time.with().subsec_nanosecond(0).build().unwrap_or(time);
        let after = newest.and_then(|newest| newest.0.checked_add(jiff::Span::new().seconds(1)).ok());
        Self(after.map_or(second(now), |after| after.max(second(now))))
    }
}

/// The folder, open.
#[derive(Debug)]
pub(super) struct Versions {
    fd: OwnedFd,
    path: PathBuf,
}

impl Versions {
    /// Opens the folder as it is. `None` when there is none.
    pub(super) fn look(backup_path: &Path) -> Result<Option<Self>, HostConfigError> {
        let path = Store::open(backup_path).host_config();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd, path })),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => Err(HostConfigError::NotAFolder(path)),
            Err(error) => Err(failed("open", path, error)),
        }
    }

    /// Opens the folder for writing: makes it where it is missing, closes it to everybody else, and removes what was on its
    /// way when a run died.
    pub(super) fn open(backup_path: &Path) -> Result<Self, HostConfigError> {
        let path = Store::open(backup_path).host_config();
        match fs::mkdir(&path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("create", path, error)),
        }
        let versions = Self::look(backup_path)?.ok_or_else(|| failed("open", path, Errno::NOENT))?;
        versions.close_to_others()?;
        for name in versions.names()? {
            if name.starts_with(&unfinished("")) {
                versions.remove(&name)?;
            }
        }
        Ok(versions)
    }

    fn close_to_others(&self) -> Result<(), HostConfigError> {
        if rustix::process::geteuid().is_root() {
            // Where that fails the modes decide, which are looked at next.
            let _ = fs::fchown(&self.fd, Some(Uid::ROOT), Some(Gid::ROOT));
        }
        let _ = fs::fchmod(&self.fd, Mode::RWXU);
        let about = fs::fstat(&self.fd).map_err(|error| failed("look at", self.path.clone(), error))?;
        let is_ours = about.st_uid == rustix::process::geteuid().as_raw();
        if is_ours && about.st_mode & 0o077 == 0 {
            return Ok(());
        }
        Err(HostConfigError::NotPrivate(self.path.clone()))
    }

    pub(super) fn path_of(&self, version: Version) -> PathBuf {
        self.path.join(version.name())
    }

    /// The versions, oldest first. Other files are none of ours.
    pub(super) fn all(&self) -> Result<Vec<Version>, HostConfigError> {
        let mut all: Vec<_> = self.names()?.iter().filter_map(|name| Version::parse(name)).collect();
        all.sort_unstable();
        Ok(all)
    }

    /// The names of all plain files that are text.
    fn names(&self) -> Result<Vec<String>, HostConfigError> {
        let list = || {
            let mut names = vec![];
            for entry in Dir::read_from(&self.fd)? {
                let entry = entry?;
                let about = fs::statat(&self.fd, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(about.st_mode) == FileType::RegularFile {
                    names.extend(entry.file_name().to_str().ok().map(str::to_owned));
                }
            }
            Ok(names)
        };
        list().map_err(|error: Errno| failed("list", self.path.clone(), error))
    }

    pub(super) fn read(&self, version: Version) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(fs::openat(&self.fd, version.name(), flags, Mode::empty())?.into())
    }

    /// Writes a version, which is there whole or not at all. Returns its bytes.
    pub(super) fn write(
        &self,
        version: Version,
        content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<u64, HostConfigError> {
        // Below the very folder that is open.
        let folder = PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()));
        let (partial, to) = (folder.join(unfinished(&version.name())), folder.join(version.name()));
        let written = durable::replace_through(&partial, &to, 0o600, |file| {
            let mut buffered = io::BufWriter::new(&mut *file);
            content(&mut buffered)?;
            buffered.flush()?;
            drop(buffered);
            Ok(file.metadata()?.len())
        });
        written.map_err(|source| HostConfigError::File {
            doing: "write",
            path: self.path_of(version),
            source,
        })
    }

    pub(super) fn remove_version(&self, version: Version) -> Result<(), HostConfigError> {
        self.remove(&version.name())
    }

    fn remove(&self, name: &str) -> Result<(), HostConfigError> {
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed("remove", self.path.join(name), error)),
        }
    }
}

/// What a version is called on its way.
fn unfinished(name: &str) -> String {
    format!("{PARTIAL}-{name}")
}

fn failed(doing: &'static str, path: PathBuf, error: Errno) -> HostConfigError {
    HostConfigError::File { doing, path, source: error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_config::FOLDER;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn at(text: &str) -> DateTime {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_times_and_rise_whatever_the_clock_does() {
        let version = Version::next(at("2026-11-23T03:15:07.9"), None);
        assert_eq!(version.name(), "host_config_20261123_031507.tar.gz");
        assert_eq!(Version::parse(&version.name()), Some(version));
        for (now, want) in [
            ("2026-11-24T00:00:00", "host_config_20261124_000000.tar.gz"),
            ("2026-11-23T03:15:07", "host_config_20261123_031508.tar.gz"),
            ("1999-01-01T00:00:00", "host_config_20261123_031508.tar.gz"),
        ] {
            assert_eq!(Version::next(at(now), Some(version)).name(), want);
        }
        for other in [
            "host_config_20261123_03150.tar.gz",
            "host_config_.tar.gz",
            "x",
            "host_config_20261323_031507.tar.gz",
        ] {
            assert_eq!(Version::parse(other), None, "{other}");
        }
    }

    #[test]
    fn the_folder_is_closed_and_what_was_on_its_way_goes() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(FOLDER);
        assert!(Versions::look(dir.path()).unwrap().is_none());
        std::fs::create_dir_all(folder.join("202601")).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o2750)).unwrap();
        for name in
            [".partial-host_config_20260101_000000.tar.gz", "host_config_20260101_000000.tar.gz", "notes"]
        {
            std::fs::write(folder.join(name), "").unwrap();
        }
        symlink("/etc/passwd", folder.join("host_config_20270101_000000.tar.gz")).unwrap();
        let versions = Versions::open(dir.path()).unwrap();
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
        let all = versions.all().unwrap();
        assert_eq!(all.iter().map(|v| v.name()).collect::<Vec<_>>(), ["host_config_20260101_000000.tar.gz"]);
        let next = Version::next(at("2026-01-01T00:00:00"), all.last().copied());
        assert_eq!(versions.write(next, |to| to.write_all(b"123")).unwrap(), 3);
        let mode = versions.path_of(next).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let failed =
            versions.write(Version::next(at("2026-02-01T00:00:00"), None), |_| Err(io::Error::other("full")));
        assert!(failed.unwrap_err().to_string().ends_with("host_config_20260201_000000.tar.gz: full"));
        let mut left: Vec<_> = std::fs::read_dir(&folder).unwrap().flatten().map(|e| e.file_name()).collect();
        left.sort();
        let want = [
            "202601",
            "host_config_20260101_000000.tar.gz",
            "host_config_20260101_000001.tar.gz",
            "host_config_20270101_000000.tar.gz",
            "notes",
        ];
        assert_eq!(left, want);
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("elsewhere")).unwrap();
        symlink("elsewhere", dir.path().join(FOLDER)).unwrap();
        assert!(matches!(Versions::open(dir.path()), Err(HostConfigError::NotAFolder(_))));
    }
}
