//! The host's files that belong to running VMs: libvirt's own, the network's, and those of services beside.
//!
//! Links are kept as links and never followed. Sockets, pipes and devices are no configuration.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::content::{Content, Entry, Kind};

/// Where files are in a version.
const FILES: &str = "files";

/// Most bytes of one file. Configuration is smaller; what is larger is something else.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Folders are followed so deep and no deeper.
const MAX_DEPTH: u32 = 16;

/// Files and folders, with all below. A `*` at the end of a name stands for any text.
///
/// Not here: what libvirt makes of its definitions (`/var/lib/libvirt/dnsmasq`, `network`), what belongs to a VM and is in
/// its backup (NVRAM, TPM), what is of the moment (sockets, saved memory).
const PLACES: &[&str] = &[
    // libvirt, and what its emulators are given.
    "/etc/libvirt",
    "/etc/default/libvirt*",
    "/etc/default/virt*",
    "/etc/sysconfig/libvirt*",
    "/etc/sysconfig/virt*",
    "/etc/systemd/system/libvirt*",
    "/etc/systemd/system/virt*",
    "/etc/qemu",
    "/etc/mdevctl.d",
    "/etc/apparmor.d/local/abstractions/libvirt*",
    "/etc/apparmor.d/local/usr.lib.libvirt*",
    "/etc/apparmor.d/local/usr.sbin.libvirt*",
    "/etc/apparmor.d/local/usr.sbin.virt*",
    // The network.
    "/etc/network",
    "/etc/NetworkManager",
    "/etc/netplan",
    "/etc/systemd/network",
    "/etc/systemd/networkd.conf*",
    "/etc/sysconfig/network-scripts",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/nftables*",
    "/etc/iptables",
    "/etc/firewalld",
    "/etc/ufw",
    // Disks, shares, and the kernel.
    "/etc/fstab",
    "/etc/crypttab",
    "/etc/exports*",
    "/etc/multipath*",
    "/etc/iscsi",
    "/etc/modules",
    "/etc/modules-load.d",
    "/etc/modprobe.d",
    "/etc/sysctl.conf",
    "/etc/sysctl.d",
    "/etc/default/grub*",
];

/// libvirt's secrets: their definitions are taken, their values beside them are not.
const SECRETS: &str = "/etc/libvirt/secrets";

/// Takes the host's files, and those below the folders of `also`.
pub(super) fn add_files(content: &mut Content, also: &[&Path]) {
    for place in PLACES {
        for path in matching(Path::new(place)) {
            add_place(content, &path);
        }
    }
    for path in also {
        add_place(content, path);
    }
}

/// The entries that a place stands for: itself, or those that begin as it does.
fn matching(place: &Path) -> Vec<PathBuf> {
    let name = place.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(begin) = name.strip_suffix('*') else { return vec![place.to_owned()] };
    let entries = place.parent().into_iter().flat_map(fs::read_dir).flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(begin.as_bytes()))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

fn add_place(content: &mut Content, path: &Path) {
    if fs::metadata(path).is_ok_and(|about| about.is_dir()) && path.is_symlink() {
        let why =
            format!("{} is a link: the link is kept, not what is in the folder it leads to", path.display());
        content.leave_out(stored(path), why, true);
    }
    add(content, path, 0);
}

/// Where a path of the host is in a version.
fn stored(path: &Path) -> PathBuf {
    Path::new(FILES).join(path.strip_prefix("/").unwrap_or(path))
}

