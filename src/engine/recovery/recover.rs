//! Undoes what a journal names: the guest first, then the job, the checkpoint, the files.
//!
//! Used by a run that fails, by the guard of a run that died, and by the next run. Every step may be repeated;
//! nothing that the journal does not name is touched.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::engine::claims::journal::{ArchiveMove, DomainRun, Journal, Stage, Stop, backup_path_of, boot_id};
use crate::engine::claims::left_by_job;
use crate::engine::domain::xml::Owner;
use crate::engine::image::qemu_img;
use crate::engine::plan::names::partial_name;
use crate::engine::snapshot::encryption;
use crate::engine::snapshot::thaw::thaw;
use crate::engine::snapshot::witness;
use vmhost::identity;
use vmhost::libvirt::{CheckpointDelete, Domain, DomainState, ErrorKind, Host, LibvirtError};
use vmstore::layout::ARCHIVES;
use vmstore::presence::found;
use vmstore::remove::{Folder, FolderError};

/// How long a guest is asked to thaw before we give up asking.
const THAW_PATIENCE: Duration = Duration::from_secs(20);

/// How often state is looked at while waiting for it to change.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a job may take to be gone whose point is given up.
const JOB_END_LIMIT: Duration = Duration::from_secs(30);

/// How long a job may take to be gone whose disks are copied.
///
/// As a rule it takes some ten milliseconds. But libvirt handles the end of a job in the thread that also handles an
/// agent's channel going away or coming back, and for those it waits 30 s each, in vain, while there is a backup job
/// (`processSerialChangedEvent` takes a job that the mask set in `qemuBackupBegin` does not allow). An agent that is
/// restarted meanwhile costs a minute.
const COPIED_JOB_END_LIMIT: Duration = Duration::from_secs(300);

/// From when on people are told what is waited for.
const JOB_END_TELL: Duration = Duration::from_secs(5);

/// What was undone, in words for the log, and what could not be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// What was done.
    pub done: Vec<String>,
    /// What could not be done; the journal must stay.
    pub failed: Vec<String>,
    /// The dead run had got so far that its point exists.
    pub committed: bool,
    /// The guest was frozen by the run, and does not confirm that it is thawed.
    pub still_frozen: bool,
    /// The guest was seen to be held by the run, and then to be free.
    pub freed: bool,
    /// The run had started the domain, and somebody has resumed it since: it goes on.
    pub resumed: bool,
}

/// What became of a domain that was started for its backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The run that was ours is over.
    Over {
        /// By us, now.
        now: bool,
    },
    /// Somebody has resumed it: it is theirs.
    Resumed,
}

impl Recovered {
    fn note<E: std::fmt::Display>(&mut self, what: String, result: Result<bool, E>) {
        match result {
            Ok(true) => self.done.push(what),
            Ok(false) => {}
            Err(e) => self.failed.push(format!("{what}: {e}")),
        }
    }
}

/// Undoes everything that the journal names. The journal itself, `file`, is the caller's to remove, once nothing failed.
pub fn undo(journal: &Journal, file: &Path, host: &Host) -> Recovered {
    let mut recovered = Recovered::default();
    match find(journal, host) {
        Ok(Some(domain)) => {
            let name = &journal.domain;
            let released = release_guest(&domain, journal);
            recovered.freed = matches!(released, Ok(true));
            // No error: an agent that is dead for good must not stop all further backups.
            recovered.still_frozen = journal.stop == Stop::Frozen
                && !matches!(released, Ok(true))
                && is_held_run(&domain, journal).unwrap_or(true)
                && domain.state().is_ok_and(DomainState::is_active);
            recovered.note(format!("let the guest of {name} run on"), released);
            recovered.note(format!("ended the backup job of {name}"), end_job(&domain, journal));
            let point = undo_files(journal, file, &mut recovered);
            recovered.committed = point == Point::Exists;
            if point == Point::None {
                drop_checkpoint(&domain, journal, &mut recovered);
                let what = "took back marks in the images".to_owned();
                recovered.note(what, witness::undo(&domain, journal));
            }
            if let Some(started) = &journal.started {
                let ended = end_started(&domain, started);
                recovered.resumed = matches!(ended, Ok(Ended::Resumed));
                let what = format!("shut {name} off, which was started for its backup");
                recovered.note(what, ended.map(|ended| ended == Ended::Over { now: true }));
            }
        }
        // The domain was undefined meanwhile; its checkpoint went with it.
        Ok(None) => recovered.committed = undo_files(journal, file, &mut recovered) == Point::Exists,
        Err(e) => recovered.failed.push(e.to_string()),
    }
    host.forget_secret(&encryption::scratch_usage(&journal.id));
    if recovered.failed.is_empty() {
        remove_left_by_job(journal, &mut recovered);
    }
    recovered
}

