//! QEMU's locks: what each QEMU does with an image, and lets others do, as locks on single bytes of the file.

use super::answer::Counts;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

// QEMU, block/file-posix.c: RAW_LOCK_PERM_BASE and RAW_LOCK_SHARED_BASE, plus the numbers of BLK_PERM_*. A process that
// does something holds a read lock on the first byte, one that does not let others do it on the second.
const WRITES: libc::off_t = 101;
const RESIZES: libc::off_t = 103;
const LETS_NOBODY_WRITE: libc::off_t = 201;
const LETS_NOBODY_RESIZE: libc::off_t = 203;

/// True when a QEMU has the file open. One that reads it with force-share has no such lock.
pub(super) fn held(image: &Path, counts: Counts) -> io::Result<bool> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags).open(image)?;
    let bytes: &[libc::off_t] = match counts {
        Counts::Writers => &[WRITES, RESIZES],
        Counts::Everybody => &[WRITES, RESIZES, LETS_NOBODY_WRITE, LETS_NOBODY_RESIZE],
    };
    for byte in bytes {
        if is_locked(&file, *byte)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// True when a write lock on the byte would not be given.
fn is_locked(file: &File, byte: libc::off_t) -> io::Result<bool> {
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}

/// Why locks that other hosts take on this file are not seen here.
pub(super) fn unseen(about: &Metadata) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let (major, minor) = (rustix::fs::major(about.dev()), rustix::fs::minor(about.dev()));
    lockless(&mounts, &format!("{major}:{minor}"))
}

/// Searches the lines of `mountinfo` for a device whose file system shares no locks.
fn lockless(mounts: &str, device: &str) -> Option<String> {
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(device))?;
    let (_, about) = line.split_once(" - ")?;
    let mut words = about.split(' ');
    let (kind, options) = (words.next()?, words.next_back()?);
    let has = |wanted: &str| options.split(',').find(|option| *option == wanted);
    let option = match kind {
        "nfs" | "nfs4" => has("nolock").or_else(|| has("local_lock=all")).or_else(|| has("local_lock=posix")),
        "cifs" | "smb3" => has("nobrl"),
        "fuse.sshfs" | "fuse.rclone" => Some("no shared locks"),
        _ => None,
    }?;
    Some(format!(
        "it is on a network file system without shared locks ({kind}, {option}), so another host's are not seen"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_mounts_without_shared_locks_are_known_by_their_options() {
        let mounts = "\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 21 0:50 / /nfs rw - nfs4 host:/a rw,vers=4.2,local_lock=none,addr=10.0.0.1
41 21 0:51 / /old rw shared:7 - nfs host:/b rw,nolock,local_lock=all
42 21 0:52 / /smb rw - cifs //host/c rw,nobrl,uid=0
43 21 0:53 / /smb2 rw - cifs //host/d rw,uid=0
44 21 0:54 / /ssh rw - fuse.sshfs host:/e rw
";
        let cases = [
            ("8:1", None),
            ("0:50", None),
            ("0:51", Some("nfs, nolock")),
            ("0:52", Some("cifs, nobrl")),
            ("0:53", None),
            ("0:54", Some("fuse.sshfs, no shared locks")),
            ("0:99", None),
        ];
        for (device, want) in cases {
            let told = lockless(mounts, device);
            assert_eq!(told.is_some(), want.is_some(), "{device}: {told:?}");
            assert!(told.unwrap_or_default().contains(want.unwrap_or_default()), "{device}");
        }
    }
}
