//! Files and folders for one owner alone, also below a folder of a group, at every moment.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::fresh;

/// Modes of files, and of a folder for its owner alone.
const GROUP_MODE: u32 = 0o640;
const OWNER_MODE: u32 = 0o600;
const OWNER_FOLDER_MODE: u32 = 0o700;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The group too.
    Group,
    /// Its owner alone, as with the folders it lies in.
    Private(Owner),
}

/// An owner and a group, by their numbers. Only root gives files away; to others what they make is their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: u32,
    /// The group.
    pub group: u32,
}

impl Owner {
    /// root.
    pub const ROOT: Self = Self { user: 0, group: 0 };

    fn give(self, file: &File) -> io::Result<()> {
        if rustix::process::geteuid().is_root() {
            fchown(file, Some(self.user), Some(self.group))
        } else {
            Ok(())
        }
    }
}

/// Makes a file, in the place of what has the name. A private one is so before there is anything in it.
pub(super) fn create(path: &Path, access: Access) -> io::Result<File> {
    match access {
        Access::Group => fresh::create(path, GROUP_MODE),
        Access::Private(owner) => {
            let file = fresh::create(path, OWNER_MODE)?;
            owner.give(&file)?;
            Ok(file)
        }
    }
}

/// Makes the folders between `base` and the file `name` in it, as far as they are not there.
pub(super) fn make_folders(base: &Path, name: &str, access: Access) -> io::Result<()> {
    let Some(folders) = Path::new(name).parent().filter(|folders| !folders.as_os_str().is_empty()) else {
        return Ok(());
    };
    let Access::Private(owner) = access else { return std::fs::create_dir_all(base.join(folders)) };
    let mut path = base.to_owned();
    for part in folders {
        path.push(part);
        match DirBuilder::new().mode(OWNER_FOLDER_MODE).create(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        let open = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        let made = File::from(rustix::fs::open(&path, open, Mode::empty())?);
        owner.give(&made)?;
        // A folder of a group hands on more.
        made.set_permissions(Permissions::from_mode(OWNER_FOLDER_MODE))?;
    }
    Ok(())
}
