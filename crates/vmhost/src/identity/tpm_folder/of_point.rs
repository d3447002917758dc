//! The folder of one point: what it holds, or which other it is the same as.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::Path;

use jiff::{Timestamp, Zoned};
use vmreport::TpmKept;
use vmstore::presence::{first_free, lstat};
use vmstore::remove::Folder;
use vmstream::fresh;
use vmstream::sidecar::FileIdentity;
use zeroize::Zeroizing;

use super::names::{KEYS, METADATA, PREFIX, folder_name, has_state, real_folder};
use super::newest::renew_from;
use super::same::are_same;
use crate::identity::TpmState;
use crate::identity::private_copy::files_of;

const MARKER: &str = ".tpm-backup-marker";

/// The TPM folder of one point, to be written.
pub struct TpmFolder {
    pub(super) name: String,
    /// The chain goes on: a folder of this name here is not another chain's.
    continues: bool,
    files: Vec<(String, Zeroizing<Vec<u8>>)>,
    same_as: Option<String>,
}

/// Whose TPM it is, for the text beside it.
pub struct Owner<'a> {
    /// Name of the domain.
    pub domain: &'a str,
    /// Its UUID: restore scripts put the state back under it.
    pub uuid: &'a str,
    /// Where the state was.
    pub source: &'a Path,
    /// When it was taken.
    pub now: Timestamp,
}

impl TpmFolder {
    /// The files a folder of point `ident` may get, by path below the chain directory: for a journal, before they are read.
    pub fn file_names(ident: &str, source: &Path) -> Vec<String> {
        let state = TpmState::file_names(source);
        let names = state.iter().map(String::as_str).chain([METADATA, KEYS]);
        names.map(|file| format!("{}/{file}", folder_name(ident))).collect()
    }

    /// The folder of point `ident`. A link to `before`, the folder of the point before it ([`folder_of`]), when the state is the
    /// same. `continues`: the chain goes on, so what has this point's name here is not of a chain that is archived first.
    pub fn new(
        chain_dir: &Path,
        ident: &str,
        (continues, before): (bool, Option<String>),
        state: TpmState,
        keys: Option<Zeroizing<Vec<u8>>>,
        owner: &Owner<'_>,
    ) -> Self {
        let name = folder_name(ident);
        let mut files = state.files;
        files.extend(keys.map(|keys| (KEYS.to_owned(), keys)));
        let before = before.filter(|folder| continues && *folder != name);
        let same_as = before.filter(|folder| {
            // One that cannot be read is saved once more.
            files_of(&chain_dir.join(folder)).is_ok_and(|there| are_same(&there, &files))
        });
        if same_as.is_none() {
            let text = metadata(chain_dir, &files, owner);
            files.push((METADATA.to_owned(), Zeroizing::new(text.into_bytes())));
        } else {
            files.clear();
        }
        Self { name, continues, files, same_as }
    }

    /// The files to write, by path below the chain directory.
    pub fn files(&self) -> impl Iterator<Item = (String, &[u8])> {
        self.files.iter().map(|(file, content)| (format!("{}/{file}", self.name), content.as_slice()))
    }

    /// What tells each of these files from others, by path below the folder. A link has none: they are of another point.
    pub fn identities(&self) -> Vec<FileIdentity> {
        self.files.iter().map(|(file, content)| FileIdentity::of(file, content)).collect()
    }

    /// What became of the state.
    pub fn kind(&self) -> TpmKept {
        if self.same_as.is_some() { TpmKept::Unchanged } else { TpmKept::Saved }
    }

    /// Makes room for the folder, before its point is published, and a link of a folder that is the same as another. What an
    /// attempt that failed left goes; what holds files is of another chain, and is put aside.
    pub fn prepare(&self, chain_dir: &Path) -> io::Result<()> {
        if !self.continues {
            return Ok(());
        }
        let path = chain_dir.join(&self.name);
        match lstat(&path)? {
            Some(meta) if meta.is_dir() && !files_of(&path)?.is_empty() => put_aside(chain_dir, &self.name)?,
            Some(_) => drop(Folder::open(chain_dir)?.remove(self.name.as_ref())?),
            None => {}
        }
        self.same_as.as_ref().map_or(Ok(()), |other| symlink(other, &path))
    }

    /// Puts this point's state into `tpm-state`, once the point is published, and says when it was taken. `parent` is the
    /// point it follows.
    pub fn settle(&self, chain_dir: &Path, parent: Option<&str>, now: &Zoned) -> io::Result<()> {
        let real = self.same_as.as_ref().unwrap_or(&self.name);
        renew_from(chain_dir, Some(real), parent)?;
        if !has_state(&chain_dir.join(real))? {
            return Ok(());
        }
        let text = now.strftime("%Y-%m-%d %H:%M:%S\n").to_string();
        fresh::create(&chain_dir.join(MARKER), 0o640)?.write_all(text.as_bytes())
    }
}

/// The folder that holds the state of point `ident`: its own, or the one it is a link to. `None` when there is none, or
/// `counts` says of one of the points that such files here are not its own.
pub fn folder_of(chain_dir: &Path, ident: &str, counts: impl Fn(&str) -> bool) -> io::Result<Option<String>> {
    let Some(real) = real_folder(chain_dir, ident)? else { return Ok(None) };
    let of_point = real.strip_prefix(PREFIX).unwrap_or_default();
    Ok((counts(ident) && counts(of_point)).then_some(real))
}

/// Gives the folder of a point another name: it is of another chain, whose point had the same name.
fn put_aside(chain_dir: &Path, name: &str) -> io::Result<()> {
    let path = chain_dir.join(name);
    let free = first_free((1_u32..).map(|n| chain_dir.join(format!("{name}.old.{n}"))))?;
    free.map_or(Ok(()), |free| fs::rename(path, free))
}

fn metadata(chain_dir: &Path, files: &[(String, Zeroizing<Vec<u8>>)], owner: &Owner<'_>) -> String {
    let Owner { domain, uuid, source, now } = owner;
    let files: String =
        files.iter().map(|(name, content)| format!("  {:>10}  {name}\n", content.len())).collect();
    format!(
        "TPM state of a virtual machine\n==============================\n\
         VM Name:           {domain}\n\
         VM UUID:           {uuid}\n\
         Backup Timestamp:  {}\n\
         Backup Method:     full\n\
         Source Directory:  {}\n\
         Backup Directory:  {}\n\n\
         File Inventory:\n{files}\n\
         To put it back by hand:\n\
         \x20 1. Shut the VM down.\n\
         \x20 2. Move what is in the source directory elsewhere.\n\
         \x20 3. Copy the folder tpm2 (or tpm1.2) from here to it.\n\
         \x20 4. Give it to the user that swtpm runs as: chown -R tss:tss.\n\
         \x20 5. Start the VM.\n\
         The state fits this VM at this restore point. Whoever can read it can unseal what the TPM protects.\n",
        now.strftime("%Y-%m-%d %H:%M:%S UTC"),
        source.display(),
        chain_dir.display(),
    )
}
