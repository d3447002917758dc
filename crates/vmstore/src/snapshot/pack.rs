//! Files and folders as one `tar` file, compressed with gzip: what a copy of the state folder is made in.
//!
//! A process of this program does it: reading a file may hang, and a process can be given up. No link is followed. A file that grows
//! while it is read is cut where it ended before, and of one that shrinks the rest is zeros: logs do both.
//! Must not live here: which entries belong in a copy.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::OFlags;
use tar::{Builder, EntryType, Header};
use vmprogram::{NEVER, Program};

use crate::inventory;
use crate::presence::{found, lstat};

/// The first argument that makes this program pack: into the file that follows, what follows that, by a folder and a name in it.
const PACK_ARGUMENT: &str = "--internal-pack";

/// How long packing may take: a state folder has some hundred MiB at most.
const PACK_LIMIT: Duration = Duration::from_secs(600);

/// An entry of a folder, with everything in it.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    pub(super) folder: PathBuf,
    /// Its name there, and in the copy.
    pub(super) name: PathBuf,
}

/// Packs in a process of its own. The first entry must be there.
///
/// # Errors
/// What to tell people.
pub(super) fn pack_apart(to: &Path, entries: &[Packed]) -> Result<(), String> {
    let named = entries.iter().flat_map(|entry| [&entry.folder, &entry.name]);
    let ended = Program::itself(PACK_ARGUMENT).arg(to).args(named).run(PACK_LIMIT, NEVER);
    let ended = ended.map_err(|error| error.to_string())?;
    if ended.status.success() {
        return Ok(());
    }
    let said = ended.message().replace('\n', "; ");
    Err(if said.is_empty() { ended.status.to_string() } else { said })
}

/// Packs, if that is what this process was started for: if its first argument says so.
pub fn answer(argument: &OsStr, paths: impl Iterator<Item = PathBuf>) -> Option<ExitCode> {
    if argument != PACK_ARGUMENT {
        return None;
    }
    let mut paths = paths;
    let to = paths.next().unwrap_or_default();
    let mut entries = Vec::new();
    while let (Some(folder), Some(name)) = (paths.next(), paths.next()) {
        entries.push(Packed { folder, name });
    }
    Some(match pack(&to, &entries) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    })
}

/// Packs here and now.
pub(super) fn pack(to: &Path, entries: &[Packed]) -> io::Result<()> {
    let mut builder = Builder::new(GzEncoder::new(File::create(to)?, Compression::default()));
    for (at, Packed { folder, name }) in entries.iter().enumerate() {
        let path = folder.join(name);
        if at == 0 && lstat(&path)?.is_none() {
            return Err(of(&path, io::ErrorKind::NotFound.into()));
        }
        add(&mut builder, &path, &Path::new(".").join(name))?;
    }
    builder.into_inner()?.finish()?.flush()
}

/// Adds one entry, a folder with what is in it. One that is gone since it was listed is left out, as pipes and sockets are.
fn add(builder: &mut Builder<impl Write>, path: &Path, name: &Path) -> io::Result<()> {
    let failed = |error| of(path, error);
    let Some(about) = lstat(path).map_err(failed)? else { return Ok(()) };
    let name_bytes = name.as_os_str().as_bytes();
    if about.is_file() {
        let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
        let opened = File::options().read(true).custom_flags(flags).open(path);
        let Some(file) = found(opened).map_err(failed)? else { return Ok(()) };
        let about = file.metadata().map_err(failed)?;
        let header = described(builder, name_bytes, &about, EntryType::Regular, b"").map_err(failed)?;
        return builder.append(&header, Exactly { file, left: about.len() }).map_err(failed);
    }
    if about.is_symlink() {
        let Some(target) = found(fs::read_link(path)).map_err(failed)? else { return Ok(()) };
        let target = target.as_os_str().as_bytes();
        let header = described(builder, name_bytes, &about, EntryType::Symlink, target).map_err(failed)?;
        return builder.append(&header, io::empty()).map_err(failed);
    }
    if !about.is_dir() {
        return Ok(());
    }
    let with_slash = [name_bytes, b"/"].concat();
    let header = described(builder, &with_slash, &about, EntryType::Directory, b"").map_err(failed)?;
    builder.append(&header, io::empty()).map_err(failed)?;
    let entries: io::Result<Vec<fs::DirEntry>> = inventory::entries(path).map_err(failed)?.collect();
    let mut names: Vec<_> = entries.map_err(failed)?.into_iter().map(|entry| entry.file_name()).collect();
    names.sort();
    names.iter().try_for_each(|inner| add(builder, &path.join(inner), &name.join(inner)))
}

