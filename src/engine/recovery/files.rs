//! The files of a run that is undone: whether they are a point, and what of them goes.
//!
//! Must not live here: the order of their renames (`commit::publish`), removing without following a link (`vmstore::remove`).

use std::fs;
use std::io;
use std::path::Path;

use super::recovered::Recovered;
use crate::engine::claims::journal::{ArchiveMove, Journal, Stage, backup_path_of};
use crate::engine::commit::archive;
use crate::engine::plan::names::partial_name;
use vmhost::identity;
use vmstore::layout::ARCHIVES;
use vmstore::presence::found;
use vmstore::remove::{Folder, FolderError};

/// What is known of the point of a run that is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// It does not exist, and nothing of it is to stay.
    None,
    /// It exists: nothing of it may go.
    Exists,
    /// It cannot be told now. Nothing of it may go, and the journal stays.
    Unknown,
}

/// Removes what there is of a point that does not exist, or settles one that does. `file` is the journal's.
pub(super) fn undo_files(journal: &Journal, file: &Path, recovered: &mut Recovered) -> Point {
    let backup_path = backup_path_of(file);
    let told = |error: &dyn std::fmt::Display, recovered: &mut Recovered| {
        recovered.failed.push(format!(
            "whether the restore point of the run exists cannot be told, so nothing of it is removed ({error})"
        ));
        Point::Unknown
    };
    let below = journal.chain_dir.strip_prefix(backup_path).unwrap_or(&journal.chain_dir);
    let dir = match Folder::below(backup_path, below) {
        Ok(Some(dir)) => dir,
        Ok(None) => return Point::None,
        Err(error) => return told(&error, recovered),
    };
    match &journal.stage {
        Stage::Copying { partial } => {
            remove_all(&dir, partial, recovered);
            archive::unclaim(&dir.held_path());
            Point::None
        }
        Stage::Publishing { archive, files, marker, marker_text } => {
            let partial: Vec<_> = files.iter().chain([marker]).map(|f| partial_name(f)).collect();
            let failed_before = recovered.failed.len();
            let point = match was_archived(&dir, archive.as_ref(), files, recovered) {
                // Nothing was renamed: whatever has a final name here is the chain that was to be archived.
                Ok(false) => Point::None,
                Ok(true) => match is_published(&dir, marker, marker_text) {
                    Ok(true) => Point::Exists,
                    Ok(false) => {
                        remove_published(&dir, files, recovered);
                        Point::None
                    }
                    Err(error) => told(&error, recovered),
                },
                Err(error) => told(&error, recovered),
            };
            if point == Point::Exists {
                let ident = journal.checkpoint.as_deref().unwrap_or("copy");
                let renewed = identity::renew(&dir.held_path(), Some(ident));
                match renewed {
                    // It is a convenience: the next point of that chain makes it again.
                    Err(e) => {
                        tracing::warn!(vm = journal.domain, "tpm-state is not the newest TPM state: {e}")
                    }
                    renewed => {
                        recovered.note("put the newest state of the TPM into tpm-state".to_owned(), renewed)
                    }
                }
            }
            if point == Point::None && recovered.failed.len() == failed_before {
                // On a file system that is full the journal cannot be written; as a rule it goes at the end of this.
                if let Err(error) = disown_published(&dir, files, &partial, journal, file) {
                    tracing::warn!(
                        vm = journal.domain,
                        "the journal still names files that are removed: {error}"
                    );
                }
            }
            if recovered.failed.is_empty() {
                remove_all(&dir, &partial, recovered);
            }
            point
        }
    }
}

/// Whether the list, or the copy's definition, says that the point exists.
///
/// # Errors
/// Also for a list that is neither the one before nor ours: somebody has gone on with the chain since, or it is damaged.
fn is_published(dir: &Folder, marker: &str, marker_text: &str) -> io::Result<bool> {
    let Some(text) = found(fs::read(dir.held_path().join(marker)))? else { return Ok(false) };
    if text == marker_text.as_bytes() || !marker.ends_with(".cpt") {
        return Ok(text == marker_text.as_bytes());
    }
    let points = |text: &[u8]| serde_json::from_slice::<Vec<String>>(text).map_err(io::Error::from);
    let (now, ours) = (points(&text)?, points(marker_text.as_bytes())?);
    if now.starts_with(&ours) {
        return Ok(true);
    }
    if ours.starts_with(&now) {
        return Ok(false);
    }
    Err(io::Error::other(format!("{marker} has other points than those the run went on from")))
}