fn remove_left_by_job(journal: &Journal, recovered: &mut Recovered) {
    let files = left_by_job::files(journal);
    match left_by_job::remove(&files) {
        Ok(removed) => {
            let each = files.iter().zip(removed);
            each.for_each(|(file, removed)| recovered.note(format!("removed {}", file.display()), removed));
        }
        Err(error) => recovered.failed.push(format!("removed scratch files: {error}")),
    }
}

/// The domain a journal speaks of, unless it is gone.
pub(crate) fn find(journal: &Journal, host: &Host) -> Result<Option<Domain>, LibvirtError> {
    match host.domain(&journal.domain) {
        Ok(domain) if domain.uuid() == journal.uuid => Ok(Some(domain)),
        // Another domain under the old name: renamed or defined anew. Look by UUID.
        Ok(_) => Ok(host.domains()?.into_iter().find(|d| d.uuid() == journal.uuid)),
        Err(e) if e.kind == ErrorKind::NoDomain => {
            Ok(host.domains()?.into_iter().find(|d| d.uuid() == journal.uuid))
        }
        Err(e) => Err(e),
    }
}

/// Shuts off a domain that was started for its backup, unless somebody has resumed it.
pub(crate) fn end_started(domain: &Domain, started: &DomainRun) -> Result<Ended, LibvirtError> {
    let is_ours = started.id.is_some() && started.boot == boot_id() && domain.id()? == started.id;
    if !is_ours {
        return Ok(Ended::Over { now: false });
    }
    match domain.state()? {
        // A guest that sleeps, or that an I/O error stopped, ran before: somebody had resumed it.
        DomainState::Paused if domain.is_paused_on_request()? => {
            domain.destroy().map(|()| Ended::Over { now: true })
        }
        state if state.is_active() => Ok(Ended::Resumed),
        _ => Ok(Ended::Over { now: false }),
    }
}

/// Whether the domain still is in the run that the journal says is held: after a restart of the VM, or of the host,
/// nothing of ours holds it.
pub(crate) fn is_held_run(domain: &Domain, journal: &Journal) -> Result<bool, LibvirtError> {
    match &journal.held {
        Some(held) => Ok(held.boot == boot_id() && domain.id()? == held.id),
        None => Ok(domain.state()?.is_active()),
    }
}

/// Thaws or resumes the guest. `Ok(false)` when there was nothing to do.
pub(crate) fn release_guest(domain: &Domain, journal: &Journal) -> Result<bool, LibvirtError> {
    if journal.stop == Stop::None || !is_held_run(domain, journal)? {
        return Ok(false);
    }
    match journal.stop {
        Stop::Paused if domain.is_paused_on_request()? => domain.resume().map(|()| true),
        Stop::Frozen => Ok(thaw(domain, THAW_PATIENCE)),
        _ => Ok(false),
    }
}

/// Ends the backup job if it is the journal's, and waits until it is gone. `Ok(false)` when there is none.
pub(crate) fn end_job(domain: &Domain, journal: &Journal) -> Result<bool, LibvirtError> {
    end_job_within(domain, journal, JOB_END_LIMIT, &|| false)
}

/// The same for a job whose disks are copied: a point that is whole is worth waiting for, until `stopped`.
pub(crate) fn end_copied_job(
    domain: &Domain,
    journal: &Journal,
    stopped: &dyn Fn() -> bool,
) -> Result<bool, LibvirtError> {
    end_job_within(domain, journal, COPIED_JOB_END_LIMIT, stopped)
}

