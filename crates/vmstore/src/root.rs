//! Whose tree lies at a backup path: `_state/root.json` names it and the host that writes to it.
//!
//! ```text
//! root.json  of this host                                   ─► ours
//!            of another host                                ─► may be read, not written to
//!            missing, path never seen, fstab's disk missing ─► not mounted yet
//!            missing, path never seen                       ─► new, or of an older program: taken over
//!            missing, path seen, on this file system        ─► emptied by hand: goes on, with a warning
//!            missing, path seen, only on other file systems ─► not mounted
//! ```
//! Must not live here: the lock under which it is written, what people are asked.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::file_system::{Place, missing_mount};
use crate::host_dir::{HostDir, SeenRoot, random_id};
use crate::{StateDir, durable};

const SCHEMA: u32 = 1;

/// What `_state/root.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFile {
    schema: u32,
    /// Tells this tree from others.
    pub id: String,
    /// The host that writes to it.
    pub machine_id: String,
    /// Its name, for people.
    #[serde(default)]
    pub host: String,
}

/// How a host stands to the tree at a backup path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It writes to it.
    Ours,
    /// Nobody has named it yet.
    New,
    /// It was there, on this file system, and is empty now.
    Emptied,
    /// It was there, on these file systems, and this is none of them.
    NotMounted(Vec<Place>),
    /// It was never seen here, and fstab mounts a disk in this folder, which is not there.
    NotMountedYet(PathBuf),
    /// Another host writes to it.
    OtherHost,
    /// `root.json` cannot be understood.
    Damaged(String),
}

/// What helps, as the texts of [`RootError`] end.
const NEW_DISK: &str = "mount it; if this is a new disk for that path: vmbackup --init";
const ONE_HOST: &str = "give each a folder of its own; if that host writes there no more (it was built anew, or this is its replica): vmbackup --init";
const THIS_HOST: &str = "if it is this one: vmbackup --init";

fn mount_first(point: &Path) -> String {
    format!("mount it (mount {}); if backups belong beside it all the same: vmbackup --init", point.display())
}

/// Why a backup path is not written to.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The disk is not there.
    #[error(
        "BACKUP_PATH {} is on {place}, which is not where backups of this path were seen ({}), and has no _state/root.json. Is the \
         disk not mounted? Nothing was written: {}",
        path.display(),
        seen.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        NEW_DISK
    )]
    NotMounted {
        path: PathBuf,
        /// Where it is now.
        place: Place,
        /// Where it was.
        seen: Vec<Place>,
    },
    /// The disk was never there.
    #[error(
        "BACKUP_PATH {} has no backups, and {}, where /etc/fstab mounts a disk, has none mounted. Nothing was written: {}",
        path.display(), point.display(), mount_first(point)
    )]
    NotMountedYet {
        path: PathBuf,
        /// Where the disk should be.
        point: PathBuf,
    },
    /// Another host writes there.
    #[error(
        "BACKUP_PATH {} is written to by another host, {host} (machine-id {machine_id}). Two hosts in one tree would archive each \
         other's chains: {}. Reading works: --status, --check, --prune list, --dry-run", path.display(), ONE_HOST
    )]
    OtherHost {
        path: PathBuf,
        /// The host's name.
        host: String,
        /// The host's id.
        machine_id: String,
    },
    /// The file tells nothing.
    #[error(
        "{} is damaged: {why}. It tells which host writes to this tree; {}", path.display(), THIS_HOST
    )]
    Damaged {
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Something could not be read: that is not the same as missing.
    #[error("Cannot read {}: {source}. Whose backups these are cannot be told, so nothing was written", path.display())]
    Unreadable {
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl RootError {
    /// What helps, where that is known. The text says it too.
    pub fn fix(&self) -> Option<String> {
        match self {
            Self::NotMounted { .. } => Some(NEW_DISK.to_owned()),
            Self::NotMountedYet { point, .. } => Some(mount_first(point)),
            Self::OtherHost { .. } => Some(ONE_HOST.to_owned()),
            Self::Damaged { .. } => Some(THIS_HOST.to_owned()),
            Self::Unreadable { .. } => None,
        }
    }
}

/// A backup path as it was found, and the host that looked.
#[derive(Clone, Debug)]
pub struct Root {
    backup_path: PathBuf,
    host: HostDir,
    /// What tells this host from others; may be empty before anything was written.
    pub machine_id: String,
    /// What the tree says of itself.
    pub file: Option<RootFile>,
    pub place: Place,
    /// How this host stands to it.
    pub standing: Standing,
}

impl Root {
    /// Looks whose tree is there. Touches nothing.
    pub fn look(backup_path: &Path, host: &HostDir) -> Result<Self, RootError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            |source| RootError::Unreadable { path, source }
        };
        let path = file_of(backup_path);
        let read = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<RootFile>(&bytes).map(Some).map_err(|e| e.to_string()),
            // `_state` may be a file, in the way.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(source) => return Err(RootError::Unreadable { path, source }),
        };
        let place = Place::of(backup_path).map_err(unreadable(backup_path))?;
        let machine_id = host.machine_id();
        // What was seen decides nothing where the tree tells by itself.
        let seen = match &read {
            Ok(None) => host.seen_at(backup_path).map_err(unreadable(&host.roots_file()))?,
            _ => vec![],
        };
        let missing = || missing_mount(backup_path).filter(|_| is_without_state(backup_path));
        let standing = standing(&read, &machine_id, &place, &seen, missing);
        let (file, host) = (read.unwrap_or_default(), host.clone());
        Ok(Self { backup_path: backup_path.to_owned(), host, machine_id, file, place, standing })
    }

    /// Why this host must not write there, if so.
    pub fn refusal(&self) -> Option<RootError> {
        let path = self.backup_path.clone();
        match (&self.standing, &self.file) {
            (Standing::NotMounted(seen), _) => {
                Some(RootError::NotMounted { path, place: self.place.clone(), seen: seen.clone() })
            }
            (Standing::NotMountedYet(point), _) => {
                Some(RootError::NotMountedYet { path, point: point.clone() })
            }
            (Standing::OtherHost, Some(file)) => Some(RootError::OtherHost {
                path,
                host: file.host.clone(),
                machine_id: file.machine_id.clone(),
            }),
            (Standing::Damaged(why), _) => {
                Some(RootError::Damaged { path: file_of(&path), why: why.clone() })
            }
            _ => None,
        }
    }

    /// Names a tree that has no name yet, and notes that it was seen here. To be called with the session's lock held; looks once
    /// more, because another host may have come before.
    ///
    /// # Errors
    /// As [`Root::refusal`]. What cannot be written is in the second value: it stops no backup.
    pub fn settle(self) -> Result<(Self, Vec<String>), RootError> {
        let mut root = Self::look(&self.backup_path, &self.host)?;
        if let Some(refusal) = root.refusal() {
            return Err(refusal);
        }
        let mut failed = Vec::new();
        let named = if root.file.is_none() { root.write() } else { Ok(()) };
        if let Err(error) = named.and_then(|()| root.note()) {
            failed.push(error.to_string());
        }
        Ok((root, failed))
    }

    /// Makes the tree this host's, under a new id. To be called with the session's lock held.
    pub fn claim(&mut self) -> io::Result<()> {
        self.write()?;
        self.standing = Standing::Ours;
        self.note()
    }

    fn write(&mut self) -> io::Result<()> {
        self.machine_id = self.host.make_machine_id()?;
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let file = RootFile {
            schema: SCHEMA,
            id: random_id()?,
            machine_id: self.machine_id.clone(),
            host: name.trim().to_owned(),
        };
        StateDir::of(&self.backup_path).make()?;
        let path = file_of(&self.backup_path);
        durable::replace(&path, 0o640, &serde_json::to_vec_pretty(&file)?)?;
        self.file = Some(file);
        Ok(())
    }

    fn note(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let seen = SeenRoot { id: file.id.clone(), place: self.place.clone() };
        self.host.note(&self.backup_path, seen).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", self.host.roots_file().display()))
        })
    }
}