/// Whether the previous chain is whole in the archive, or there was none to move, so that what has a final name in its
/// old place is new. A move that broke off is taken back or ended first.
fn was_archived(
    dir: &Folder,
    archive: Option<&ArchiveMove>,
    files: &[String],
    recovered: &mut Recovered,
) -> io::Result<bool> {
    let Some(archive) = archive else { return Ok(true) };
    let Some(name) = archive.to.file_name() else { return Ok(false) };
    // The archive folder is made before anything moves, and goes when a move is taken back.
    if dir.look_below(&Path::new(ARCHIVES).join(name))?.is_none() {
        return Ok(false);
    }
    // The first rename comes when the move is complete.
    if let Some(first) = files.first() {
        if dir.look_below(Path::new(&partial_name(first)))?.is_none() {
            return Ok(true);
        }
    }
    let path = dir.held_path();
    let moved = archive::settle(&path, &path.join(ARCHIVES).join(name), &archive.names)?;
    recovered.note::<io::Error>(format!("moved the previous chain to {}", archive.to.display()), Ok(moved));
    Ok(moved)
}

/// Removes what was renamed to its final name. Another file of that name stays: ours waits under its partial name then.
fn remove_published(dir: &Folder, names: &[String], recovered: &mut Recovered) {
    for name in names {
        let (name, partial) = (Path::new(name), partial_name(name));
        let is_ours = || -> Result<bool, FolderError> {
            Ok(match (dir.look_below(name)?, dir.look_below(Path::new(&partial))?) {
                (Some(there), Some(waiting)) => {
                    (there.st_dev, there.st_ino) == (waiting.st_dev, waiting.st_ino)
                }
                (there, None) => there.is_some(),
                (None, Some(_)) => false,
            })
        };
        let removed = is_ours().and_then(|ours| if ours { dir.remove_below(name) } else { Ok(false) });
        recovered.note(format!("removed unfinished {}", name.display()), removed);
    }
}

/// Says in the journal that no final name is ours any more. It may stay, because libvirt does not answer; whoever has such
/// a name when it is read again is somebody else.
fn disown_published(
    dir: &Folder,
    files: &[String],
    partial: &[String],
    journal: &Journal,
    file: &Path,
) -> Result<(), Box<dyn std::error::Error>> {
    for name in files {
        dir.sync_beside(Path::new(name))?;
    }
    let stage = Stage::Copying { partial: partial.to_vec() };
    Ok(Journal { stage, ..journal.clone() }.write(file)?)
}

