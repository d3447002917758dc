//! The domain XML that stands for a restore point.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use roxmltree::Document;
use vmstream::chain::{BackupSet, Point};

/// The folder in which the Bash program keeps definitions as libvirt prints them, beside a chain.
const CONFIG: &str = "config";

/// The most bytes of a domain XML that are read.
const MAX_LEN: u64 = 4 << 20;

/// A domain XML, and who it says that it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    pub path: PathBuf,
    pub xml: String,
    pub name: String,
    pub uuid: Option<String>,
}

impl Definition {
    /// That of a point: the one that was written with it. A point without one has the newest that the Bash program keeps beside
    /// the chain. `None` where neither can be read.
    pub fn of(set: &BackupSet, point: &Point) -> Option<Self> {
        let written = point.vmconfig.as_deref().and_then(Self::read);
        written.or_else(|| {
            let beside = [Some(set.dir.as_path()), set.dir.parent()];
            beside.into_iter().flatten().find_map(|dir| Self::read(&newest_xml(&dir.join(CONFIG))?))
        })
    }

    fn read(path: &Path) -> Option<Self> {
        let is_small = fs::metadata(path).is_ok_and(|about| about.is_file() && about.len() <= MAX_LEN);
        let xml = is_small.then(|| fs::read_to_string(path).ok()).flatten()?;
        let document = Document::parse(&xml).ok()?;
        let domain = document.root_element();
        let text = |name: &str| {
            let child = domain.children().find(|child| child.has_tag_name(name))?;
            child.text().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let (name, uuid) = (text("name").filter(|_| domain.has_tag_name("domain"))?, text("uuid"));
        Some(Self { path: path.to_owned(), name, uuid, xml })
    }
}

/// The newest file of that kind in a folder, by its time.
fn newest_xml(dir: &Path) -> Option<PathBuf> {
    let is_xml = |path: &PathBuf| path.extension().is_some_and(|end| end == "xml");
    let dated = |path: PathBuf| {
        let modified = fs::metadata(&path).and_then(|about| about.modified());
        (modified.unwrap_or(SystemTime::UNIX_EPOCH), path)
    };
    let entries = fs::read_dir(dir).ok()?.flatten();
    entries.map(|entry| entry.path()).filter(is_xml).map(dated).max().map(|(_, path)| path)
}
