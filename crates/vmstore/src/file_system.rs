//! Which file system a folder is on, in words that stay the same when the host boots again.
//!
//! `st_dev` counts devices as they are found, and is made up for btrfs, NFS and tmpfs. `f_fsid` comes from the UUID on ext4 and
//! btrfs, but from the device number on XFS and FAT, and is 0 on NFS. So it is the UUID that udev knows of the block device;
//! where there is none, type and source of the mount (`nfs:server:/export`), which the administrator's fstab keeps the same.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const BY_UUID: &str = "/dev/disk/by-uuid";
const MOUNTS: &str = "/proc/self/mountinfo";
const FSTAB: &str = "/etc/fstab";

/// A folder of a file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// `uuid:…`, or `TYPE:SOURCE`.
    pub file_system: String,
    /// The folder in it, whatever is mounted where: a bind mount that is missing shows another one.
    pub folder: String,
}

/// A line of `mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// The folder of the file system that is mounted.
    root: PathBuf,
    point: PathBuf,
    kind: String,
    source: PathBuf,
}

impl Place {
    /// Where a folder is.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let folder = fs::canonicalize(folder)?;
        let device = fs::metadata(&folder)?.dev();
        let mounts = fs::read(MOUNTS)?;
        let mount = mount_of(&folder, &mounts)
            .ok_or_else(|| io::Error::other(format!("{MOUNTS} has no mount of {}", folder.display())))?;
        // The device of the source: btrfs gives each subvolume a number that is no device's.
        let source = fs::metadata(&mount.source).ok().filter(|about| about.file_type().is_block_device());
        let devices = [Some(device), source.map(|about| about.rdev())];
        let uuid = devices.into_iter().flatten().find_map(|device| uuid_of(Path::new(BY_UUID), device));
        let inside = folder.strip_prefix(&mount.point).unwrap_or(Path::new(""));
        Ok(Self {
            file_system: uuid.map_or_else(|| mount.name(), |uuid| format!("uuid:{uuid}")),
            folder: mount.root.join(inside).components().collect::<PathBuf>().to_string_lossy().into_owned(),
        })
    }
}

/// Where something is mounted, by real paths.
pub(super) fn mount_points() -> io::Result<Vec<PathBuf>> {
    let mounts = fs::read(MOUNTS)?;
    Ok(mounts.split(|byte| *byte == b'\n').filter_map(mount).map(|mount| mount.point).collect())
}

/// The folder on the way to this one on which the host's `fstab` mounts something, and nothing is mounted now.
pub(super) fn missing_mount(folder: &Path) -> Option<PathBuf> {
    let folder = fs::canonicalize(folder).ok()?;
    missing_in(&folder, &fs::read(FSTAB).ok()?, &fs::read(MOUNTS).ok()?)
}

/// Source: fstab(5): `SOURCE POINT TYPE OPTIONS …`.
fn missing_in(folder: &Path, fstab: &[u8], mountinfo: &[u8]) -> Option<PathBuf> {
    let points = fstab.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
        let (source, point) = (fields.next()?, fields.next()?);
        (!source.starts_with(b"#")).then(|| PathBuf::from(OsString::from_vec(unescaped(point))))
    });
    let mut on_the_way = points.filter(|point| point.is_absolute() && folder.starts_with(point));
    let is_mounted = |point: &PathBuf| {
        mountinfo.split(|byte| *byte == b'\n').filter_map(mount).any(|mount| mount.point == *point)
    };
    on_the_way.find(|point| !is_mounted(point))
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "file system {} (folder {})", self.file_system, self.folder)
    }
}

impl Mount {
    /// Type and source. Versions of a network protocol are one: they are agreed on anew at each mount.
    fn name(&self) -> String {
        let kind = match self.kind.as_str() {
            "nfs4" => "nfs",
            "smb3" | "smbfs" => "cifs",
            other => other,
        };
        format!("{kind}:{}", self.source.display())
    }
}

/// The mount that a folder is seen through: the longest way, and of several in one place the last.
fn mount_of(folder: &Path, mountinfo: &[u8]) -> Option<Mount> {
    let mounts = mountinfo.split(|byte| *byte == b'\n').filter_map(mount);
    let over = mounts.filter(|mount| folder.starts_with(&mount.point));
    over.enumerate().max_by_key(|(at, mount)| (mount.point.as_os_str().len(), *at)).map(|(_, mount)| mount)
}