fn remove_all(dir: &Folder, names: &[String], recovered: &mut Recovered) {
    for name in names {
        recovered.note(format!("removed unfinished {name}"), dir.remove_below(Path::new(name)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::claims::journal::{JournalDir, Quiesce};
    use std::path::PathBuf;

    /// The journal of a run that was publishing `files`, written, and its file.
    fn publishing(root: &Path, files: &[&str], marker: &str, marker_text: &str) -> (Journal, PathBuf) {
        let stage = Stage::Publishing {
            archive: None,
            files: files.iter().map(|name| (*name).to_owned()).collect(),
            marker: marker.to_owned(),
            marker_text: marker_text.to_owned(),
        };
        let journal = Journal {
            id: "1-2-3".into(),
            pid: 1,
            host: "h".into(),
            uri: "qemu:///system".into(),
            domain: "web".into(),
            uuid: "u".into(),
            chain_dir: root.join("web/202611"),
            socket: "/var/tmp/virtnbdbackup.1-2-3".into(),
            scratch: vec![],
            checkpoint: marker.ends_with(".cpt").then(|| "virtnbdbackup.0".to_owned()),
            images: vec![],
            markers: vec![],
            quiesce: Quiesce::None,
            held: None,
            started: None,
            stage,
        };
        fs::create_dir_all(&journal.chain_dir).unwrap();
        let file = JournalDir::open(root).unwrap().file("web");
        journal.write(&file).unwrap();
        (journal, file)
    }

    #[test]
    fn what_was_removed_once_is_not_removed_again_when_another_has_the_name() {
        let root = tempfile::tempdir().unwrap();
        let (journal, file) = publishing(root.path(), &["vda.copy.data"], "vmconfig.copy.xml", "<domain/>");
        let at = |name: &str| journal.chain_dir.join(name);
        fs::write(at("vda.copy.data"), "ours").unwrap();
        fs::write(at("vmconfig.copy.xml.partial"), "<domain/>").unwrap();
        // libvirt does not answer: the journal stays.
        let mut recovered = Recovered { failed: vec!["no answer".into()], ..Recovered::default() };
        assert_eq!(undo_files(&journal, &file, &mut recovered), Point::None);
        assert_eq!(recovered.failed, ["no answer"]);
        assert!(!at("vda.copy.data").exists());
        // Another program's copy of the VM, meanwhile.
        fs::write(at("vda.copy.data"), "another's").unwrap();
        let kept = Journal::read(&file).unwrap().unwrap();
        let mut recovered = Recovered::default();
        assert_eq!(undo_files(&kept, &file, &mut recovered), Point::None);
        assert_eq!(recovered.failed, Vec::<String>::new());
        assert_eq!(fs::read_to_string(at("vda.copy.data")).unwrap(), "another's");
        assert!(!at("vmconfig.copy.xml.partial").exists());
    }

    #[test]
    fn what_a_run_left_behind_a_mount_is_told_and_waits_until_it_is_reached() {
        let root = tempfile::tempdir().unwrap();
        let (journal, file) = publishing(root.path(), &["vda.copy.data"], "vmconfig.copy.xml", "<domain/>");
        let at = |name: &str| journal.chain_dir.join(name);
        fs::write(at("vda.copy.data.partial"), "ours").unwrap();
        let mount = |program: &str, arguments: &[&str]| {
            let ended = std::process::Command::new(program).args(arguments).arg(&journal.chain_dir).status();
            assert!(ended.unwrap().success(), "{program}");
        };
        mount("mount", &["-t", "tmpfs", "none"]);
        fs::write(at("vda.copy.data.partial"), "another's").unwrap();
        let mut recovered = Recovered::default();
        let point = undo_files(&journal, &file, &mut recovered);
        let is_theirs = at("vda.copy.data.partial").exists();
        mount("umount", &[]);
        assert_eq!((point, is_theirs, recovered.failed.len()), (Point::Unknown, true, 1));
        let place = journal.chain_dir.to_string_lossy();
        for words in ["nothing of it is removed", "is mounted at", &place, "unmount it"] {
            assert!(recovered.failed[0].contains(words), "{words:?} is not in {:?}", recovered.failed);
        }
        let mut recovered = Recovered::default();
        assert_eq!(undo_files(&journal, &file, &mut recovered), Point::None);
        assert_eq!((recovered.failed.len(), at("vda.copy.data.partial").exists()), (0, false));
    }

    #[test]
    fn a_point_that_exists_is_settled_also_without_its_copy_of_the_tpm() {
        let root = tempfile::tempdir().unwrap();
        let list = r#"["virtnbdbackup.0"]"#;
        let (journal, file) = publishing(root.path(), &["vda.full.data"], "web.cpt", list);
        let at = |name: &str| journal.chain_dir.join(name);
        fs::write(at("web.cpt"), list).unwrap();
        fs::write(at("vda.full.data"), "ours").unwrap();
        // A state that cannot be copied, as from a file that cannot be read: it is too large for one.
        fs::create_dir_all(at(".tpm-state.virtnbdbackup.0/tpm2")).unwrap();
        let state = fs::File::create(at(".tpm-state.virtnbdbackup.0/tpm2/tpm2-00.permall")).unwrap();
        state.set_len(33 << 20).unwrap();
        std::os::unix::fs::symlink(".tpm-state.virtnbdbackup.0", at("tpm-state")).unwrap();
        assert!(identity::renew(&journal.chain_dir, Some("virtnbdbackup.0")).is_err());
        let mut recovered = Recovered::default();
        assert_eq!(undo_files(&journal, &file, &mut recovered), Point::Exists);
        assert_eq!(recovered.failed, Vec::<String>::new());
        assert!(at("vda.full.data").exists());
    }
}
