//! Notes disks whose content had changed although no dirty bitmap said so, with the chain that ended because of it. The full that
//! moves such a chain to the archive has to tell of it, and a second chain in a row is no accident.
//!
//! A line is `DISK CHAIN OFFSET first|again POINT…`, the points being those in doubt. An increment that is well ends them all.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use crate::{StateDir, durable};

const FOLDER: &str = "changed-unseen";

/// For the id of a chain that has none: no other chain is the same.
const NO_ID: &str = "-";

/// What is noted of one VM.
#[derive(Debug)]
pub struct TrippedDisks<'a> {
    state: &'a StateDir,
    vm_folder: &'a str,
}

/// One disk that changed, and the last chain that ended by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrippedDisk {
    pub disk: String,
    /// The chain's id, if it has one.
    pub chain: Option<String>,
    /// Where it changed, in bytes from its start.
    pub at: u64,
    /// Points of the chain that are in doubt, oldest first.
    pub doubtful: Vec<String>,
    /// The chain before this one ended by the same disk.
    pub again: bool,
}

impl TrippedDisk {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let disk = words.next()?.to_owned();
        let chain = Some(words.next()?).filter(|word| *word != NO_ID).map(str::to_owned);
        let at = words.next()?.parse().ok()?;
        let again = words.next()? == "again";
        Some(Self { disk, chain, at, doubtful: words.map(str::to_owned).collect(), again })
    }

    fn line(&self) -> String {
        let chain = self.chain.as_deref().unwrap_or(NO_ID);
        let row = if self.again { "again" } else { "first" };
        format!("{} {chain} {} {row} {}\n", self.disk, self.at, self.doubtful.join(" "))
    }

    /// Whether both are of one chain.
    fn is_of_chain_of(&self, other: &Self) -> bool {
        self.chain.is_some() && self.chain == other.chain
    }
}

impl<'a> TrippedDisks<'a> {
    /// Of the VM with this folder in the backup path. Touches nothing.
    pub fn of(state: &'a StateDir, vm_folder: &'a str) -> Self {
        Self { state, vm_folder }
    }

    fn file(&self) -> PathBuf {
        self.state.path().join(FOLDER).join(self.vm_folder)
    }

    /// All that is noted.
    pub fn read(&self) -> io::Result<Vec<TrippedDisk>> {
        match fs::read_to_string(self.file()) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(vec![]),
            read => Ok(read?.lines().filter_map(TrippedDisk::parse).collect()),
        }
    }

    /// Notes this one in the place of what was noted of the disk. Returns what there is to say of it now: `again` when that
    /// was of another chain, and of the same chain, which is still there after a full that failed, whatever had more in doubt.
    pub fn add(&self, new: TrippedDisk) -> io::Result<TrippedDisk> {
        let mut all = self.read()?;
        let place = all.iter().position(|noted| noted.disk == new.disk);
        let noted = match place.map(|place| &all[place]) {
            Some(before) if before.is_of_chain_of(&new) && before.doubtful.len() >= new.doubtful.len() => {
                return Ok(before.clone());
            }
            Some(before) => TrippedDisk { again: before.again || !before.is_of_chain_of(&new), ..new },
            None => new,
        };
        match place {
            Some(place) => all[place] = noted.clone(),
            None => all.push(noted.clone()),
        }
        self.state.create(FOLDER)?;
        let text: String = all.iter().map(TrippedDisk::line).collect();
        durable::replace(&self.file(), 0o640, text.as_bytes())?;
        Ok(noted)
    }

    /// Forgets them: they were as expected.
    pub fn forget(&self) -> io::Result<()> {
        match fs::remove_file(self.file()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_chain_makes_a_row() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::of(dir.path());
        let tripped = TrippedDisks::of(&state, "web");
        let add = |chain: Option<&str>, doubtful: &[&str]| {
            let doubtful = doubtful.iter().map(|point| (*point).to_owned()).collect();
            let chain = chain.map(str::to_owned);
            let new = TrippedDisk { disk: "vda".into(), chain, at: 512, doubtful, again: false };
            let noted = tripped.add(new).unwrap();
            assert_eq!(tripped.read().unwrap().last(), Some(&noted));
            (noted.again, noted.doubtful.len())
        };
        assert_eq!(add(Some("a"), &["p.1", "p.2"]), (false, 2));
        assert_eq!(add(Some("a"), &["p.2"]), (false, 2), "its full failed");
        assert_eq!(add(Some("a"), &["p.0", "p.1", "p.2"]), (false, 3));
        assert_eq!(add(Some("b"), &[]), (true, 0));
        assert_eq!(add(Some("b"), &["p.1"]), (true, 1), "the full of the second failed");
        assert_eq!(add(None, &[]), (true, 0));
        tripped.forget().unwrap();
        assert_eq!(add(None, &[]), (false, 0));
        assert_eq!(add(None, &[]), (true, 0), "nobody knows whether it is the same");
        let text = fs::read_to_string(tripped.file()).unwrap();
        fs::write(tripped.file(), format!("vdb a 7 first p.1 p.2\n{text}vdc a")).unwrap();
        assert_eq!(add(Some("a"), &["p.1"]), (true, 1));
        let disks =
            tripped.read().unwrap().into_iter().map(|noted| (noted.disk, noted.at, noted.doubtful.len()));
        assert_eq!(disks.collect::<Vec<_>>(), [("vdb".to_owned(), 7, 2), ("vda".to_owned(), 512, 1)]);
    }
}
