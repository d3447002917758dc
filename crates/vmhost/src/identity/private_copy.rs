//! Small folders that only root may enter: read whole, written whole.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Gid, OFlags, Uid};
use vmstore::durable::{sync_folder, sync_folder_of};
use zeroize::Zeroizing;

/// Files by path below a folder, sorted. Overwritten when dropped.
pub(super) type Files = Vec<(String, Zeroizing<Vec<u8>>)>;

/// What is larger is no state of a TPM.
const MAX_BYTES: u64 = 32 << 20;

/// All files of a folder and below. Links are passed over.
pub(super) fn files_of(folder: &Path) -> io::Result<Files> {
    let mut files = Files::new();
    let mut folders = vec![(folder.to_owned(), String::new())];
    while let Some((path, prefix)) = folders.pop() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push((entry.path(), format!("{name}/")));
            } else if kind.is_file() {
                files.push((name, read(&entry.path())?));
            }
        }
    }
    files.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(files)
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::options().read(true).custom_flags(flags.bits() as i32).open(path)?;
    let len = file.metadata()?.len();
    if len > MAX_BYTES {
        return Err(io::Error::other(format!("{} is too large for the state of a TPM", path.display())));
    }
    // Never grown: what a growing buffer leaves behind is not overwritten.
    let mut content = Zeroizing::new(Vec::with_capacity(len as usize + 1));
    file.take(len).read_to_end(&mut content)?;
    Ok(content)
}

/// Makes a folder with these files, synced: folders 0700, files 0600, all of root's where we are root.
pub(super) fn write_private(folder: &Path, files: &Files) -> io::Result<()> {
    make_folder(folder)?;
    for (name, content) in files {
        let mut path = folder.to_owned();
        let parts: Vec<&str> = name.split('/').collect();
        for part in &parts[..parts.len() - 1] {
            path.push(part);
            if vmstore::presence::lstat(&path)?.is_none() {
                make_folder(&path)?;
            }
        }
        path.push(parts[parts.len() - 1]);
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
        own(&file)?;
        file.write_all(content)?;
        file.sync_all()?;
        sync_folder_of(&path)?;
    }
    sync_folder(folder)
}

/// Also below a folder that hands its group on.
fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    let folder = File::open(path)?;
    own(&folder)?;
    folder.set_permissions(Permissions::from_mode(0o700))
}

fn own(file: &File) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        rustix::fs::fchown(file, Some(Uid::ROOT), Some(Gid::ROOT))?;
    }
    Ok(())
}
