//! How the TPM's state at each restore point lies in a chain directory.
//!
//! ```text
//! .tpm-state.virtnbdbackup.0/tpm2/tpm2-00.permall     the state at that point, root only
//! .tpm-state.virtnbdbackup.1 -> .tpm-state.virtnbdbackup.0     unchanged since
//! tpm-state/tpm2/tpm2-00.permall                      a copy of the newest, where restore scripts look
//! .tpm-backup-marker                                  when it was taken
//! ```
//! Links are relative and stay inside the chain directory, so nothing that moves or deletes a chain leaves one dangling.
//! `tpm-state` is no link: the Bash program writes into whatever is there, and would change the state of a point.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::Path;

use jiff::{Timestamp, Zoned};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use vmreport::TpmKept;
use vmstream::fresh;
use vmstream::sidecar::FileIdentity;
use zeroize::Zeroizing;

use super::TpmState;
use super::private_copy::{Files, files_of, write_private};
use vmstore::presence::{first_free, found, lstat, there};

/// What restore scripts read.
const NEWEST: &str = "tpm-state";
const MARKER: &str = ".tpm-backup-marker";
const PREFIX: &str = ".tpm-state.";
const METADATA: &str = "BACKUP_METADATA.txt";
const KEYS: &str = "bitlocker-recovery-keys.txt";

/// The newest state while it is being written.
const NEXT: &str = ".tpm-state.next";

/// What `tpm-state` was, where two names cannot be exchanged.
const FORMER: &str = ".tpm-state.former";

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
            Some(meta) if meta.is_dir() => fs::remove_dir_all(&path)?,
            Some(_) => fs::remove_file(&path)?,
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

fn real_folder(chain_dir: &Path, ident: &str) -> io::Result<Option<String>> {
    let name = folder_name(ident);
    match lstat(&chain_dir.join(&name))? {
        Some(meta) if meta.is_dir() => Ok(Some(name)),
        Some(meta) if meta.is_symlink() => led_to(chain_dir, &name),
        _ => Ok(None),
    }
}

/// The folder of ours that a link leads to.
fn led_to(chain_dir: &Path, link: &str) -> io::Result<Option<String>> {
    let target = fs::read_link(chain_dir.join(link))?;
    let Some(name) = target.to_str().filter(|name| name.starts_with(PREFIX) && !name.contains('/')) else {
        return Ok(None);
    };
    Ok(lstat(&chain_dir.join(name))?.is_some_and(|meta| meta.is_dir()).then(|| name.to_owned()))
}

/// Puts the state of point `ident` into `tpm-state`, where a run died before it did; without a point, or where it has no
/// state, makes a folder of a link that an older version left there. `Ok(false)` when there was nothing to do.
pub fn renew(chain_dir: &Path, ident: Option<&str>) -> io::Result<bool> {
    let real = ident.map_or(Ok(None), |ident| real_folder(chain_dir, ident))?;
    renew_from(chain_dir, real.as_deref(), None)
}

/// There is a whole `tpm-state` at every instant where two names can be exchanged, and elsewhere at the latest after the
/// next call.
fn renew_from(chain_dir: &Path, real: Option<&str>, parent: Option<&str>) -> io::Result<bool> {
    let path = |name: &str| chain_dir.join(name);
    let (newest, next, former) = (path(NEWEST), path(NEXT), path(FORMER));
    // What a run that died left.
    remove(&next)?;
    match (there(&newest)?, there(&former)?) {
        (false, true) => fs::rename(&former, &newest)?,
        (true, true) => remove(&former)?,
        _ => {}
    }
    let is_link = lstat(&newest)?.is_some_and(|meta| meta.is_symlink());
    let mut source = None;
    if let Some(real) = real {
        source = has_state(&path(real))?.then(|| real.to_owned());
    }
    if source.is_none() && is_link {
        source = led_to(chain_dir, NEWEST)?;
    }
    let Some(source) = source else { return Ok(false) };
    let files = files_of(&path(&source))?;
    let there = if is_link { None } else { found(files_of(&newest))? };
    if there.as_ref().is_some_and(|there| are_same(there, &files)) {
        return Ok(false);
    }
    write_private(&next, &files)?;
    if there.as_ref().is_some_and(|there| !there.is_empty()) && !is_kept(chain_dir, there.as_ref())? {
        keep_foreign(chain_dir, parent)?;
        fs::rename(&next, &newest)?;
    } else {
        change_places(&newest, &next, &former)?;
    }
    vmstore::durable::sync_folder(chain_dir)?;
    remove(&next)?;
    remove(&former)?;
    Ok(true)
}

