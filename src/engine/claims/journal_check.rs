//! What a journal may name. It is a file in a folder that others may be able to write to, and root undoes what it says: so
//! it can only name what a run of ours makes.
//!
//! A journal file keeps paths below the backup path, relative to it. Those of 0.5 and before had absolute ones, which
//! are read and held against the same rules.

use std::path::{Component, Path, PathBuf};

use vmstream::chain::{CheckpointName, PointId, SetFile};

use super::journal::{ArchiveMove, Journal, Stage};
use crate::engine::domain::marker_name;
use vmstore::durable::PARTIAL;
use vmstore::layout::{ARCHIVES, is_vm_folder};

/// A chain is in the folder of its VM, or in that of a period in it.
const CHAIN_DEPTH: usize = 2;

/// `.tpm-state.IDENT/tpm2/FILE`.
const FILE_DEPTH: usize = 3;

impl Journal {
    /// The journal as it is written: paths relative to the backup path.
    pub(crate) fn to_stored(&self, backup_path: &Path) -> Self {
        let below = |path: &Path| path.strip_prefix(backup_path).unwrap_or(path).to_owned();
        self.with_paths(below)
    }

    /// A journal that was read, with whole paths.
    ///
    /// # Errors
    /// What it names that no run of ours makes.
    pub(crate) fn checked_below(self, backup_path: &Path) -> Result<Self, String> {
        let journal = self.with_paths(|path| backup_path.join(path));
        journal.check(backup_path)?;
        Ok(journal)
    }

    fn with_paths(&self, change: impl Fn(&Path) -> PathBuf) -> Self {
        let mut changed = self.clone();
        changed.chain_dir = change(&self.chain_dir);
        if let Stage::Publishing { archive: Some(archive), .. } = &mut changed.stage {
            archive.to = change(&archive.to);
        }
        changed
    }

    fn check(&self, backup_path: &Path) -> Result<(), String> {
        let refuse = |what: &str, name: &Path| Err(format!("{what} {} is none of ours", name.display()));
        if self.id.is_empty() || !self.id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
            return refuse("its run", Path::new(&self.id));
        }
        let below = self.chain_dir.strip_prefix(backup_path).ok();
        let in_a_vm =
            |below: &Path| is_plain(below, CHAIN_DEPTH) && below.iter().next().is_some_and(is_vm_folder);
        if !below.is_some_and(in_a_vm) {
            return refuse("its folder", &self.chain_dir);
        }
        if !self.is_socket(&self.socket) {
            return refuse("its socket", &self.socket);
        }
        if let Some(other) = self.scratch.iter().find(|path| !self.is_scratch(path)) {
            return refuse("its scratch file", other);
        }
        if let Some(other) = self.checkpoint.iter().find(|name| name.parse::<CheckpointName>().is_err()) {
            return refuse("its checkpoint", Path::new(other));
        }
        if let Some(other) = self.markers.iter().find(|name| !marker_name::is_name(name)) {
            return refuse("its mark", Path::new(other));
        }
        if let Some(other) = self.images.iter().find(|path| !path.is_absolute()) {
            return refuse("its image", other);
        }
        let unknown = match &self.stage {
            Stage::Copying { partial } => partial.iter().find(|name| !is_partial(name)),
            Stage::Publishing { archive, files, marker, .. } => {
                if let Some(other) = archive.iter().find(|archive| !is_archive(archive, &self.chain_dir)) {
                    return refuse("its archive", &other.to);
                }
                let unknown = files.iter().find(|name| !is_plain(Path::new(name), FILE_DEPTH));
                unknown.or_else(|| Some(marker).filter(|marker| !is_marker(marker)))
            }
        };
        unknown.map_or(Ok(()), |name| refuse("its file", Path::new(name)))
    }

    /// That of a job, which AppArmor profiles know by its place, or of the servers of a VM that is shut off.
    fn is_socket(&self, path: &Path) -> bool {
        let (of_job, of_servers) =
            (format!("virtnbdbackup.{}", self.id), format!("vmbackup-{}.nbd", self.id));
        let name = path.file_name().and_then(|name| name.to_str());
        is_whole(path)
            && match path.parent() {
                Some(parent) if name == Some(&of_job) => parent == Path::new("/var/tmp"),
                _ => name == Some(&of_servers),
            }
    }

    /// `backup.RUN.DISK`, or the socket of one disk.
    fn is_scratch(&self, path: &Path) -> bool {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
        let of_disk = |prefix: &str| {
            name.strip_prefix(prefix).is_some_and(|rest| rest.len() > 1 && rest.starts_with('.'))
        };
        let is_file = of_disk(&format!("backup.{}", self.id));
        let socket = self.socket.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        is_whole(path) && (is_file || (of_disk(socket) && path.parent() == self.socket.parent()))
    }
}

/// Absolute, and no part of it leads back.
fn is_whole(path: &Path) -> bool {
    path.is_absolute() && path.components().skip(1).all(|part| matches!(part, Component::Normal(_)))
}

/// Names one below the other, and no more of them than `depth`.
fn is_plain(path: &Path, depth: usize) -> bool {
    (1..=depth).contains(&path.components().count())
        && path.components().all(|part| matches!(part, Component::Normal(_)))
}

fn is_partial(name: &str) -> bool {
    name.ends_with(PARTIAL) && is_plain(Path::new(name), 1)
}

