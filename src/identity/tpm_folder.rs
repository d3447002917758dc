//! How the TPM's state at each restore point lies in a chain directory.
//!
//! ```text
//! .tpm-state.virtnbdbackup.0/tpm2/tpm2-00.permall     the state at that point, root only
//! .tpm-state.virtnbdbackup.1 -> .tpm-state.virtnbdbackup.0     unchanged since
//! tpm-state -> .tpm-state.virtnbdbackup.0             the newest, where restore scripts look
//! .tpm-backup-marker                                  when it was taken
//! ```
//! Links are relative and stay inside the chain directory, so nothing that moves or deletes a chain leaves one dangling.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use jiff::{Timestamp, Zoned};
use serde::Serialize;
use vmstream::fresh;
use vmstream::sidecar::FileIdentity;
use zeroize::Zeroizing;

use super::TpmState;

/// What restore scripts read.
const NEWEST: &str = "tpm-state";
const MARKER: &str = ".tpm-backup-marker";
const PREFIX: &str = ".tpm-state.";
const METADATA: &str = "BACKUP_METADATA.txt";
const KEYS: &str = "bitlocker-recovery-keys.txt";

/// What stands above the part of the key file that Windows printed: it has the time in it.
const RULE: &str = "========================================\n";

/// Whether an entry of a chain directory is the TPM folder of a point, or lies in one.
pub fn is_tpm_folder(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The folder of a point: `.tpm-state.virtnbdbackup.3`, `.tpm-state.copy`.
fn folder_name(ident: &str) -> String {
    format!("{PREFIX}{ident}")
}

/// What became of a TPM's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TpmKept {
    /// It was copied.
    Saved,
    /// It is as at the point before: a link to that.
    Unchanged,
}

/// The TPM folder of one point, to be written.
pub struct TpmFolder {
    name: String,
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

    /// The folder of point `ident`. A link, when the chain goes on (`continues`) and its newest state is the same.
    pub fn new(
        chain_dir: &Path,
        ident: &str,
        continues: bool,
        state: TpmState,
        keys: Option<Zeroizing<Vec<u8>>>,
        owner: &Owner<'_>,
    ) -> Self {
        let name = folder_name(ident);
        let mut files = state.files;
        files.extend(keys.map(|keys| (KEYS.to_owned(), keys)));
        let newest = newest_folder(chain_dir).filter(|folder| continues && *folder != name);
        let same_as = newest.filter(|folder| holds(&chain_dir.join(folder), &files));
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

    /// Makes room for the folder, before its point is published: what an attempt that failed left goes, and a folder
    /// that is the same as another becomes a link.
    pub fn prepare(&self, chain_dir: &Path) -> io::Result<()> {
        if !self.continues {
            return Ok(());
        }
        let path = chain_dir.join(&self.name);
        match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path)?,
            Ok(_) => fs::remove_file(&path)?,
            Err(_) => {}
        }
        self.same_as.as_ref().map_or(Ok(()), |other| symlink(other, &path))
    }

    /// The folder that really holds the state.
    fn real(&self) -> &str {
        self.same_as.as_ref().unwrap_or(&self.name)
    }

    /// Makes `tpm-state` lead to this point, once it is published. A folder of that name (of an older program) becomes
    /// that of `parent`, the point it belongs to.
    pub fn link_newest(&self, chain_dir: &Path, parent: Option<&str>, now: &Zoned) -> io::Result<()> {
        let newest = chain_dir.join(NEWEST);
        if !has_state(&chain_dir.join(self.real())) {
            return Ok(());
        }
        if newest.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            fs::rename(&newest, free_name(chain_dir, parent.unwrap_or("before")))?;
        }
        link(chain_dir, self.real())?;
        let text = now.strftime("%Y-%m-%d %H:%M:%S\n").to_string();
        fresh::create(&chain_dir.join(MARKER), 0o640)?.write_all(text.as_bytes())
    }
}