/// Source: proc_pid_mountinfo(5): `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [FIELD…] - TYPE SOURCE OPTIONS`.
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let (root, point) = (fields.nth(3)?, fields.next()?);
    let mut behind = fields.skip_while(|field| *field != b"-").skip(1);
    let (kind, source) = (behind.next()?, behind.next()?);
    let path = |field| PathBuf::from(OsString::from_vec(unescaped(field)));
    Some(Mount {
        root: path(root),
        point: path(point),
        kind: String::from_utf8_lossy(kind).into_owned(),
        source: path(source),
    })
}

/// Blanks, line ends and backslashes are written as `\040`.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let byte = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        plain.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    plain
}

/// The UUID of the file system on a block device, as udev has it.
fn uuid_of(by_uuid: &Path, device: u64) -> Option<String> {
    let links = fs::read_dir(by_uuid).ok()?.flatten();
    let mut of_device = links
        .filter(|link| fs::metadata(link.path()).is_ok_and(|about| about.rdev() == device && device != 0));
    of_device.next().map(|link| String::from_utf8_lossy(link.file_name().as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_of_fstab_on_the_way_is_missed() {
        let fstab = b"# /srv\n/dev/vda / ext4 defaults 0 1\n\nLABEL=b\t/mnt/my\\040disk  ext4 noauto 0 2\n/dev/sdc none swap sw\n";
        let mountinfo = b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n";
        let mounted =
            b"27 1 254:0 / / rw - ext4 /dev/vda rw\n29 27 8:1 / /mnt/my\\040disk rw - ext4 /dev/sdb1 rw\n";
        let of = |folder: &str, mounts: &[u8]| missing_in(Path::new(folder), fstab, mounts);
        assert_eq!(of("/mnt/my disk/backup", mountinfo), Some(PathBuf::from("/mnt/my disk")));
        assert_eq!(of("/mnt/my disk", mountinfo), Some(PathBuf::from("/mnt/my disk")));
        assert_eq!(of("/mnt/my disk/backup", mounted), None);
        assert_eq!(of("/mnt/my", mountinfo), None);
        assert_eq!(of("/srv/backup", mountinfo), None);
    }

    #[test]
    fn a_folder_is_seen_through_the_last_and_longest_mount() {
        let mountinfo = b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
            28 27 0:31 / /srv rw shared:1 master:2 - nfs4 nas:/export/vm rw\n\
            29 27 0:32 /@backup /mnt/my\\040disk rw - btrfs /dev/sdb rw\n\
            30 27 0:33 / /mnt/my\\040disk rw - smb3 //nas/share rw\n\
            broken\n";
        let cases = [
            ("/backup", "/", "ext4:/dev/vda"),
            ("/srv/backup", "/srv", "nfs:nas:/export/vm"),
            ("/srvx", "/", "ext4:/dev/vda"),
            ("/mnt/my disk/x", "/mnt/my disk", "cifs://nas/share"),
        ];
        for (folder, point, name) in cases {
            let mount = mount_of(Path::new(folder), mountinfo).unwrap();
            assert_eq!((mount.point.as_path(), mount.name().as_str()), (Path::new(point), name), "{folder}");
        }
    }

    #[test]
    fn a_device_is_known_by_its_uuid() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.path().join("1234-ABCD")).unwrap();
        std::os::unix::fs::symlink("/dev/gone", dir.path().join("gone")).unwrap();
        let null = fs::metadata("/dev/null").unwrap().rdev();
        assert_eq!(uuid_of(dir.path(), null).as_deref(), Some("1234-ABCD"));
        assert_eq!(uuid_of(dir.path(), 0), None);
        assert_eq!(uuid_of(&dir.path().join("none"), null), None);
    }

    #[test]
    fn a_real_folder_has_a_place_and_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::of(dir.path()).unwrap();
        assert!(place.file_system.contains(':'), "{place}");
        assert_eq!(Place::of(&dir.path().join(".")).unwrap(), place);
        assert!(Place::of(&dir.path().join("none")).is_err());
    }
}