/// The header of an entry. What is too long for it is written before it, as GNU tar does.
///
/// The names are written here because the library takes the `./` away that GNU tar keeps, and by which people ask for an entry.
fn described(
    builder: &mut Builder<impl Write>,
    name: &[u8],
    about: &fs::Metadata,
    kind: EntryType,
    target: &[u8],
) -> io::Result<Header> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(if kind == EntryType::Regular { about.len() } else { 0 });
    header.set_mode(about.mode() & 0o7777);
    header.set_uid(about.uid().into());
    header.set_gid(about.gid().into());
    header.set_mtime(u64::try_from(about.mtime()).unwrap_or_default());
    let fields = header.as_gnu_mut().ok_or(io::ErrorKind::InvalidData)?;
    let long = [
        (EntryType::GNULongName, name, &mut fields.name),
        (EntryType::GNULongLink, target, &mut fields.linkname),
    ];
    for (kind, bytes, field) in long {
        if bytes.len() > field.len() {
            let mut long = Header::new_gnu();
            long.set_path("././@LongLink")?;
            long.set_entry_type(kind);
            long.set_mode(0o644);
            long.set_size(bytes.len() as u64 + 1);
            long.set_cksum();
            builder.append(&long, bytes.chain(&b"\0"[..]))?;
        }
        let most = bytes.len().min(field.len());
        field[..most].copy_from_slice(&bytes[..most]);
    }
    header.set_cksum();
    Ok(header)
}

fn of(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// So many bytes of a file, whatever becomes of it.
struct Exactly<R> {
    file: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let most = room.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let room = &mut room[..most];
        let bytes = match self.file.read(room)? {
            0 => {
                room.fill(0);
                most
            }
            bytes => bytes,
        };
        self.left -= bytes as u64;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    use super::*;

    fn told(program: &mut Command) -> String {
        let ended = program.output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
        String::from_utf8(ended.stdout).unwrap()
    }

    #[test]
    fn another_tar_unpacks_what_was_packed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let long = "long".repeat(50);
        fs::create_dir_all(at("from/logs").join(&long).join(&long)).unwrap();
        fs::write(at("from/logs").join(&long).join(&long).join("ü b"), vec![7; 100_000]).unwrap();
        fs::write(at("from/logs/empty"), "").unwrap();
        let far = "far/".repeat(40);
        symlink(&far, at("from/logs/far")).unwrap();
        fs::set_permissions(at("from/logs/empty"), fs::Permissions::from_mode(0o604)).unwrap();
        symlink("../elsewhere", at("from/logs/link")).unwrap();
        assert!(Command::new("mkfifo").arg(at("from/logs/pipe")).status().unwrap().success());
        let entry = |name: &str| Packed { folder: at("from"), name: name.into() };
        pack(&at("packed"), &[entry("logs"), entry("gone since")]).unwrap();
        fs::remove_file(at("from/logs/pipe")).unwrap();
        fs::create_dir(at("to")).unwrap();
        told(Command::new("tar").arg("xzpf").arg(at("packed")).arg("-C").arg(at("to")));
        told(Command::new("diff").args(["-r", "--no-dereference"]).arg(at("from")).arg(at("to")));
        let facts = |of: &str| {
            told(Command::new("find").arg(at(of)).args(["-mindepth", "1", "-printf", "%P %m %U %G %Ts\n"]))
        };
        let sorted = |of: &str| {
            let mut lines: Vec<String> = facts(of).lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted("from"), sorted("to"));
        let listed = told(Command::new("tar").arg("tzf").arg(at("packed")));
        assert!(listed.lines().all(|name| name.starts_with("./logs/")), "{listed}");
        let missing = pack(&at("packed"), &[entry("none")]).unwrap_err().to_string();
        assert!(missing.contains("from/none"), "{missing}");
    }

    #[test]
    fn a_file_has_the_size_that_was_said_whatever_becomes_of_it() {
        for (content, want) in [("grown", "gro"), ("abc", "abc"), ("s", "s\0\0"), ("", "\0\0\0")] {
            let mut read = String::new();
            Exactly { file: content.as_bytes(), left: 3 }.read_to_string(&mut read).unwrap();
            assert_eq!(read, want, "{content:?}");
        }
    }
}