/// Makes `tpm-state` lead to the state of point `ident`, where a run died before it did. `Ok(false)` when it does already,
/// or the point has none.
pub fn link_newest(chain_dir: &Path, ident: &str) -> io::Result<bool> {
    let name = folder_name(ident);
    let real = fs::read_link(chain_dir.join(&name)).map_or(name, |to| to.to_string_lossy().into_owned());
    let newest = chain_dir.join(NEWEST);
    let leads = fs::read_link(&newest).is_ok_and(|to| to == Path::new(&real));
    let is_folder = newest.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    if leads || is_folder || real.contains('/') || !has_state(&chain_dir.join(&real)) {
        return Ok(false);
    }
    link(chain_dir, &real).map(|()| true)
}

/// Whether a folder holds the state of a TPM, not only recovery keys.
fn has_state(folder: &Path) -> bool {
    ["tpm2", "tpm1.2"].iter().any(|version| folder.join(version).is_dir())
}

/// Replaces the link at once: there is one at every instant.
fn link(chain_dir: &Path, folder: &str) -> io::Result<()> {
    let new = chain_dir.join(format!("{PREFIX}link"));
    let _ = fs::remove_file(&new);
    symlink(folder, &new)?;
    fs::rename(&new, chain_dir.join(NEWEST))
}

/// A name for a folder that is in the way.
fn free_name(chain_dir: &Path, ident: &str) -> PathBuf {
    let plain = chain_dir.join(folder_name(ident));
    let numbered = (1_u32..).map(|n| chain_dir.join(folder_name(&format!("{ident}.{n}"))));
    let free = |path: &PathBuf| path.symlink_metadata().is_err();
    [plain.clone()].into_iter().chain(numbered).find(free).unwrap_or(plain)
}

/// The folder of ours that `tpm-state` leads to.
fn newest_folder(chain_dir: &Path) -> Option<String> {
    let target = fs::read_link(chain_dir.join(NEWEST)).ok()?;
    let name = target.to_str()?;
    let ours = name.starts_with(PREFIX) && !name.contains('/');
    let real = chain_dir.join(name).symlink_metadata().is_ok_and(|meta| meta.is_dir());
    (ours && real).then(|| name.to_owned())
}

/// Whether a folder holds exactly these files, the text about it aside.
fn holds(folder: &Path, files: &[(String, Zeroizing<Vec<u8>>)]) -> bool {
    let mut there = Vec::new();
    let mut folders = vec![(folder.to_owned(), String::new())];
    while let Some((path, prefix)) = folders.pop() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push((entry.path(), format!("{name}/")));
            } else if name != METADATA {
                there.push(name);
            }
        }
    }
    let same = |(name, content): &(String, Zeroizing<Vec<u8>>)| {
        let found = fs::read(folder.join(name)).map(Zeroizing::new);
        found.is_ok_and(|found| body(name, &found) == body(name, content))
    };
    there.len() == files.len() && files.iter().all(same)
}

/// What of a file counts.
fn body<'a>(name: &str, content: &'a [u8]) -> &'a [u8] {
    let rule = RULE.as_bytes();
    let at = content.windows(rule.len()).position(|part| part == rule).filter(|_| name == KEYS);
    &content[at.unwrap_or(0)..]
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

#[cfg(test)]
mod tests {
    use super::*;

    fn state(content: &str) -> TpmState {
        TpmState { files: vec![("tpm2/tpm2-00.permall".into(), Zeroizing::new(content.into()))] }
    }

    fn keys(time: &str, password: &str) -> Option<Zeroizing<Vec<u8>>> {
        Some(Zeroizing::new(format!("Extracted: {time}\n{RULE}\n{password}").into_bytes()))
    }