fn is_marker(name: &str) -> bool {
    let is_last = matches!(
        SetFile::parse(name),
        Some(SetFile::CheckpointList { .. } | SetFile::VmConfig(PointId::Copy))
    );
    is_last && is_plain(Path::new(name), 1)
}

fn is_archive(archive: &ArchiveMove, chain_dir: &Path) -> bool {
    let folder = archive.to.strip_prefix(chain_dir.join(ARCHIVES)).ok();
    let is_ours = |below: &Path| is_plain(below, 1) && below.to_string_lossy().starts_with("chain-");
    let is_entry = |name: &String| is_plain(Path::new(name), 1) && !name.starts_with(ARCHIVES);
    folder.is_some_and(is_ours) && archive.names.iter().all(is_entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::claims::journal::Quiesce;

    const ID: &str = "7-00ab12cd-0";

    fn journal() -> Journal {
        Journal {
            id: ID.into(),
            pid: 7,
            host: "h".into(),
            uri: "qemu:///system".into(),
            domain: "web 1".into(),
            uuid: "u".into(),
            chain_dir: "/b/web_1/202611".into(),
            socket: format!("/var/tmp/virtnbdbackup.{ID}").into(),
            scratch: vec![
                format!("/scratch/backup.{ID}.vda").into(),
                format!("/var/tmp/virtnbdbackup.{ID}.vda").into(),
            ],
            checkpoint: Some("virtnbdbackup.3".into()),
            images: vec!["/images/web.qcow2".into()],
            markers: vec![format!("vmbackup-chain-{ID}.vda")],
            quiesce: Quiesce::None,
            held: None,
            started: None,
            stage: Stage::Publishing {
                archive: Some(ArchiveMove {
                    to: "/b/web_1/202611/.archives/chain-2026-11-22.1".into(),
                    names: vec!["vda.full.data".into(), "checkpoints".into(), ".tpm-state.copy".into()],
                }),
                files: vec![
                    "vda.full.data".into(),
                    "checkpoints/virtnbdbackup.3.xml".into(),
                    ".tpm-state.virtnbdbackup.3/tpm2/tpm2-00.permall".into(),
                ],
                marker: "web 1.cpt".into(),
                marker_text: "[]".into(),
            },
        }
    }

    #[test]
    fn paths_are_kept_relative_and_those_of_before_are_read() {
        let root = Path::new("/b");
        let stored = journal().to_stored(root);
        assert_eq!(stored.chain_dir, Path::new("web_1/202611"));
        assert_eq!(stored.checked_below(root).as_ref(), Ok(&journal()));
        assert_eq!(journal().checked_below(root).as_ref(), Ok(&journal()), "absolute");
        // The tree is elsewhere now.
        let moved = journal().to_stored(root).checked_below(Path::new("/elsewhere"));
        assert_eq!(moved.map(|moved| moved.chain_dir), Ok("/elsewhere/web_1/202611".into()));
    }

    type Change = fn(&mut Journal);

    #[test]
    fn what_no_run_makes_is_refused() {
        fn publishing(journal: &mut Journal) -> (&mut ArchiveMove, &mut Vec<String>, &mut String) {
            match &mut journal.stage {
                Stage::Publishing { archive: Some(archive), files, marker, .. } => (archive, files, marker),
                _ => panic!("it publishes"),
            }
        }
        let changes: [(&str, Change); 21] = [
            ("folder outside", |j| j.chain_dir = "/etc".into()),
            ("folder that leads out", |j| j.chain_dir = "/b/../etc".into()),
            ("the backup path itself", |j| j.chain_dir = "/b".into()),
            ("a relative folder that leads out", |j| j.chain_dir = "web/../../etc".into()),
            ("our own state", |j| j.chain_dir = "/b/_state".into()),
            ("too deep", |j| j.chain_dir = "/b/a/b/c".into()),
            ("run", |j| j.id = "../x".into()),
            ("socket", |j| j.socket = "/etc/passwd".into()),
            ("socket of another run", |j| j.socket = "/var/tmp/virtnbdbackup.1-2-3".into()),
            ("socket elsewhere", |j| j.socket = format!("/run/virtnbdbackup.{ID}").into()),
            ("scratch", |j| j.scratch.push("/etc/shadow".into())),
            ("scratch of another run", |j| j.scratch.push("/scratch/backup.1-2-3.vda".into())),
            ("scratch that leads out", |j| j.scratch.push(format!("/s/../backup.{ID}.vda").into())),
            ("checkpoint", |j| j.checkpoint = Some("mine".into())),
            ("mark", |j| j.markers.push("somebody's".into())),
            ("archive", |j| publishing(j).0.to = "/etc/chain-x".into()),
            ("archive of another", |j| publishing(j).0.to = "/b/other/.archives/chain-x".into()),
            ("archived name", |j| publishing(j).0.names.push("../../etc".into())),
            ("file outside", |j| publishing(j).1.push("/etc/passwd".into())),
            ("file that leads out", |j| publishing(j).1.push("../../../etc/passwd".into())),
            ("marker", |j| *publishing(j).2 = "../x.cpt".into()),
        ];
        for (name, change) in changes {
            let mut changed = journal();
            change(&mut changed);
            assert!(changed.checked_below(Path::new("/b")).is_err(), "{name}");
        }
        for partial in ["vda.full.data", "../x.partial", "/etc/x.partial"] {
            let stage = Stage::Copying { partial: vec![partial.into()] };
            assert!(Journal { stage, ..journal() }.checked_below(Path::new("/b")).is_err(), "{partial}");
        }
    }
}
