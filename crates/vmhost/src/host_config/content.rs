//! What one saved version of the host's configuration holds, as a value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use strum::VariantArray;

use crate::libvirt::{Definition, DefinitionKind, ErrorKind, Host};

/// Where libvirt's definitions are in a version.
const DEFINITIONS: &str = "libvirt";

/// Most bytes of all files together; the definitions of thousands of VMs stay below.
pub(super) const MAX_BYTES: usize = 64 << 20;

/// Most entries.
const MAX_ENTRIES: usize = 20_000;

/// What one entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File(Vec<u8>),
    Folder,
    /// A link, and where it leads.
    Link(PathBuf),
}

/// One entry of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) owner: u32,
    pub(super) group: u32,
}

/// Something that is not in a version, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Where it would be in the version, for what may be there and was not read: all below is not known either.
    pub(super) place: PathBuf,
    /// In words, with what it is about.
    pub(super) why: String,
    /// Whether somebody should look.
    pub(super) is_trouble: bool,
}

/// Everything, by its path in the version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) entries: BTreeMap<PathBuf, Entry>,
    pub(super) left_out: Vec<LeftOut>,
    bytes: usize,
    /// Something did not fit.
    is_full: bool,
}

impl Content {
    /// Takes an entry. When there is no room for it, it and all that follow are left out.
    pub(super) fn add(&mut self, path: PathBuf, entry: Entry) {
        let bytes = match &entry.kind {
            Kind::File(content) => content.len(),
            Kind::Folder | Kind::Link(_) => 0,
        };
        if self.is_full {
            return;
        }
        if self.entries.len() == MAX_ENTRIES || self.bytes + bytes > MAX_BYTES {
            self.is_full = true;
            let (path, all) = (path.display(), MAX_BYTES >> 20);
            let why = format!(
                "{path} and what follows: a version holds at most {MAX_ENTRIES} entries and {all} MiB"
            );
            return self.leave_out(PathBuf::from("full"), why, true);
        }
        self.bytes += bytes;
        self.entries.insert(path, entry);
    }

    /// Notes that something is missing.
    pub(super) fn leave_out(&mut self, place: PathBuf, why: String, is_trouble: bool) {
        self.left_out.push(LeftOut { place, why, is_trouble });
    }

    /// Takes libvirt's definitions. A kind that cannot be read is left out.
    pub(super) fn add_definitions(&mut self, host: &Host) {
        for &kind in DefinitionKind::VARIANTS {
            match host.definitions(kind) {
                Ok(definitions) => self.add_kind(kind, &definitions),
                Err(error) => {
                    let place = Path::new(DEFINITIONS);
                    // A driver that is not there defines nothing.
                    let is_trouble = error.kind != ErrorKind::Unsupported;
                    self.leave_out(place.join(kind.plural()), error.to_string(), is_trouble);
                    self.leave_out(autostart_list(kind), error.to_string(), false);
                }
            }
        }
    }

    fn add_kind(&mut self, kind: DefinitionKind, definitions: &[Definition]) {
        let folder = Path::new(DEFINITIONS).join(kind.plural());
        for definition in definitions {
            let file = folder.join(file_name(&definition.name));
            self.add(file, ours(definition.xml.clone().into_bytes()));
        }
        if definitions.iter().any(|definition| definition.autostart.is_some()) {
            let started = definitions.iter().filter(|definition| definition.autostart == Some(true));
            let lines: String = started.map(|definition| format!("{}\n", definition.name)).collect();
            self.add(autostart_list(kind), ours(lines.into_bytes()));
        }
    }

    /// Takes over from the old version what could not be read now: the version that holds it may go. Nothing is taken
    /// over to below what is a folder no more.
    pub(super) fn carry_over(&mut self, old: &BTreeMap<PathBuf, Entry>) {
        let is_left_out =
            |path: &Path| self.left_out.iter().any(|left_out| path.starts_with(&left_out.place));
        let is_folder = |path: &Path| self.entries.get(path).is_none_or(|entry| entry.kind == Kind::Folder);
        let unread = old.iter().filter(|(path, _)| {
            !self.entries.contains_key(*path) && is_left_out(path) && path.ancestors().skip(1).all(is_folder)
        });
        let carried: Vec<_> = unread.map(|(path, entry)| (path.clone(), entry.clone())).collect();
        carried.into_iter().for_each(|(path, entry)| self.add(path, entry));
    }

