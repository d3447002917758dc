//! The folders that backups write to: the room in them, whose they are, and whether this host may write there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Access;

use super::finding::Finding;
use crate::cli::say::SHOWN_NAMES;
use crate::engine::settings::Reserve;
use crate::engine::snapshot::scratch::HANG_LIMIT;
use crate::session::{SessionError, check_backup_path};
use vmhost::libvirt::Host;
use vmprogram::{NEVER, Program, ProgramError, Space};
use vmreport::Exit;
use vmstore::{Belongings, Root, RootError, Standing, known_owner};
use vmstream::text::{few, size};

/// How long it may take to see whether a user may enter a folder.
const ENTER_LIMIT: Duration = Duration::from_secs(10);

/// A folder that does not answer. It is asked by a process of its own, which can be given up: whoever looks at it next waits
/// for ever.
pub(super) fn hanging(about: &'static str, path: &Path) -> Option<Finding> {
    match vmprogram::writable_directory(path, HANG_LIMIT, NEVER) {
        Err(error @ ProgramError::TimedOut { .. }) => {
            let said = format!("{} cannot be looked at: a program that does {error}", path.display());
            let fix = "bring its storage back, or unmount it: umount -l".to_owned();
            Some(Finding::bad(about, Exit::Storage, said, Some(fix)))
        }
        // What else is wrong is told by whoever looks at it.
        _ => None,
    }
}

/// Whether this host may write to the tree. `None` where there is no path, which has its own finding.
pub(super) fn tree(path: &Path, root: &Result<Root, RootError>) -> Option<Finding> {
    const ABOUT: &str = "tree";
    check_backup_path(path).ok()?;
    let refused = |error: &RootError| {
        let exit = if matches!(error, RootError::OtherHost { .. }) { Exit::Locked } else { Exit::Storage };
        Finding::bad(ABOUT, exit, error.to_string(), None)
    };
    Some(match root {
        Err(error) => refused(error),
        Ok(root) => match (root.refusal(), &root.standing, &root.file) {
            (Some(error), ..) => refused(&error),
            (None, Standing::Emptied, _) => Finding::look(
                ABOUT,
                format!(
                    "{} has no _state/root.json, and was used before on the same {}",
                    path.display(),
                    root.place
                ),
                "see whether it was emptied on purpose; the next run begins anew".to_owned(),
            ),
            (None, _, Some(file)) => Finding::good(
                ABOUT,
                format!("{} is this host's, id {}, on {}", path.display(), file.id, root.place),
            ),
            (None, _, None) => {
                let said = format!(
                    "{} has no _state/root.json yet: the next run makes it this host's",
                    path.display()
                );
                Finding::good(ABOUT, said)
            }
        },
    })
}

/// Whose the backup path is. A file system may have no owners, so nothing here keeps a backup from working.
pub(super) fn owner(path: &Path) -> Option<Finding> {
    const ABOUT: &str = "owner";
    let Some(ownership) = known_owner() else {
        let said = "there is no group backup: backups stay with the group of root".to_owned();
        return Some(Finding::look(ABOUT, said, "groupadd --system --gid 34 backup".to_owned()));
    };
    let shown = path.display();
    let others = Belongings::of(path).ok()?.others;
    Some(match ownership.fault(path).ok()? {
        None => Finding::good(
            ABOUT,
            format!("{shown} belongs to root and the group backup, and is closed to others"),
        ),
        Some(fault) if !others.is_empty() => {
            let said = format!(
                "{shown} {fault} and keeps that, because it holds what is no backup: {}. The folders of VMs in it belong to \
                 root and the group backup",
                few(&others, SHOWN_NAMES)
            );
            let fix = format!(
                "give the backups a folder of their own, for example BACKUP_PATH=\"{shown}/vmbackup\""
            );
            Finding::look(ABOUT, said, fix)
        }
        Some(fault) => {
            let fix = format!("chown root:backup '{shown}' && chmod 2750 '{shown}'");
            Finding::look(
                ABOUT,
                format!("{shown} {fault}, not to root and the group backup with mode 2750"),
                fix,
            )
        }
    })
}

/// Whether QEMU may go as far as the scratch files. `None` where it may, or nobody can tell.
///
/// libvirt gives the files to QEMU's user, and QEMU opens them by their path.
pub(super) fn entered_by_qemu(uri: &str, dir: &Path) -> Option<Finding> {
    let (user, group) = Host::connect(uri).and_then(|host| host.qemu_user()).ok().flatten()?;
    let shut = first_shut(user, group, dir)?;
    let (dir, shut) = (dir.display(), shut.display());
    let said = format!("{dir}: QEMU, which runs as user {user} and group {group}, may not enter {shut}");
    let fix = format!("chmod o+x '{shut}'");
    Some(Finding::bad("VIRTNBD_SCRATCH_DIR", Exit::Storage, said, Some(fix)))
}

/// The first folder on the way that a user may not enter, as the system itself says: lists of rights count too.
fn first_shut(user: u32, group: u32, dir: &Path) -> Option<PathBuf> {
    let dir = std::path::absolute(dir).ok()?;
    let may_enter = |dir: &Path| {
        let asked = Program::new("setpriv")
            .args([format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".to_owned()])
            .args(["test", "-x"])
            .arg(dir)
            .run(ENTER_LIMIT, NEVER);
        // What test(1) ends with when it is not so; setpriv has other codes.
        asked.map_or(true, |output| output.status.code() != Some(1))
    };
    if may_enter(&dir) || !dir.exists() {
        return None;
    }
    let mut way: Vec<&Path> = dir.ancestors().collect();
    way.reverse();
    way.into_iter().find(|dir| !may_enter(dir)).map(Path::to_owned)
}

/// A folder that backups write to, and the room in it.
pub(super) fn folder(about: &'static str, path: &Path, reserve: Reserve, setting: &str) -> Finding {
    let shown = path.display();
    if let Err(error) = check_backup_path(path) {
        let said = match error {
            SessionError::NotADirectory(_) => format!("{shown} is not a directory"),
            _ => format!("{shown} does not exist"),
        };
        let fix = format!("mount it, or: mkdir -p '{shown}'");
        return Finding::bad(about, Exit::Storage, said, Some(fix));
    }
    if let Err(error) = rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK) {
        let fix = format!("mount -o remount,rw \"$(findmnt -no TARGET -T '{shown}')\"");
        return Finding::bad(about, Exit::Storage, format!("{shown} cannot be written: {error}"), Some(fix));
    }
    match Space::at(path) {
        Ok(space) => {
            let kept = reserve.bytes_of(space.total_bytes);
            let said = format!(
                "{shown}: {} free of {}, {} kept in reserve",
                size(space.free_bytes),
                size(space.total_bytes),
                size(kept)
            );
            if space.free_bytes < kept {
                let see = if about == "BACKUP_PATH" {
                    "vmbackup --prune list".to_owned()
                } else {
                    format!("du -xsh '{shown}'/*")
                };
                let fix = format!(
                    "free some space ({see}), or lower {setting}_PERCENT or the other {setting} setting"
                );
                return Finding::bad(about, Exit::Storage, said, Some(fix));
            }
            Finding::good(about, said)
        }
        Err(error) => {
            Finding::bad(about, Exit::Storage, format!("{shown}: {error}"), Some(format!("df '{shown}'")))
        }
    }
}
