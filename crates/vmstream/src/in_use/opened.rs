//! Which process has a file or a device open, by the descriptors below `/proc`.

use super::answer::Counts;
use nix::libc;
use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, makedev, statx};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A file, by device and inode.
    File(u64, u64),
    /// A block device, by number, whatever its node is called.
    Device(u64),
}

impl Wanted {
    pub(super) fn file(about: &Metadata) -> Self {
        Self::File(about.dev(), about.ino())
    }
}

/// What a path leads to, as it can be looked for. Of a descriptor, what is open itself, in whatever namespace it has its name.
///
/// Asks the kernel alone: descriptors and mounts lead to storage of any kind, and what hangs there has nothing to do with
/// this image.
pub(super) fn found_at(path: &Path) -> Option<Wanted> {
    let what = StatxFlags::TYPE | StatxFlags::INO;
    let about = statx(CWD, path, AtFlags::STATX_DONT_SYNC, what).ok()?;
    match FileType::from_raw_mode(about.stx_mode.into()) {
        FileType::RegularFile => {
            Some(Wanted::File(makedev(about.stx_dev_major, about.stx_dev_minor), about.stx_ino))
        }
        FileType::BlockDevice => Some(Wanted::Device(makedev(about.stx_rdev_major, about.stx_rdev_minor))),
        _ => None,
    }
}

/// Nobody of those that may be looked at has it open, and there are others.
pub(super) struct Hidden;

/// The first process other than this one that has one of `wanted` open.
pub(super) fn by_others(wanted: &[Wanted], counts: Counts) -> Result<Option<String>, Hidden> {
    let Ok(processes) = fs::read_dir("/proc") else { return Err(Hidden) };
    let mut hidden = false;
    for process in processes.flatten() {
        let name = process.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if id == std::process::id() {
            continue;
        }
        let dir = process.path();
        match has_open(&dir, wanted, counts) {
            Ok(true) => {
                let program = fs::read_to_string(dir.join("comm")).unwrap_or_default();
                return Ok(Some(format!("process {id} ({})", program.trim())));
            }
            Ok(false) => {}
            // What has ended meanwhile is no matter.
            Err(error) => hidden |= error.kind() == std::io::ErrorKind::PermissionDenied,
        }
    }
    if hidden { Err(Hidden) } else { Ok(None) }
}

fn has_open(process: &Path, wanted: &[Wanted], counts: Counts) -> std::io::Result<bool> {
    for descriptor in fs::read_dir(process.join("fd"))?.flatten() {
        if !found_at(&descriptor.path()).is_some_and(|found| wanted.contains(&found)) {
            continue;
        }
        let told = fs::read_to_string(process.join("fdinfo").join(descriptor.file_name()));
        let flags = told.ok().and_then(|told| flags_of(&told));
        // Closed since: `None`.
        if flags.is_some_and(|flags| counted(flags, counts)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn flags_of(fdinfo: &str) -> Option<i32> {
    let octal = fdinfo.lines().find_map(|line| line.strip_prefix("flags:"))?;
    i32::from_str_radix(octal.trim(), 8).ok()
}

fn counted(flags: i32, counts: Counts) -> bool {
    let only_a_name = flags & libc::O_PATH != 0;
    !only_a_name && (counts == Counts::Everybody || flags & libc::O_ACCMODE != libc::O_RDONLY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_only_reads_or_only_names_it_does_not_write() {
        let cases = [
            (libc::O_RDONLY, false, true),
            (libc::O_RDWR, true, true),
            (libc::O_WRONLY | libc::O_DIRECT, true, true),
            (libc::O_RDONLY | libc::O_CLOEXEC, false, true),
            (libc::O_PATH, false, false),
        ];
        for (flags, writes, counts) in cases {
            let told = format!("pos:\t0\nflags:\t0{flags:o}\nmnt_id:\t29\n");
            let flags = flags_of(&told).unwrap();
            assert_eq!(counted(flags, Counts::Writers), writes, "{told}");
            assert_eq!(counted(flags, Counts::Everybody), counts, "{told}");
        }
    }
}
