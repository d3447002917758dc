//! `tpm-state` may be a link to an equal, older copy in another folder of the VM. It must not lose its content with that
//! folder.
//!
//! Before a folder goes, the content moves to one of the links that stay, and other links are made to lead there first.
//! So every link leads to its content at every instant.

use std::path::{Component, Path, PathBuf};

use rustix::fs::FileType;

use super::inventory::VmTree;
use super::place::Place;
use vmstore::remove::{Folder, FolderError};

const TPM_STATE: &str = "tpm-state";

/// Names while a link is replaced.
const NEW_LINK: &str = ".tpm-state.new";
const OLD_LINK: &str = ".tpm-state.old";

/// Links are followed so often; a ring of links has no content.
const MAX_LINKS: usize = 40;

/// Where something is below the backup path, one component each.
type Parts = Vec<String>;

/// Sees to it that nothing that stays has a `tpm-state` that leads into what `goes` tells.
pub(super) fn free(root: &Folder, vm: &VmTree, goes: &dyn Fn(&[&str]) -> bool) -> Result<(), FolderError> {
    let going = |parts: &Parts| goes(&parts.iter().map(String::as_str).collect::<Vec<_>>());
    // Content that goes, and the link that gets it.
    let mut heirs: Vec<(Parts, Parts)> = Vec::new();
    for link in places(vm).filter(|link| !going(link)) {
        let steps = follow(root, &link)?;
        let Some((content, way)) = steps.split_last().filter(|_| steps.iter().any(&going)) else { continue };
        if !is_folder(root, content)? {
            continue;
        }
        if !going(content) {
            retarget(root, &link, content)?;
            continue;
        }
        let known = heirs.iter().find(|(other, _)| other == content).map(|(_, heir)| heir.clone());
        let heir = known.unwrap_or_else(|| {
            // A link on the way to the content may stay too: then that one is the heir.
            let heir = way.iter().rfind(|step| !going(step)).unwrap_or(&link).clone();
            heirs.push((content.clone(), heir.clone()));
            heir
        });
        if heir != link {
            retarget(root, &link, &heir)?;
        }
    }
    heirs.iter().try_for_each(|(content, heir)| inherit(root, content, heir))
}

/// Where the VM may have a `tpm-state`.
fn places(vm: &VmTree) -> impl Iterator<Item = Parts> + '_ {
    let sets = vm.periods.iter().flat_map(|period| {
        let archives = period.archives.iter().map(|a| Place::archive(&vm.folder, &period.id, &a.name));
        std::iter::once(Place::period(&vm.folder, &period.id)).chain(archives)
    });
    sets.map(|place| place.parts().into_iter().chain([TPM_STATE]).map(str::to_owned).collect())
}

/// Every place a link leads to, one after the other; the last is no link. Empty for what is no link, and for a link
/// that leads nowhere, out of the backup path, or in a ring.
fn follow(root: &Folder, link: &Parts) -> Result<Vec<Parts>, FolderError> {
    let (mut steps, mut at): (Vec<Parts>, Parts) = (Vec::new(), link.clone());
    while steps.len() < MAX_LINKS {
        let Some(target) = target_of(root, &at)? else { return Ok(steps) };
        let Some(next) = resolve(root.path(), &at, &target) else { return Ok(Vec::new()) };
        steps.push(next.clone());
        at = next;
    }
    Ok(Vec::new())
}

fn target_of(root: &Folder, at: &Parts) -> Result<Option<PathBuf>, FolderError> {
    match open_holder(root, at) {
        Ok((holder, name)) => holder.link_target(name),
        // A link on the way, or nothing there: no place of ours.
        Err(FolderError::Gone(_) | FolderError::Link(_) | FolderError::Name { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_folder(root: &Folder, at: &Parts) -> Result<bool, FolderError> {
    match open_holder(root, at).and_then(|(holder, name)| holder.kind_of(name)) {
        Ok(kind) => Ok(kind == Some(FileType::Directory)),
        Err(FolderError::Gone(_) | FolderError::Link(_) | FolderError::Name { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn open_holder<'a>(root: &Folder, at: &'a Parts) -> Result<(Folder, &'a str), FolderError> {
    let Some((name, folders)) = at.split_last() else {
        return Err(FolderError::Gone(root.path().to_owned()));
    };
    let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
    Ok((root.descend(&folders)?, name))
}

/// Where a link's text leads, by names alone. `None` when that is outside.
fn resolve(root: &Path, link: &Parts, target: &Path) -> Option<Parts> {
    let (mut at, rest) = match target.strip_prefix(root) {
        Ok(rest) => (Vec::new(), rest),
        Err(_) if target.is_absolute() => return None,
        Err(_) => (link[..link.len() - 1].to_vec(), target),
    };
    for component in rest.components() {
        match component {
            Component::Normal(name) => at.push(name.to_str()?.to_owned()),
            Component::ParentDir => drop(at.pop()?),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(at)
}

/// The text of a link at `link` that leads to `to`.
fn relative(link: &Parts, to: &Parts) -> PathBuf {
    let from = &link[..link.len() - 1];
    let common = from.iter().zip(to).take_while(|(one, other)| one == other).count();
    let up = from[common..].iter().map(|_| "..");
    up.chain(to[common..].iter().map(String::as_str)).collect()
}

/// Makes a link lead elsewhere, in one step.
fn retarget(root: &Folder, link: &Parts, to: &Parts) -> Result<(), FolderError> {
    let (holder, name) = open_holder(root, link)?;
    holder.remove_file(NEW_LINK.as_ref())?;
    holder.link(NEW_LINK, &relative(link, to))?;
    holder.rename(NEW_LINK, &holder, name)?;
    holder.sync()
}

/// Puts the content where the link is.
fn inherit(root: &Folder, content: &Parts, heir: &Parts) -> Result<(), FolderError> {
    let ((from, content_name), (to, name)) = (open_holder(root, content)?, open_holder(root, heir)?);
    if !to.exchange(name, &from, content_name)? {
        // Without exchange there is an instant without the name; the link's old name says what it was.
        to.rename(name, &to, OLD_LINK)?;
        from.rename(content_name, &to, name)?;
        to.remove_file(OLD_LINK.as_ref())?;
    }
    to.sync()?;
    from.sync()
}
