//! `tpm-state`, the copy of the newest: renewed so that a whole one is there at every instant, and nothing that another
//! program wrote into it is lost.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use vmstore::presence::{first_free, found, lstat, there};
use vmstore::remove::Folder;

use super::names::{folder_name, has_state, is_tpm_folder, led_to, real_folder};
use super::same::are_same;
use crate::identity::private_copy::{Files, files_of, write_private};

/// What restore scripts read.
const NEWEST: &str = "tpm-state";

/// The newest state while it is being written.
pub(super) const NEXT: &str = ".tpm-state.next";

/// What `tpm-state` was, where two names cannot be exchanged.
pub(super) const FORMER: &str = ".tpm-state.former";

/// Puts the state of point `ident` into `tpm-state`, where a run died before it did; without a point, or where it has no
/// state, makes a folder of a link that an older version left there. `Ok(false)` when there was nothing to do.
pub fn renew(chain_dir: &Path, ident: Option<&str>) -> io::Result<bool> {
    let real = ident.map_or(Ok(None), |ident| real_folder(chain_dir, ident))?;
    renew_from(chain_dir, real.as_deref(), None)
}

/// There is a whole `tpm-state` at every instant where two names can be exchanged, and elsewhere at the latest after the
/// next call.
pub(super) fn renew_from(chain_dir: &Path, real: Option<&str>, parent: Option<&str>) -> io::Result<bool> {
    let path = |name: &str| chain_dir.join(name);
    let (newest, next, former) = (path(NEWEST), path(NEXT), path(FORMER));
    // What a run that died left.
    remove(chain_dir, NEXT)?;
    match (there(&newest)?, there(&former)?) {
        (false, true) => fs::rename(&former, &newest)?,
        (true, true) => remove(chain_dir, FORMER)?,
        _ => {}
    }
    let is_link = lstat(&newest)?.is_some_and(|meta| meta.is_symlink());
    let mut source = None;
    if let Some(real) = real {
        source = has_state(&path(real))?.then(|| real.to_owned());
    }
    if source.is_none() && is_link {
        source = led_to(chain_dir, NEWEST)?;
    }
    let Some(source) = source else { return Ok(false) };
    let files = files_of(&path(&source))?;
    let there = if is_link { None } else { found(files_of(&newest))? };
    if there.as_ref().is_some_and(|there| are_same(there, &files)) {
        return Ok(false);
    }
    write_private(&next, &files)?;
    if there.as_ref().is_some_and(|there| !there.is_empty()) && !is_kept(chain_dir, there.as_ref())? {
        keep_foreign(chain_dir, parent)?;
        fs::rename(&next, &newest)?;
    } else {
        change_places(&newest, &next, &former)?;
    }
    vmstore::durable::sync_folder(chain_dir)?;
    remove(chain_dir, NEXT)?;
    remove(chain_dir, FORMER)?;
    Ok(true)
}

/// Puts `next` in the place of whatever is there. That has the name of `next` or of `former` afterwards, if any.
fn change_places(newest: &Path, next: &Path, former: &Path) -> io::Result<()> {
    if !there(newest)? {
        return fs::rename(next, newest);
    }
    match renameat_with(CWD, next, CWD, newest, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::rename(newest, former)?;
            fs::rename(next, newest)
        }
        exchanged => Ok(exchanged?),
    }
}

/// Whether the folder of a point holds the same.
fn is_kept(chain_dir: &Path, files: Option<&Files>) -> io::Result<bool> {
    let Some(files) = files else { return Ok(true) };
    for entry in fs::read_dir(chain_dir)? {
        let entry = entry?;
        let is_ours = entry.file_name().to_str().is_some_and(|name| is_tpm_folder(name) && name != NEXT);
        if is_ours && entry.file_type()?.is_dir() && are_same(&files_of(&entry.path())?, files) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Keeps what another program wrote into `tpm-state`: as the state of `parent`, the point it belongs to, if that has none.
fn keep_foreign(chain_dir: &Path, parent: Option<&str>) -> io::Result<()> {
    let ident = parent.unwrap_or("before");
    let plain = chain_dir.join(folder_name(ident));
    let numbered = (1_u32..).map(|n| chain_dir.join(folder_name(&format!("{ident}.{n}"))));
    let free = first_free([plain.clone()].into_iter().chain(numbered))?;
    fs::rename(chain_dir.join(NEWEST), free.unwrap_or(plain))
}

/// Removes a folder, link or file. None there is as good.
fn remove(chain_dir: &Path, name: &str) -> io::Result<()> {
    let folder = found(Folder::open(chain_dir).map_err(io::Error::from))?;
    folder.map_or(Ok(()), |folder| Ok(folder.remove(name.as_ref()).map(drop)?))
}
