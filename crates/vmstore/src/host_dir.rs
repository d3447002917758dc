//! What a host keeps of its own outside of all backups, in `/var/lib/vmbackup`: which trees it has seen at which backup
//! path, on which file system, and an id of its own where it has no machine-id.
//!
//! Must not live here: what follows from it (`root`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::file_system::Place;

/// Where it is, unless the environment says otherwise.
const HOST_DIR: &str = "/var/lib/vmbackup";

/// The variable that says so: tests have a folder of their own.
const VARIABLE: &str = "VMBACKUP_LIB_DIR";

/// Where systemd keeps the id of the machine.
const SYSTEM_ID: &str = "/etc/machine-id";

const SCHEMA: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDir {
    dir: PathBuf,
}

/// A tree that was seen at a backup path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenRoot {
    /// The tree's id.
    pub id: String,
    /// Where it was.
    #[serde(flatten)]
    pub place: Place,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Roots {
    schema: u32,
    /// Backup path → what was seen there.
    paths: BTreeMap<String, Vec<SeenRoot>>,
}

impl HostDir {
    /// The folder of this host, by its environment. Touches nothing.
    pub fn of(environment: &BTreeMap<String, String>) -> Self {
        let given = environment.get(VARIABLE).filter(|dir| !dir.is_empty());
        Self { dir: given.map_or(HOST_DIR, String::as_str).into() }
    }

    /// The file of trees that were seen.
    pub fn roots_file(&self) -> PathBuf {
        self.dir.join("roots")
    }

    fn id_file(&self) -> PathBuf {
        self.dir.join("machine-id")
    }

    /// What tells this host from others: an id of our own where one was made, else the machine-id. Empty where there is
    /// neither; [`HostDir::make_machine_id`] makes one.
    ///
    /// Source: machine-id(5): 32 digits; `uninitialized` or nothing before the first boot is over.
    pub fn machine_id(&self) -> String {
        let read = |path: &Path| fs::read_to_string(path).ok().and_then(|text| usable(text.trim()));
        read(&self.id_file()).or_else(|| read(Path::new(SYSTEM_ID))).unwrap_or_default()
    }

    /// The same, and makes an id where there is none.
    pub fn make_machine_id(&self) -> io::Result<String> {
        let known = self.machine_id();
        if !known.is_empty() {
            return Ok(known);
        }
        let _lock = self.lock()?;
        let made_meanwhile = self.machine_id();
        if !made_meanwhile.is_empty() {
            return Ok(made_meanwhile);
        }
        let id = random_id()?;
        self.replace(&self.id_file(), format!("{id}\n").as_bytes())?;
        Ok(id)
    }

    /// What was seen at a backup path. None where nothing was.
    pub fn seen_at(&self, backup_path: &Path) -> io::Result<Vec<SeenRoot>> {
        Ok(self.read()?.paths.remove(&key(backup_path)).unwrap_or_default())
    }

    /// Notes that a tree was seen at a backup path. Writes only what is new.
    pub fn note(&self, backup_path: &Path, seen: SeenRoot) -> io::Result<()> {
        if self.seen_at(backup_path)?.contains(&seen) {
            return Ok(());
        }
        let _lock = self.lock()?;
        let mut roots = self.read()?;
        let of_path = roots.paths.entry(key(backup_path)).or_default();
        if !of_path.contains(&seen) {
            of_path.push(seen);
        }
        roots.schema = SCHEMA;
        self.replace(&self.roots_file(), &serde_json::to_vec_pretty(&roots)?)
    }

    fn read(&self) -> io::Result<Roots> {
        match fs::read(self.roots_file()) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Roots::default()),
            Err(error) => Err(error),
        }
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        durable::replace(path, 0o600, content)
    }

    /// Instances of other backup paths begin in the same minute. Given back when the descriptor is closed.
    fn lock(&self) -> io::Result<File> {
        fs::create_dir_all(&self.dir)?;
        let lock = File::open(&self.dir)?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        Ok(lock)
    }
}

/// An id nobody else has: 32 digits.
pub(super) fn random_id() -> io::Result<String> {
    // Source: random(4). A new UUID at each reading.
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(uuid.trim().replace('-', ""))
}

fn usable(id: &str) -> Option<String> {
    let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_id && id.bytes().any(|byte| byte != b'0')).then(|| id.to_owned())
}

fn key(backup_path: &Path) -> String {
    // Without a slash at the end.
    backup_path.components().collect::<PathBuf>().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_its_own_is_made_once_and_counts_before_the_systems() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostDir { dir: dir.path().join("lib") };
        assert_eq!(usable("uninitialized"), None);
        assert_eq!(usable(&"0".repeat(32)), None);
        fs::create_dir(&host.dir).unwrap();
        let own = random_id().unwrap();
        assert_eq!(usable(&own), Some(own.clone()));
        fs::write(host.id_file(), &own).unwrap();
        assert_eq!((host.machine_id(), host.make_machine_id().unwrap()), (own.clone(), own));
    }

    #[test]
    fn trees_are_noted_by_path_each_once() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostDir { dir: dir.path().join("lib") };
        let place = |file_system: &str| Place { file_system: file_system.into(), folder: "/".into() };
        let seen = |id: &str, at: &str| SeenRoot { id: id.into(), place: place(at) };
        assert_eq!(host.seen_at(Path::new("/b")).unwrap(), []);
        for (path, id, at) in
            [("/b/", "1", "uuid:a"), ("/b", "1", "uuid:a"), ("/b", "2", "uuid:b"), ("/c", "3", "uuid:a")]
        {
            host.note(Path::new(path), seen(id, at)).unwrap();
        }
        assert_eq!(host.seen_at(Path::new("/b")).unwrap(), [seen("1", "uuid:a"), seen("2", "uuid:b")]);
        assert_eq!(host.seen_at(Path::new("/c/")).unwrap(), [seen("3", "uuid:a")]);
        fs::write(host.roots_file(), "{").unwrap();
        assert!(host.seen_at(Path::new("/b")).is_err());
    }
}