    /// The paths in which two versions differ.
    pub(super) fn differences(&self, old: &BTreeMap<PathBuf, Entry>) -> Vec<PathBuf> {
        let is_known = |path: &Path| !self.left_out.iter().any(|left_out| path.starts_with(&left_out.place));
        let new_or_other = self.entries.iter().filter(|(path, entry)| old.get(*path) != Some(entry));
        let gone = old.keys().filter(|path| !self.entries.contains_key(*path) && is_known(path));
        let mut paths: Vec<_> = new_or_other.map(|(path, _)| path).chain(gone).cloned().collect();
        paths.sort();
        paths
    }
}

/// The names of what the daemon starts, a line each.
fn autostart_list(kind: DefinitionKind) -> PathBuf {
    Path::new(DEFINITIONS).join("autostart").join(kind.plural())
}

/// The file of a definition. libvirt keeps most of them under their names too, so a name is rarely changed here.
fn file_name(name: &str) -> String {
    let plain = |c: char| if c == '/' || c.is_control() { '_' } else { c };
    let name: String = name.chars().map(plain).collect();
    let dot = if name.starts_with('.') { "_" } else { "" };
    format!("{dot}{name}.xml")
}

/// A file that was made here.
fn ours(content: Vec<u8>) -> Entry {
    Entry { kind: Kind::File(content), mode: 0o600, owner: 0, group: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(name: &str, autostart: Option<bool>) -> Definition {
        Definition { name: name.to_owned(), xml: format!("<{name}/>"), autostart }
    }

    fn paths(content: &Content) -> Vec<&str> {
        content.entries.keys().filter_map(|path| path.to_str()).collect()
    }

    #[test]
    fn definitions_become_files_and_a_list_of_what_is_started() {
        let mut content = Content::default();
        content.add_kind(
            DefinitionKind::Network,
            &[definition("a b", Some(true)), definition("../x", Some(false)), definition("c", Some(true))],
        );
        content.add_kind(DefinitionKind::Secret, &[definition("uuid", None)]);
        content.add_kind(DefinitionKind::Pool, &[]);
        assert_eq!(
            paths(&content),
            [
                "libvirt/autostart/networks",
                "libvirt/networks/_.._x.xml",
                "libvirt/networks/a b.xml",
                "libvirt/networks/c.xml",
                "libvirt/secrets/uuid.xml"
            ]
        );
        let list = &content.entries[Path::new("libvirt/autostart/networks")];
        assert_eq!(list.kind, Kind::File(b"a b\nc\n".to_vec()));
    }

    #[test]
    fn what_cannot_be_read_now_is_no_difference() {
        let mut old = Content::default();
        for path in ["libvirt/networks/a.xml", "libvirt/pools/a.xml", "files/etc/fstab", "files/etc/x"] {
            old.add(path.into(), ours(b"1".to_vec()));
        }
        let mut new = Content::default();
        new.add("files/etc/fstab".into(), Entry { mode: 0o644, ..ours(b"1".to_vec()) });
        new.add("files/etc/y".into(), ours(vec![]));
        new.leave_out("libvirt/networks".into(), "no daemon".to_owned(), true);
        let differences = new.differences(&old.entries);
        let want = ["files/etc/fstab", "files/etc/x", "files/etc/y", "libvirt/pools/a.xml"];
        assert_eq!(differences, want.map(PathBuf::from));
        assert_eq!(old.differences(&old.entries), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_version_has_a_limit() {
        let mut content = Content::default();
        content.add("a".into(), ours(vec![0; MAX_BYTES - 1]));
        content.add("b".into(), ours(vec![0; 2]));
        content.add("c".into(), ours(vec![0]));
        assert_eq!(paths(&content), ["a"]);
        let mut many = Content::default();
        (0..MAX_ENTRIES + 2).for_each(|number| many.add(number.to_string().into(), ours(vec![])));
        assert_eq!(many.entries.len(), MAX_ENTRIES);
        for content in [content, many] {
            assert!(content.left_out.len() == 1 && content.left_out[0].is_trouble);
            assert_eq!(content.differences(&content.entries), Vec::<PathBuf>::new());
        }
    }
}
