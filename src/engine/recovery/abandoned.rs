//! Journals of hosts that write to a tree no more. What they name (a job, a checkpoint, a frozen guest) is on that host, if it
//! still is; here they only keep VMs of the same name from being backed up.
//!
//! Must not live here: undoing a journal (`undo`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::engine::claims::journal_lines;
use vmstore::{StateDir, durable};

/// A journal that nobody will undo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abandoned {
    pub file: PathBuf,
    /// The VM, as far as it tells.
    pub domain: String,
}

/// What is asked of a journal here: one of a newer program has this too.
#[derive(Default, Deserialize)]
struct Head {
    #[serde(default)]
    host: String,
    #[serde(default)]
    domain: String,
}

/// The journals below a backup path that runs of other machines left. In a tree that is not ours also those that do not tell
/// whose they are, and damaged ones.
pub fn of_others(backup_path: &Path, machine_id: &str, tree_is_ours: bool) -> io::Result<Vec<Abandoned>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(StateDir::of(backup_path).journals()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        listed => listed?,
    };
    for entry in entries {
        let file = entry?.path();
        if file.extension().is_none_or(|end| end != "json") {
            continue;
        }
        let head: Head = journal_lines::newest(&fs::read(&file)?).unwrap_or_default();
        let of_other = if head.host.is_empty() { !tree_is_ours } else { head.host != machine_id };
        if of_other {
            let name = || file.file_stem().map(|name| name.to_string_lossy().into_owned());
            let domain = Some(head.domain).filter(|name| !name.is_empty()).or_else(name).unwrap_or_default();
            found.push(Abandoned { file, domain });
        }
    }
    found.sort_by(|one, other| one.file.cmp(&other.file));
    Ok(found)
}

/// Puts them aside, under names that no run looks for. Returns those.
pub fn give_up(journals: &[Abandoned]) -> io::Result<Vec<String>> {
    let mut aside = Vec::new();
    for journal in journals {
        let named = |n: u32| journal.file.with_extension(format!("json.given-up-{n}"));
        let to = (1..).map(named).find(|to| to.symlink_metadata().is_err()).unwrap_or_else(|| named(0));
        durable::rename_new(&journal.file, &to)?;
        durable::sync_folder_of(&to)?;
        aside.push(to.display().to_string());
    }
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_other_machines_are_given_up_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of_others(dir.path(), "m", false).unwrap(), []);
        let folder = dir.path().join("_state/journal");
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in [
            ("ours.json", r#"{"host":"m","domain":"ours"}"#),
            ("theirs.json", r#"{"host":"n","domain":"their s"}"#),
            ("old.json", r#"{"domain":"old"}"#),
            ("damaged.json", "{"),
            ("theirs.json.given-up-1", ""),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        let names = |is_ours| {
            let found = of_others(dir.path(), "m", is_ours).unwrap();
            found.into_iter().map(|one| one.domain).collect::<Vec<_>>()
        };
        assert_eq!(names(true), ["their s"]);
        assert_eq!(names(false), ["damaged", "old", "their s"]);
        let aside = give_up(&of_others(dir.path(), "m", true).unwrap()).unwrap();
        assert_eq!(aside, [folder.join("theirs.json.given-up-2").display().to_string()]);
        assert_eq!(names(true), [""; 0]);
    }
}
