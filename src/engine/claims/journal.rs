//! What a backup is about to own, on disk before it owns it.
//!
//! Whoever finds the journal of a dead run (its guard, or the next run) undoes what the journal names, and only
//! that. A checkpoint or a job that no journal names is somebody else's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::journal_lines::{self, Lines};
use crate::engine::VmTarget;
use vmstore::StateDir;
use vmstore::presence::found;

/// How the guest is kept still around backup-begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Quiesce {
    /// Not at all, or not any more.
    None,
    /// Its CPUs were paused by us.
    Paused,
    /// Its file systems were frozen by us.
    Frozen,
}

/// A run of a domain, from its start to its end: the one that is held still, or that was started for its backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainRun {
    /// libvirt's number of that run, once it is known. Without it no run of the domain counts as ours.
    pub id: Option<u32>,
    /// The boot of the host in which the number means something.
    pub boot: String,
}

/// Files of the previous chain on their way to an archive folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveMove {
    /// The archive folder.
    pub to: PathBuf,
    /// Names in the chain directory, moved in this order.
    pub names: Vec<String>,
}

/// How far the run came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Writing files under partial names. Nothing of the chain was touched.
    Copying {
        /// Names in the chain directory, with their `.partial`.
        partial: Vec<String>,
    },
    /// Renaming. The point exists once the marker file has its new content.
    Publishing {
        /// Moved away first.
        archive: Option<ArchiveMove>,
        /// Final names, renamed from their partial names after that.
        files: Vec<String>,
        /// The file renamed last: `.cpt`, or `vmconfig.copy.xml` of a copy.
        marker: String,
        /// Its new content.
        marker_text: String,
    },
}

/// The journal of one domain's backup. Paths are whole here, and relative to the backup path in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// Identifies the run; also stands in the checkpoint's description.
    pub id: String,
    /// Process that wrote it.
    pub pid: u32,
    /// The machine it ran on: a backup path can be shared. Empty of older programs on a machine without an id.
    #[serde(default)]
    pub host: String,
    pub uri: String,
    /// Name of the domain.
    pub domain: String,
    /// UUID of the domain: a domain of the same name made later is another one.
    pub uuid: String,
    /// Where the chain is.
    pub chain_dir: PathBuf,
    /// Socket of our backup job. The job is ours if its XML names it.
    pub socket: PathBuf,
    /// Scratch files of our backup job.
    pub scratch: Vec<PathBuf>,
    /// Checkpoint of this run, for a domain that runs.
    pub checkpoint: Option<String>,
    /// Images the checkpoint has bitmaps in.
    pub images: Vec<PathBuf>,
    /// Chain markers that the run adds or removes, by way of a checkpoint of that name.
    #[serde(default, rename = "witnesses")]
    pub markers: Vec<String>,
    /// How the guest is kept still.
    #[serde(rename = "stop")]
    pub quiesce: Quiesce,
    /// Which run of the domain that is: of another one nothing is held. `None` in journals of earlier versions.
    #[serde(default)]
    pub held: Option<DomainRun>,
    /// The domain was shut off, and we start it.
    #[serde(default)]
    pub started: Option<DomainRun>,
    /// How far the run came.
    pub stage: Stage,
}

/// The journal could not be kept.
#[derive(Debug, thiserror::Error)]
#[error(
    "Cannot {doing} journal {}: {source}. It names what an earlier run left behind; if it is damaged, look at the VM's job and \
     checkpoints (virsh domjobinfo, virsh checkpoint-list) before it is deleted", path.display()
)]
pub struct JournalError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// What tells this boot of the machine from others.
///
/// Source: random(4).
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// Where the journals of a backup path are kept.
#[derive(Clone, Debug)]
pub struct JournalDir {
    state: StateDir,
}

impl JournalDir {
    /// The folder below a backup path. Creates it.
    pub fn open(backup_path: &Path) -> Result<Self, JournalError> {
        let state = StateDir::of(backup_path);
        let dir = state.journals();
        fs::create_dir_all(&dir).map_err(|source| JournalError {
            doing: "create the folder of",
            path: dir.clone(),
            source,
        })?;
        Ok(Self { state })
    }

    /// The journal file of a domain, by the folder name its backups have.
    pub fn file(&self, vm_folder: &str) -> PathBuf {
        self.state.journal(vm_folder)
    }

    /// Journals that were left behind, each with its folder name.
    pub fn left_behind(&self) -> Result<Vec<String>, JournalError> {
        let failed =
            |source| JournalError { doing: "list the folder of", path: self.state.journals(), source };
        let mut folders = Vec::new();
        for entry in fs::read_dir(self.state.journals()).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if let Some(folder) = name.to_str().and_then(|n| n.strip_suffix(".json")) {
                folders.push(folder.to_owned());
            }
        }
        folders.sort();
        Ok(folders)
    }
}

impl Journal {
    /// A run of this process for a domain, which owns nothing yet. `socket` is that of its job, or of its servers.
    pub(crate) fn new(vm: &VmTarget, machine_id: &str, id: String, socket: PathBuf) -> Self {
        Self {
            id,
            pid: std::process::id(),
            host: machine_id.to_owned(),
            uri: vm.domain.host().uri().to_owned(),
            domain: vm.domain.name().to_owned(),
            uuid: vm.domain.uuid().to_owned(),
            chain_dir: vm.chain_dir.clone(),
            socket,
            scratch: vec![],
            checkpoint: None,
            images: vec![],
            markers: vec![],
            quiesce: Quiesce::None,
            held: None,
            started: None,
            stage: Stage::Copying { partial: vec![] },
        }
    }