fn end_job_within(
    domain: &Domain,
    journal: &Journal,
    limit: Duration,
    stopped: &dyn Fn() -> bool,
) -> Result<bool, LibvirtError> {
    if !has_job(domain, journal)? {
        return Ok(false);
    }
    let began = Instant::now();
    let mut told = false;
    let mut pause = Duration::from_millis(5);
    let mut ended = domain.abort_job();
    // Asked each time before it is told to end: another job may have come after ours.
    while has_job(domain, journal)? {
        if pause == LOOK_EVERY {
            // Refused before, perhaps because another call held the domain.
            ended = domain.abort_job();
        }
        if began.elapsed() >= limit || stopped() {
            // Neither gone nor refused: somebody must go on trying, with the journal.
            return Err(ended
                .err()
                .unwrap_or_else(|| LibvirtError::still_there("end the backup job", domain.name())));
        }
        if !told && began.elapsed() >= JOB_END_TELL {
            told = true;
            let limit = limit.as_secs();
            tracing::warn!(
                vm = domain.name(),
                "libvirt has not ended the backup job yet (does the guest's agent come and go?); waiting for up to {limit} s"
            );
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LOOK_EVERY);
    }
    Ok(true)
}

/// True when the domain's backup job is the one that the journal names: its XML has our socket.
pub(crate) fn has_job(domain: &Domain, journal: &Journal) -> Result<bool, LibvirtError> {
    Ok(domain.backup_xml()?.is_some_and(|xml| is_job_of(journal, &xml)))
}

/// True when this is the description of the journal's job.
pub(crate) fn is_job_of(journal: &Journal, xml: &str) -> bool {
    xml.contains(&format!(
        "socket='{}'",
        crate::engine::domain::xml::escape(&journal.socket.to_string_lossy())
    ))
}

/// Deletes the checkpoint of the run, if the checkpoint of that name is the one the run made.
fn drop_checkpoint(domain: &Domain, journal: &Journal, recovered: &mut Recovered) {
    let Some(name) = &journal.checkpoint else { return };
    let known = match domain.checkpoints() {
        Ok(known) => known,
        Err(e) => return recovered.failed.push(e.to_string()),
    };
    let is_of_run = |xml: &str| Owner::of(xml).is_some_and(|owner| owner.run == journal.id);
    if known.iter().any(|c| &c.name == name && is_of_run(&c.xml)) {
        let what = format!("deleted unfinished checkpoint {name}");
        recovered.note(what, delete_checkpoint(domain, name, &journal.images).map(|()| true));
    }
}

/// Deletes a checkpoint with its bitmaps, whatever state the domain is in.
///
/// libvirt refuses for a domain that is shut off, and when one of its bitmaps is missing: then the metadata goes,
/// and the bitmaps are removed from the images that nobody has open.
pub(crate) fn delete_checkpoint(
    domain: &Domain,
    name: &str,
    images: &[std::path::PathBuf],
) -> Result<(), LibvirtError> {
    if domain.state()?.is_active() {
        match domain.delete_checkpoint(name, CheckpointDelete::WithBitmaps) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind == ErrorKind::NoCheckpoint => return Ok(()),
            Err(e) if e.is_bitmap_missing() => {
                domain.delete_checkpoint(name, CheckpointDelete::MetadataOnly)?
            }
            Err(e) => return Err(e),
        }
        crate::engine::image::bitmap::remove_live(domain, name);
        return Ok(());
    }
    match domain.delete_checkpoint(name, CheckpointDelete::MetadataOnly) {
        Err(e) if e.kind != ErrorKind::NoCheckpoint => return Err(e),
        _ => {}
    }
    for image in images {
        // Fails where the bitmap was never written (QEMU was killed), which is as good.
        let _ = qemu_img::remove_bitmap(image, name);
    }
    Ok(())
}

/// What is known of the point of a run that is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    /// It does not exist, and nothing of it is to stay.
    None,
    /// It exists: nothing of it may go.
    Exists,
    /// It cannot be told now. Nothing of it may go, and the journal stays.
    Unknown,
}

fn undo_files(journal: &Journal, file: &Path, recovered: &mut Recovered) -> Point {
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
            crate::engine::commit::archive::unclaim(&dir.held_path());
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
    let moved =
        crate::engine::commit::archive::settle(&path, &path.join(ARCHIVES).join(name), &archive.names)?;
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
    use crate::engine::claims::journal::JournalDir;
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
            witnesses: vec![],
            stop: Stop::None,
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
