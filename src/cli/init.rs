//! `--init`: makes the tree at the backup path this host's. A new disk, one that another host wrote to, a replica.

use serde_json::json;

use super::context::{Context, start_log};
use super::failed::{Failed, lock_error, root_error, session_error};
use super::say::{SHOWN_NAMES, agreed, tell};
use crate::engine::recovery::abandoned;
use crate::session::check_backup_path;
use vmreport::Exit;
use vmstore::{Belongings, HostDir, Root, SessionLock, Standing, StateDir};
use vmstream::text::few;

pub(super) fn init(context: &Context) -> Result<Exit, Failed> {
    start_log(context, None);
    let arguments = &context.arguments;
    let backup_path = context.loaded.settings.backup_path.as_path();
    check_backup_path(backup_path).map_err(session_error)?;
    let look = || Root::look(backup_path, &HostDir::of(&context.environment)).map_err(root_error);
    let unreadable = |error: std::io::Error| {
        Failed::new(Exit::Storage, format!("Cannot read what is in {}: {error}", backup_path.display()))
    };
    let root = look()?;
    let journals = |root: &Root| {
        let is_ours = matches!(root.standing, Standing::Ours | Standing::New | Standing::Emptied);
        abandoned::of_others(backup_path, &root.machine_id, is_ours).map_err(unreadable)
    };
    let vms = vms_in(Belongings::of(backup_path).map_err(unreadable)?);
    // Who reads a value cannot be asked.
    let only_shows = arguments.dry_run || (arguments.json && !arguments.yes);
    if !arguments.json {
        tell(&told(&root, &vms, &journals(&root)?));
    }
    if only_shows {
        match arguments.json {
            true => answer(context, &root, &vms, &journals(&root)?, false),
            false => tell("[DRY-RUN] Nothing was changed.\n"),
        }
        return Ok(Exit::Ok);
    }
    if !arguments.yes && !agreed() {
        tell("Cancelled.\n");
        return Ok(Exit::Ok);
    }
    let _lock = SessionLock::take(&StateDir::of(backup_path)).map_err(lock_error)?;
    let mut root = look()?;
    let journals = journals(&root)?;
    let failed = |error: std::io::Error| {
        Failed::new(Exit::Storage, format!("Cannot write below {}: {error}", backup_path.display()))
    };
    root.claim().map_err(failed)?;
    let given_up = abandoned::give_up(&journals).map_err(failed)?;
    if arguments.json {
        answer(context, &root, &vms, &journals, true);
        return Ok(Exit::Ok);
    }
    let id = root.file.map(|file| file.id).unwrap_or_default();
    tell(&format!("{} is this host's now, id {id}.\n", backup_path.display()));
    for name in given_up {
        tell(&format!("Given up: {name}\n"));
    }
    Ok(Exit::Ok)
}

/// The names of the folders of VMs.
fn vms_in(found: Belongings) -> Vec<String> {
    found.backups.into_iter().filter(|name| !name.starts_with('_')).collect()
}

/// The same for a program.
fn answer(context: &Context, root: &Root, vms: &[String], journals: &[abandoned::Abandoned], is_done: bool) {
    let standing = match root.standing {
        Standing::Ours => "ours",
        Standing::New => "new",
        Standing::Emptied => "emptied",
        Standing::NotMounted(_) => "not_mounted",
        Standing::NotMountedYet(_) => "not_mounted_yet",
        Standing::OtherHost => "other_host",
        Standing::Damaged(_) => "damaged",
    };
    let given_up: Vec<_> = journals.iter().map(|it| json!({ "vm": it.domain, "journal": it.file })).collect();
    let content = json!({
        "done": is_done,
        "backup_path": context.loaded.settings.backup_path.as_path(),
        "place": root.place.to_string(),
        "standing": standing,
        "id": root.file.as_ref().map(|file| &file.id),
        "vms": vms,
        "gives_up": given_up,
    });
    context.call.answer("vmbackup/init/1", Exit::Ok, &content);
}

/// What is there and what becomes of it.
fn told(root: &Root, vms: &[String], journals: &[abandoned::Abandoned]) -> String {
    let of_tree = match (&root.standing, &root.file) {
        (Standing::Ours, _) => "it is this host's already, and gets a new id".to_owned(),
        (Standing::New, _) => "no host has named it its own".to_owned(),
        (Standing::Emptied, _) => "it was used before on this file system, and was emptied".to_owned(),
        (Standing::NotMounted(seen), _) => {
            let seen: Vec<String> = seen.iter().map(ToString::to_string).collect();
            format!("backups of this path were seen on {} only; is that disk not mounted?", seen.join("; "))
        }
        (Standing::NotMountedYet(point), _) => {
            format!("/etc/fstab mounts a disk at {}, and none is mounted there", point.display())
        }
        (Standing::OtherHost, file) => {
            let (name, id) = file.as_ref().map(|file| (&*file.host, &*file.machine_id)).unwrap_or_default();
            format!("the host {name} (machine-id {id}) writes to it: it must do so no more")
        }
        (Standing::Damaged(why), _) => format!("_state/root.json is damaged: {why}"),
    };
    let mut text = format!("Makes BACKUP_PATH this host's:\n  on {}\n  {of_tree}\n", root.place);
    text += &match vms.is_empty() {
        true => "  no backups of VMs in it\n".to_owned(),
        false => {
            format!("  backups of {} VM(s) in it stay as they are: {}\n", vms.len(), few(vms, SHOWN_NAMES))
        }
    };
    for journal in journals {
        text += &format!(
            "  given up: what a run of another host left behind in its middle for VM {} (journal {})\n",
            journal.domain,
            journal.file.display()
        );
    }
    text
}