/// Puts `next` in the place of whatever is there. That has the name of `next` or of `former` afterwards, if any.
fn change_places(newest: &Path, next: &Path, former: &Path) -> io::Result<()> {
    if !there(newest)? {
        return fs::rename(next, newest);
    }
    match renameat_with(CWD, next, CWD, newest, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::rename(newest, former)?;
            fs::rename(next, newest)
        }
        exchanged => Ok(exchanged?),
    }
}

/// Whether the folder of a point holds the same.
fn is_kept(chain_dir: &Path, files: Option<&Files>) -> io::Result<bool> {
    let Some(files) = files else { return Ok(true) };
    for entry in fs::read_dir(chain_dir)? {
        let entry = entry?;
        let is_ours = entry.file_name().to_str().is_some_and(|name| is_tpm_folder(name) && name != NEXT);
        if is_ours && entry.file_type()?.is_dir() && are_same(&files_of(&entry.path())?, files) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Keeps what another program wrote into `tpm-state`: as the state of `parent`, the point it belongs to, if that has none.
fn keep_foreign(chain_dir: &Path, parent: Option<&str>) -> io::Result<()> {
    let ident = parent.unwrap_or("before");
    let plain = chain_dir.join(folder_name(ident));
    let numbered = (1_u32..).map(|n| chain_dir.join(folder_name(&format!("{ident}.{n}"))));
    let free = first_free([plain.clone()].into_iter().chain(numbered))?;
    fs::rename(chain_dir.join(NEWEST), free.unwrap_or(plain))
}

/// Gives the folder of a point another name: it is of another chain, whose point had the same name.
fn put_aside(chain_dir: &Path, name: &str) -> io::Result<()> {
    let path = chain_dir.join(name);
    let free = first_free((1_u32..).map(|n| chain_dir.join(format!("{name}.old.{n}"))))?;
    free.map_or(Ok(()), |free| fs::rename(path, free))
}

/// Whether a folder holds the state of a TPM, not only recovery keys.
fn has_state(folder: &Path) -> io::Result<bool> {
    for version in ["tpm2", "tpm1.2"] {
        if lstat(&folder.join(version))?.is_some_and(|meta| meta.is_dir()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes a folder, link or file. None there is as good.
fn remove(path: &Path) -> io::Result<()> {
    match lstat(path)? {
        Some(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Some(_) => fs::remove_file(path),
        None => Ok(()),
    }
}

/// Whether two folders hold the same, the text about it aside.
fn are_same(one: &Files, other: &Files) -> bool {
    let counted = |files: &Files| {
        let mut names: Vec<usize> = (0..files.len()).filter(|at| files[*at].0 != METADATA).collect();
        names.sort_by(|a, b| files[*a].0.cmp(&files[*b].0));
        names
    };
    let (ours, theirs) = (counted(one), counted(other));
    ours.len() == theirs.len()
        && ours.iter().zip(&theirs).all(|(a, b)| {
            let ((name, content), (other_name, other_content)) = (&one[*a], &other[*b]);
            name == other_name && body(name, content) == body(name, other_content)
        })
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
        let parent = number.checked_sub(1).map(|n| format!("virtnbdbackup.{n}"));
        let before = parent.as_ref().and_then(|parent| folder_of(dir, parent, |_| true).unwrap());
        let ident = format!("virtnbdbackup.{number}");
        let folder = TpmFolder::new(dir, &ident, (number > 0, before), state, keys, &owner);
        folder.prepare(dir).unwrap();
        for (name, content) in folder.files() {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder.settle(dir, parent.as_deref(), &Zoned::now()).unwrap();
        assert!(!dir.join("tpm-state").is_symlink());
        dir.join(&folder.name).is_symlink()
    }

    fn read(dir: &Path, place: &str) -> String {
        fs::read_to_string(dir.join(place).join("tpm2/tpm2-00.permall")).unwrap()
    }

    /// The hidden entries, sorted.
    fn hidden(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.starts_with(PREFIX)).collect();
        names.sort();
        names
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
        let text = fs::read_to_string(dir.join("tpm-state/BACKUP_METADATA.txt")).unwrap();
        assert!(text.lines().any(|line| line.split_whitespace().eq(["VM", "UUID:", "u-1"])), "{text}");
        let mode = |name: &str| {
            use std::os::unix::fs::PermissionsExt;
            fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o7777
        };
        let modes = ["tpm-state", "tpm-state/tpm2", "tpm-state/tpm2/tpm2-00.permall"].map(mode);
        assert_eq!(modes, [0o700, 0o700, 0o600]);
        // What writes into it in place changes no point.
        fs::write(dir.join("tpm-state/tpm2/tpm2-00.permall"), "in place").unwrap();
        assert_eq!(read(dir, ".tpm-state.virtnbdbackup.2"), "b");
        // All of it moves with the chain.
        let moved = tempfile::tempdir().unwrap();
        fs::rename(dir, moved.path().join("chain")).unwrap();
        assert_eq!(read(&moved.path().join("chain"), ".tpm-state.virtnbdbackup.3"), "b");
        fs::create_dir(dir).unwrap();
    }

    #[test]
    fn what_a_dead_run_did_not_do_is_done_by_the_next() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        assert!(!save(dir, 0, state("a"), None));
        let renewed = || renew(dir, Some("virtnbdbackup.0")).unwrap();
        assert!(!renewed(), "it is there");
        fs::remove_dir_all(dir.join("tpm-state")).unwrap();
        assert!(renewed());
        // A link of an older version, to this point's folder or to one that is gone.
        for target in [".tpm-state.virtnbdbackup.0", ".tpm-state.copy"] {
            fs::remove_dir_all(dir.join("tpm-state")).unwrap();
            symlink(target, dir.join("tpm-state")).unwrap();
            assert!(renewed(), "{target}");
            assert!(!dir.join("tpm-state").is_symlink());
            assert_eq!(read(dir, "tpm-state"), "a");
        }
        // Died between two renames, where names cannot be exchanged.
        fs::rename(dir.join("tpm-state"), dir.join(FORMER)).unwrap();
        fs::create_dir(dir.join(NEXT)).unwrap();
        assert!(!renew(dir, None).unwrap());
        assert_eq!(read(dir, "tpm-state"), "a");
        fs::create_dir(dir.join(FORMER)).unwrap();
        renew(dir, None).unwrap();
        assert_eq!(hidden(dir), [".tpm-state.virtnbdbackup.0"]);
        assert!(!renew(dir, Some("virtnbdbackup.7")).unwrap(), "no state at that point");
        // Without a point the link becomes a folder all the same.
        fs::remove_dir_all(dir.join("tpm-state")).unwrap();
        symlink(".tpm-state.virtnbdbackup.0", dir.join("tpm-state")).unwrap();
        assert!(renew(dir, None).unwrap());
        assert!(!dir.join("tpm-state").is_symlink());
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
        assert!(!save(dir, 1, state("newer"), None));
        assert_eq!(read(dir, ".tpm-state.virtnbdbackup.0"), "old");
        assert_eq!(read(dir, "tpm-state"), "newer");
        // A leftover of an attempt that failed is replaced.
        assert!(save(dir, 2, state("newer"), None));
        assert!(!save(dir, 2, state("new"), None));
        assert_eq!(read(dir, "tpm-state"), "new");
        // The Bash program wrote a state of its own meanwhile, and no point of ours has it.
        fs::write(dir.join("tpm-state/tpm2/tpm2-00.permall"), "bash").unwrap();
        assert!(!save(dir, 4, state("newest"), None));
        assert_eq!(read(dir, ".tpm-state.virtnbdbackup.3"), "bash");
        assert_eq!(read(dir, ".tpm-state.virtnbdbackup.2"), "new");
    }

    #[test]
    fn what_is_of_another_chain_does_not_count_and_is_not_lost() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        assert!(!save(dir, 0, state("a"), None));
        assert!(save(dir, 1, state("a"), None));
        let folder = |ident: &str, ours: &'static str| folder_of(dir, ident, |id| id == ours).unwrap();
        assert_eq!(
            folder("virtnbdbackup.0", "virtnbdbackup.0").as_deref(),
            Some(".tpm-state.virtnbdbackup.0")
        );
        assert_eq!(folder("virtnbdbackup.0", "virtnbdbackup.1"), None);
        assert_eq!(
            folder("virtnbdbackup.1", "virtnbdbackup.1"),
            None,
            "it is a link to one that does not count"
        );
        assert_eq!(folder("virtnbdbackup.2", "virtnbdbackup.2"), None);
        // The chain was archived without it, and the next has come as far.
        fs::create_dir_all(dir.join(".tpm-state.virtnbdbackup.2/tpm2")).unwrap();
        fs::write(dir.join(".tpm-state.virtnbdbackup.2/tpm2/tpm2-00.permall"), "archived").unwrap();
        assert!(save(dir, 2, state("a"), None));
        assert_eq!(read(dir, ".tpm-state.virtnbdbackup.2.old.1"), "archived");
    }
}
