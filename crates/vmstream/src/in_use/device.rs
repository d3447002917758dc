//! What the kernel knows of a block device: what it consists of, what is on it, what is mounted.

use super::answer::Counts;
use super::opened::{Wanted, found_at};
use rustix::fs::{Dev, major, makedev, minor};
use std::fs;
use std::path::{Path, PathBuf};

fn sys(device: Dev) -> PathBuf {
    PathBuf::from(format!("/sys/dev/block/{}:{}", major(device), minor(device)))
}

/// The device number that a folder of sysfs names.
fn number(folder: &Path) -> Option<Dev> {
    let told = fs::read_to_string(folder.join("dev")).ok()?;
    let (major, minor) = told.trim().split_once(':')?;
    Some(makedev(major.parse().ok()?, minor.parse().ok()?))
}

fn folders(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// The device itself, and those through which the same bytes are written: its partitions, the disk that it is a part of,
/// and what is stacked upon them (LVM, multipath, RAID, encryption).
pub(super) fn related(device: Dev) -> Vec<Dev> {
    let mut all = vec![device];
    if sys(device).join("partition").exists() {
        // The link leads to /sys/devices/…/DISK/PARTITION.
        let disk = fs::canonicalize(sys(device)).ok().and_then(|own| number(own.parent()?));
        all.extend(disk);
    }
    above(device, &mut all);
    all
}

fn above(device: Dev, all: &mut Vec<Dev>) {
    let partitions = folders(&sys(device)).filter(|folder| folder.join("partition").exists());
    for folder in partitions.chain(folders(&sys(device).join("holders"))) {
        let Some(next) = number(&folder) else { continue };
        if !all.contains(&next) {
            all.push(next);
            above(next, all);
        }
    }
}

/// The first of the devices that is mounted.
pub(super) fn mounted(devices: &[Dev], counts: Counts) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let kinds = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    mounts.lines().find_map(|line| {
        let (head, about) = line.split_once(" - ")?;
        let (kind, source) = (about.split(' ').next()?, about.split(' ').nth(1)?);
        let options = about.rsplit(' ').next()?;
        // btrfs has a device number of its own: there the source tells.
        let same = number_of(head.split(' ').nth(2)?).is_some_and(|number| devices.contains(&number))
            || (may_have_device(&kinds, kind) && is_one_of(Path::new(source), devices));
        let writes = options.split(',').any(|option| option == "rw");
        let place = head.split(' ').nth(4)?;
        (same && (writes || counts == Counts::Everybody)).then(|| format!("the mount at {place}"))
    })
}

fn number_of(told: &str) -> Option<Dev> {
    let (major, minor) = told.split_once(':')?;
    Some(makedev(major.parse().ok()?, minor.parse().ok()?))
}

/// Whether a file system of that kind may be on a block device, by what `/proc/filesystems` says. The source of any other may
/// look like a path, and lead to storage that hangs.
fn may_have_device(kinds: &str, kind: &str) -> bool {
    let kind = kind.split_once('.').map_or(kind, |(kind, _)| kind);
    !kinds.lines().any(|line| line.strip_prefix("nodev\t") == Some(kind))
}

fn is_one_of(node: &Path, devices: &[Dev]) -> bool {
    node.is_absolute() && matches!(found_at(node), Some(Wanted::Device(number)) if devices.contains(&number))
}

/// The loop device that has this file for its content.
pub(super) fn loop_over(file: &Path, counts: Counts) -> Option<String> {
    let file = fs::canonicalize(file).ok()?;
    folders(Path::new("/sys/block")).find_map(|device| {
        let told = fs::read_to_string(device.join("loop/backing_file")).ok()?;
        let reads_only = fs::read_to_string(device.join("ro")).is_ok_and(|told| told.trim() == "1");
        let same = Path::new(told.trim_end_matches('\n')) == file;
        let counted = counts == Counts::Everybody || !reads_only;
        let name = device.file_name()?.to_str()?.to_owned();
        (same && counted).then(|| format!("loop device /dev/{name}"))
    })
}

/// Why somebody who writes to the device is not seen here: other hosts may reach it too.
pub(super) fn unseen(device: Dev) -> Option<String> {
    let own = fs::canonicalize(sys(device)).ok()?;
    let below: Vec<_> = folders(&own.join("slaves")).filter_map(|folder| number(&folder)).collect();
    if let Some(told) = below.into_iter().find_map(unseen) {
        return Some(told);
    }
    let kind = shared_kind(own.to_str()?)?;
    Some(format!("it is on storage that other hosts may reach too ({kind}), and theirs are not seen here"))
}

/// How a device of sysfs reaches its storage, if that may have other hosts too.
fn shared_kind(path: &str) -> Option<&'static str> {
    let name = path.rsplit('/').find(|name| !name.is_empty())?;
    let parts = || path.split('/');
    let numbered = |word: &str| {
        let digits = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
        parts().any(|part| part.strip_prefix(word).is_some_and(digits))
    };
    if numbered("session") {
        return Some("iSCSI");
    }
    if numbered("rport-") {
        return Some("Fibre Channel");
    }
    if parts().any(|part| part == "nvme-fabrics") {
        return Some("NVMe over fabrics");
    }
    ["rbd", "drbd", "nbd"].into_iter().find(|kind| {
        name.strip_prefix(kind).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_source_of_a_file_system_that_may_have_a_device_is_looked_at() {
        let kinds = "nodev\tfuse\n\tfuseblk\nnodev\toverlay\n\tbtrfs\n";
        let cases = [
            ("btrfs", true),
            ("fuseblk", true),
            ("fuseblk.ntfs", true),
            ("fuse", false),
            ("fuse.sshfs", false),
            ("overlay", false),
            ("unheard-of", true),
        ];
        for (kind, want) in cases {
            assert_eq!(may_have_device(kinds, kind), want, "{kind}");
        }
    }

    #[test]
    fn storage_that_other_hosts_may_reach_is_known_by_its_place() {
        let cases = [
            ("/sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda", None),
            ("/sys/devices/platform/host6/session1/target6:0:0/6:0:0:1/block/sdb", Some("iSCSI")),
            (
                "/sys/devices/pci0000:00/0000:05:00.0/host7/rport-7:0-2/target7:0:0/7:0:0:0/block/sdc/sdc1",
                Some("Fibre Channel"),
            ),
            ("/sys/devices/virtual/nvme-fabrics/ctl/nvme3/nvme3n1", Some("NVMe over fabrics")),
            ("/sys/devices/virtual/block/drbd0", Some("drbd")),
            ("/sys/devices/rbd/0/block/rbd0", Some("rbd")),
            ("/sys/devices/virtual/block/nbd3", Some("nbd")),
            ("/sys/devices/virtual/block/dm-0", None),
            ("/sys/devices/virtual/block/loop7", None),
        ];
        for (path, want) in cases {
            assert_eq!(shared_kind(path), want, "{path}");
        }
    }
}