fn add(content: &mut Content, path: &Path, depth: u32) {
    if path.parent() == Some(Path::new(SECRETS)) && path.extension().is_none_or(|end| end != "xml") {
        return;
    }
    let missing = |error: io::Error| (error.kind() != io::ErrorKind::NotFound).then_some(error);
    let read = fs::symlink_metadata(path).and_then(|about| Ok((kind(path, &about)?, about)));
    let (kind, about) = match read {
        Ok((Some(kind), about)) => (kind, about),
        Ok((None, _)) => return,
        Err(error) => {
            if let Some(error) = missing(error) {
                content.leave_out(stored(path), format!("Cannot read {}: {error}", path.display()), true);
            }
            return;
        }
    };
    let is_folder = kind == Kind::Folder;
    let entry = Entry { kind, mode: about.mode() & 0o7777, owner: about.uid(), group: about.gid() };
    content.add(stored(path), entry);
    if is_folder {
        add_below(content, path, depth + 1);
    }
}

fn add_below(content: &mut Content, folder: &Path, depth: u32) {
    let shown = folder.display();
    if depth > MAX_DEPTH {
        return content.leave_out(
            stored(folder),
            format!("{shown} is more than {MAX_DEPTH} folders deep"),
            true,
        );
    }
    let listed = fs::read_dir(folder).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()
    });
    match listed {
        Ok(mut paths) => {
            paths.sort();
            paths.iter().for_each(|path| add(content, path, depth));
        }
        Err(error) => content.leave_out(stored(folder), format!("Cannot list {shown}: {error}"), true),
    }
}

/// What an entry holds; `None` for what is no configuration.
fn kind(path: &Path, about: &Metadata) -> io::Result<Option<Kind>> {
    let kind = about.file_type();
    if kind.is_dir() {
        Ok(Some(Kind::Folder))
    } else if kind.is_symlink() {
        fs::read_link(path).map(Kind::Link).map(Some)
    } else if kind.is_file() {
        read(path).map(Kind::File).map(Some)
    } else {
        Ok(None)
    }
}

/// Reads a file, not a link that took its place, nor anything that could be waited for.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let mut content = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it is larger than {} MiB", MAX_FILE_BYTES >> 20)));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_kept_and_not_followed_and_nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("etc/inner")).unwrap();
        fs::create_dir(at("outside")).unwrap();
        fs::write(at("outside/secret"), "s").unwrap();
        fs::write(at("etc/inner/a.conf"), "a").unwrap();
        symlink(at("outside"), at("etc/out")).unwrap();
        symlink("inner/a.conf", at("etc/in")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("etc/pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        let large = File::create(at("etc/large")).unwrap();
        large.set_len(MAX_FILE_BYTES + 1).unwrap();
        let mut content = Content::default();
        add_place(&mut content, &at("etc"));
        let found: Vec<_> =
            content.entries.iter().map(|(path, entry)| (path.clone(), entry.kind.clone())).collect();
        let stored = |name: &str| stored(&at(name));
        assert_eq!(
            found,
            [
                (stored("etc"), Kind::Folder),
                (stored("etc/in"), Kind::Link("inner/a.conf".into())),
                (stored("etc/inner"), Kind::Folder),
                (stored("etc/inner/a.conf"), Kind::File(b"a".to_vec())),
                (stored("etc/out"), Kind::Link(at("outside"))),
            ]
        );
        let left_out: Vec<_> = content.left_out.iter().map(|left_out| &left_out.place).collect();
        assert_eq!(left_out, [&stored("etc/large")]);

        let mut content = Content::default();
        add_place(&mut content, &at("etc/out"));
        add_place(&mut content, &at("nowhere"));
        assert_eq!(content.entries.keys().collect::<Vec<_>>(), [&stored("etc/out")]);
        assert_eq!(content.left_out.len(), 1, "a place that is a link is told");
    }

    #[test]
    fn a_star_stands_for_any_end() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["libvirtd", "libvirt-guests", "other"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let found = matching(&dir.path().join("libvirt*"));
        assert_eq!(found, [dir.path().join("libvirt-guests"), dir.path().join("libvirtd")]);
        assert_eq!(matching(&dir.path().join("nowhere/x*")), Vec::<PathBuf>::new());
        assert_eq!(matching(&dir.path().join("other")), [dir.path().join("other")]);
    }
}
