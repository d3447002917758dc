//! A saved version of the host's configuration as a file: `tar`, compressed with gzip, so that a host on which nothing is installed yet can unpack it.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tar::{Archive, Builder, EntryType, Header};

use super::content::{Entry, Kind, MAX_BYTES};

/// What is in each version for people, and does not make it another one.
pub(super) const FOR_PEOPLE: [&str; 2] = [ABOUT, RESTORE];
/// When, where and by whom it was made, and what is missing.
pub(super) const ABOUT: &str = "about.json";
/// How it is used.
pub(super) const RESTORE: &str = "RESTORE.md";

/// Most bytes a version unpacks to: what it holds, and headers and padding of each entry.
const MAX_UNPACKED: u64 = 2 * MAX_BYTES as u64;

/// Writes a version. `seconds` is the modification time of its entries, since 1970.
pub(super) fn write(to: impl Write, entries: &BTreeMap<PathBuf, Entry>, seconds: u64) -> io::Result<()> {
    let mut builder = Builder::new(GzEncoder::new(to, Compression::default()));
    for (path, entry) in entries {
        let mut header = Header::new_gnu();
        header.set_mode(entry.mode);
        header.set_uid(entry.owner.into());
        header.set_gid(entry.group.into());
        header.set_mtime(seconds);
        match &entry.kind {
            Kind::File(content) => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, path, content.as_slice())?;
            }
            Kind::Folder => {
                header.set_entry_type(EntryType::Directory);
                header.set_size(0);
                builder.append_data(&mut header, path, io::empty())?;
            }
            Kind::Link(target) => {
                header.set_entry_type(EntryType::Symlink);
                header.set_size(0);
                builder.append_link(&mut header, path, target)?;
            }
        }
    }
    builder.into_inner()?.finish()?.flush()
}

/// Reads a version whole, without what is for people.
///
/// # Errors
/// Also when it is damaged at any place, or holds what no version does.
pub(super) fn read(from: impl Read) -> io::Result<BTreeMap<PathBuf, Entry>> {
    let mut archive = Archive::new(GzDecoder::new(from).take(MAX_UNPACKED));
    let mut entries = BTreeMap::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let header = entry.header();
        let number = |number: u64| u32::try_from(number).map_err(io::Error::other);
        let (mode, owner, group) = (header.mode()?, number(header.uid()?)?, number(header.gid()?)?);
        let path = entry.path()?.into_owned();
        let kind = match entry.header().entry_type() {
            EntryType::Regular => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content)?;
                Kind::File(content)
            }
            EntryType::Directory => Kind::Folder,
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                Kind::Link(Path::new(std::ffi::OsStr::from_bytes(&target)).to_owned())
            }
            other => return Err(io::Error::other(format!("it holds an entry of type {other:?}"))),
        };
        if !FOR_PEOPLE.iter().any(|name| path == Path::new(name)) {
            entries.insert(path, Entry { kind, mode, owner, group });
        }
    }
    // The checksum of all of it is behind the last entry.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> BTreeMap<PathBuf, Entry> {
        let entry = |kind, mode| Entry { kind, mode, owner: 0, group: 4_000_000_000 };
        let long: PathBuf = ["files"; 60].iter().collect();
        BTreeMap::from([
            ("files/etc".into(), entry(Kind::Folder, 0o2755)),
            ("files/etc/ü b".into(), entry(Kind::File(b"text".to_vec()), 0o640)),
            ("files/etc/link".into(), entry(Kind::Link(long.clone()), 0o777)),
            ("files/etc/up".into(), entry(Kind::Link("../../x".into()), 0o777)),
            (long, entry(Kind::File(vec![7; 100_000]), 0o600)),
        ])
    }

    fn written(entries: &BTreeMap<PathBuf, Entry>) -> Vec<u8> {
        let mut bytes = vec![];
        write(&mut bytes, entries, 1).unwrap();
        bytes
    }

    #[test]
    fn what_was_written_is_read_but_for_what_is_for_people() {
        let sample = sample();
        assert_eq!(read(written(&sample).as_slice()).unwrap(), sample);
        let mut more = sample.clone();
        let text = Entry { kind: Kind::File(vec![1]), mode: 0o600, owner: 0, group: 0 };
        more.insert(ABOUT.into(), text.clone());
        more.insert(RESTORE.into(), text);
        assert_eq!(read(written(&more).as_slice()).unwrap(), sample);
    }

    #[test]
    fn no_damage_is_taken_for_a_version() {
        let sample = sample();
        let good = written(&sample);
        assert!(read(&good[..0]).is_err());
        for at in 0..good.len() {
            // Bytes 4 to 9 of gzip say when and where it was made: RFC 1952.
            if !(4..10).contains(&at) {
                let mut bad = good.clone();
                bad[at] ^= 0x10;
                // A bit that the decompressor need not look at changes nothing.
                let is_harmless = read(bad.as_slice()).is_ok_and(|entries| entries == sample);
                assert!(is_harmless || read(bad.as_slice()).is_err(), "byte {at} of {}", good.len());
            }
            assert!(read(&good[..at]).is_err(), "cut at {at} of {}", good.len());
        }
    }
}