    /// Writes the folder of a point as a run does. Tells whether it is a link.
    fn save(dir: &Path, number: u32, state: TpmState, keys: Option<Zeroizing<Vec<u8>>>) -> bool {
        let owner =
            Owner { domain: "web", uuid: "u-1", source: Path::new("/swtpm/u-1"), now: Timestamp::UNIX_EPOCH };
        let folder = TpmFolder::new(dir, &format!("virtnbdbackup.{number}"), number > 0, state, keys, &owner);
        folder.prepare(dir).unwrap();
        for (name, content) in folder.files() {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let parent = number.checked_sub(1).map(|n| format!("virtnbdbackup.{n}"));
        folder.link_newest(dir, parent.as_deref(), &Zoned::now()).unwrap();
        dir.join(&folder.name).is_symlink()
    }

    fn read(dir: &Path, place: &str) -> String {
        fs::read_to_string(dir.join(place).join("tpm2/tpm2-00.permall")).unwrap()
    }

    #[test]
    fn each_point_has_its_own_state_and_an_unchanged_one_is_a_link() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        assert!(!save(dir, 0, state("a"), None));
        assert!(save(dir, 1, state("a"), None));
        assert!(!save(dir, 2, state("b"), None));
        assert!(save(dir, 3, state("b"), None));
        for (number, want) in ["a", "a", "b", "b"].iter().enumerate() {
            assert_eq!(read(dir, &format!(".tpm-state.virtnbdbackup.{number}")), *want);
        }
        assert_eq!(fs::read_link(dir.join("tpm-state")).unwrap(), Path::new(".tpm-state.virtnbdbackup.2"));
        let text = fs::read_to_string(dir.join("tpm-state/BACKUP_METADATA.txt")).unwrap();
        assert!(text.lines().any(|line| line.split_whitespace().eq(["VM", "UUID:", "u-1"])), "{text}");
        // All of it moves with the chain.
        let moved = tempfile::tempdir().unwrap();
        fs::rename(dir, moved.path().join("chain")).unwrap();
        assert_eq!(read(&moved.path().join("chain"), "tpm-state"), "b");
        fs::create_dir(dir).unwrap();
    }

    #[test]
    fn a_link_that_a_dead_run_did_not_make_is_made_by_the_next() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        assert!(!save(dir, 0, state("a"), None));
        assert!(!link_newest(dir, "virtnbdbackup.0").unwrap(), "it is there");
        for broken in ["gone", "older"] {
            fs::remove_file(dir.join("tpm-state")).unwrap();
            if broken == "older" {
                symlink(".tpm-state.copy", dir.join("tpm-state")).unwrap();
            }
            assert!(link_newest(dir, "virtnbdbackup.0").unwrap());
            assert_eq!(read(dir, "tpm-state"), "a");
        }
        assert!(!link_newest(dir, "virtnbdbackup.7").unwrap(), "no state at that point");
    }

    #[test]
    fn other_recovery_keys_make_another_folder_a_later_time_does_not() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        assert!(!save(dir, 0, state("a"), keys("1", "111")));
        assert!(save(dir, 1, state("a"), keys("2", "111")));
        assert!(!save(dir, 2, state("a"), keys("3", "222")));
        assert!(!save(dir, 3, state("a"), None));
    }

    #[test]
    fn a_folder_of_an_older_program_becomes_that_of_its_point() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        fs::create_dir_all(dir.join("tpm-state/tpm2")).unwrap();
        fs::write(dir.join("tpm-state/tpm2/tpm2-00.permall"), "old").unwrap();
        assert!(!save(dir, 1, state("old"), None));
        assert_eq!(read(dir, ".tpm-state.virtnbdbackup.0"), "old");
        assert_eq!(fs::read_link(dir.join("tpm-state")).unwrap(), Path::new(".tpm-state.virtnbdbackup.1"));
        // A leftover of an attempt that failed is replaced.
        assert!(save(dir, 2, state("old"), None));
        assert!(!save(dir, 2, state("new"), None));
        assert_eq!(read(dir, "tpm-state"), "new");
    }
}