fn file_of(backup_path: &Path) -> PathBuf {
    StateDir::of(backup_path).path().join("root.json")
}

/// Whether no program of ours and no Bash program has kept anything there.
fn is_without_state(backup_path: &Path) -> bool {
    matches!(StateDir::of(backup_path).path().try_exists(), Ok(false))
}

/// The table in this module's first lines.
fn standing(
    read: &Result<Option<RootFile>, String>,
    machine_id: &str,
    place: &Place,
    seen: &[SeenRoot],
    missing: impl Fn() -> Option<PathBuf>,
) -> Standing {
    match read {
        Err(why) => Standing::Damaged(why.clone()),
        Ok(Some(file)) if file.machine_id == machine_id => Standing::Ours,
        Ok(Some(_)) => Standing::OtherHost,
        Ok(None) if seen.is_empty() => missing().map_or(Standing::New, Standing::NotMountedYet),
        Ok(None) if seen.iter().any(|seen| seen.place == *place) => Standing::Emptied,
        Ok(None) => {
            let mut places: Vec<Place> = Vec::new();
            for seen in seen {
                if !places.contains(&seen.place) {
                    places.push(seen.place.clone());
                }
            }
            Standing::NotMounted(places)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table() {
        let place = |name: &str| Place { file_system: name.into(), folder: "/".into() };
        let file = |machine_id: &str| {
            let [id, host] = ["1", "a"].map(str::to_owned);
            Ok(Some(RootFile { schema: 1, id, machine_id: machine_id.into(), host }))
        };
        let seen = |names: &[&str]| {
            let seen = |name: &&str| SeenRoot { id: (*name).into(), place: place(name) };
            names.iter().map(seen).collect::<Vec<_>>()
        };
        let not_mounted =
            |names: &[&str]| Standing::NotMounted(names.iter().map(|name| place(name)).collect());
        let none = Ok(None);
        let cases = [
            (file("m"), vec![], Standing::Ours),
            (file("m"), seen(&["b"]), Standing::Ours),
            (file("n"), seen(&["a"]), Standing::OtherHost),
            (none.clone(), vec![], Standing::New),
            (none.clone(), seen(&["b", "a"]), Standing::Emptied),
            (none.clone(), seen(&["b", "c", "b"]), not_mounted(&["b", "c"])),
            (Err("x".to_owned()), seen(&["a"]), Standing::Damaged("x".to_owned())),
        ];
        for (read, seen, want) in cases {
            assert_eq!(standing(&read, "m", &place("a"), &seen, || None), want, "{read:?} {seen:?}");
        }
        // Who has no id is nobody's host.
        assert_eq!(standing(&file("m"), "", &place("a"), &[], || None), Standing::OtherHost);
        let missing = || Some(PathBuf::from("/mnt"));
        let not_yet = Standing::NotMountedYet("/mnt".into());
        assert_eq!(standing(&none, "m", &place("a"), &[], missing), not_yet);
        assert_eq!(standing(&none, "m", &place("a"), &seen(&["a"]), missing), Standing::Emptied);
        assert_eq!(standing(&file("m"), "m", &place("a"), &[], missing), Standing::Ours);
    }
}