    /// Names further partial files, before it is written.
    pub(crate) fn add_partial(&mut self, names: Vec<String>) {
        if let Stage::Copying { partial } = &mut self.stage {
            partial.extend(names);
        }
    }

    /// Reads a journal. `None` when there is none. One that cannot be understood, or names what no run of ours makes, is
    /// an error, not nothing: what it names would stay behind for ever.
    pub fn read(path: &Path) -> Result<Option<Self>, JournalError> {
        let failed = |source| JournalError { doing: "read", path: path.to_owned(), source };
        let Some(bytes) = found(fs::read(path)).map_err(failed)? else { return Ok(None) };
        let stored: Self = journal_lines::newest(&bytes).map_err(|e| failed(e.into()))?;
        let checked = stored.checked_below(backup_path_of(path));
        checked.map(Some).map_err(|why| JournalError {
            doing: "believe",
            path: path.to_owned(),
            source: io::Error::other(why),
        })
    }

    /// Writes the journal and syncs it, in one step as seen from outside.
    pub fn write(&self, path: &Path) -> Result<(), JournalError> {
        let written = self.stored(path).and_then(|state| journal_lines::write(path, &state));
        written.map_err(|source| not_written(path, source))
    }

    /// What stands in the file.
    fn stored(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(&self.to_stored(backup_path_of(path)))?)
    }

    /// Removes a journal: nothing is claimed any more. Should the host fail now, the next run may find it again: what it names
    /// is done or undone then, and that is seen.
    pub fn remove(path: &Path) -> Result<(), JournalError> {
        let removed = found(fs::remove_file(path)).map(drop);
        removed.map_err(|source| JournalError { doing: "remove", path: path.to_owned(), source })
    }
}

/// The journal of a run that is under way, open.
pub(super) struct OpenJournal {
    path: PathBuf,
    lines: Lines,
    /// What is on disk of it.
    kept: Journal,
}

impl OpenJournal {
    /// Writes a journal, on disk when this returns.
    pub(super) fn begin(path: &Path, journal: &Journal) -> Result<Self, JournalError> {
        let lines = journal.stored(path).and_then(|state| Lines::create(path, &state));
        let lines = lines.map_err(|source| not_written(path, source))?;
        Ok(Self { path: path.to_owned(), lines, kept: journal.clone() })
    }

    /// Writes how the journal stands now, on disk when this returns.
    pub(super) fn note(&mut self, journal: &Journal) -> Result<(), JournalError> {
        self.put(journal, Lines::add)?;
        self.kept = journal.clone();
        Ok(())
    }

    /// The same where only the guest is held otherwise: once the host has failed, no guest is held. Waits for no disk.
    pub(super) fn note_guest(&mut self, journal: &Journal) -> Result<(), JournalError> {
        if *journal == self.kept {
            return self.lines.take_back().map_err(|source| not_written(&self.path, source));
        }
        self.put(journal, Lines::add_of_this_boot)
    }

    fn put(
        &mut self,
        journal: &Journal,
        add: fn(&mut Lines, &[u8]) -> io::Result<()>,
    ) -> Result<(), JournalError> {
        let added = journal.stored(&self.path).and_then(|state| add(&mut self.lines, &state));
        added.map_err(|source| not_written(&self.path, source))
    }
}

fn not_written(path: &Path, source: io::Error) -> JournalError {
    JournalError { doing: "write", path: path.to_owned(), source }
}

/// The backup path that a journal file lies in: `BACKUP_PATH/_state/journal/VM.json`.
pub(crate) fn backup_path_of(file: &Path) -> &Path {
    file.ancestors().nth(3).unwrap_or(file)
}

#[cfg(test)]
pub(in crate::engine) mod tests {
    use super::*;

    pub(in crate::engine) fn journal(backup_path: &Path) -> Journal {
        Journal {
            id: "1-2-3".into(),
            pid: 1,
            host: "h".into(),
            uri: "qemu:///system".into(),
            domain: "web 1".into(),
            uuid: "u".into(),
            chain_dir: backup_path.join("web_1/202611"),
            socket: "/var/tmp/virtnbdbackup.1-2-3".into(),
            scratch: vec![],
            checkpoint: Some("virtnbdbackup.0".into()),
            images: vec![],
            markers: vec![],
            quiesce: Quiesce::Paused,
            held: Some(DomainRun { id: Some(7), boot: "b".into() }),
            started: None,
            stage: Stage::Copying { partial: vec!["vda.full.data.partial".into()] },
        }
    }

    #[test]
    fn is_read_back_as_written_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let journals = JournalDir::open(dir.path()).unwrap();
        let path = journals.file("web_1");
        assert_eq!(Journal::read(&path).unwrap(), None);
        journal(dir.path()).write(&path).unwrap();
        assert_eq!(Journal::read(&path).unwrap(), Some(journal(dir.path())));
        assert_eq!(journals.left_behind().unwrap(), ["web_1"]);
        Journal::remove(&path).unwrap();
        assert!(journals.left_behind().unwrap().is_empty());
    }

    #[test]
    fn a_journal_that_is_damaged_or_names_what_is_not_ours_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = JournalDir::open(dir.path()).unwrap().file("x");
        fs::write(&path, "{").unwrap();
        assert!(Journal::read(&path).is_err());
        let planted = Journal { scratch: vec!["/etc/passwd".into()], ..journal(dir.path()) };
        planted.write(&path).unwrap();
        let refused = Journal::read(&path).unwrap_err().to_string();
        assert!(refused.contains("its scratch file /etc/passwd is none of ours"), "{refused}");
    }
}
