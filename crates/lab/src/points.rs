//! Compares restore points, as the guest had them, with what every reader makes of the set.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::command::text;
use super::{Disks, History, Lab, Version, Vm, extract};

/// Restores at the same time. Most of their time is spent in waiting for small servers.
const WORKERS: usize = 8;

/// What a set must give back at one restore point.
#[derive(Debug)]
pub struct Point {
    /// `virtnbdbackup.N`, or `copy`.
    pub name: String,
    /// Each disk that existed then.
    pub disks: Disks,
}

#[derive(Clone, Copy, Debug)]
enum Reader {
    Theirs(Version),
    Ours,
}

impl Point {
    /// The disks of a VM as they are now, under the name of the point that is taken of them.
    pub fn of(lab: &Lab, vm: &Vm, name: &str) -> Self {
        Self { name: name.to_owned(), disks: History::disks(lab, vm) }
    }
}

impl Lab {
    /// Restores every point with both releases of `virtnbdrestore` and with `vmstream extract`, and compares all
    /// disks; `vmstream verify` has to call the set good, or unproven where old programs left a stream without checksums.
    #[track_caller]
    pub fn assert_points(&self, set: &Path, points: &[Point]) {
        let folder = set.to_str().expect("the lab's path is text");
        let verified = self.vmstream(&["verify", "--no-archives", folder]);
        let code = if has_checksums(set) { 0 } else { 2 };
        assert_eq!(
            verified.status.code(),
            Some(code),
            "vmstream verify {}: {}",
            set.display(),
            text(&verified)
        );
        let readers = [Reader::Theirs(Version::Distribution), Reader::Theirs(Version::Sid), Reader::Ours];
        let jobs: Vec<_> = points.iter().flat_map(|point| readers.map(|reader| (point, reader))).collect();
        let (jobs, failures) = (Mutex::new(jobs), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    let take = || jobs.lock().expect("no worker panics with the lock").pop();
                    while let Some((point, reader)) = take() {
                        if let Err(said) = self.check(set, points, point, reader) {
                            let line = format!("{reader:?} at {}: {said}", point.name);
                            failures.lock().expect("no worker panics with the lock").push(line);
                        }
                    }
                });
            }
        });
        let mut failures = failures.into_inner().expect("no worker panics with the lock");
        failures.sort();
        assert!(failures.is_empty(), "{} is restored wrongly:\n{}", set.display(), failures.join("\n"));
    }

    fn check(&self, set: &Path, points: &[Point], point: &Point, reader: Reader) -> Result<(), String> {
        match reader {
            Reader::Ours => {
                for (target, shadow) in &point.disks {
                    let raw = extract(self, set, target, Some(&point.name));
                    let equal = shadow.equals(&raw);
                    fs::remove_file(&raw).map_err(|error| error.to_string())?;
                    equal.map_err(|difference| format!("{target}: {difference}"))?;
                }
                Ok(())
            }
            Reader::Theirs(version) => self.check_theirs(set, points, point, version),
        }
    }

    fn check_theirs(
        &self,
        set: &Path,
        points: &[Point],
        point: &Point,
        version: Version,
    ) -> Result<(), String> {
        // The old reader gives back the disks of the newest domain XML, whatever point is asked for. A disk that
        // was removed since needs a folder that ends at the point.
        let newest = points.last().map(|newest| &newest.disks);
        let removed = |target: &String| newest.is_some_and(|newest| !newest.contains_key(target));
        let cut = (version == Version::Distribution && point.disks.keys().any(removed))
            .then(|| self.cut(set, points, point));
        let until = (point.name != "copy").then_some(point.name.as_str());
        let restored = self.virtnbdrestore(version, cut.as_deref().unwrap_or(set), until)?;
        for (target, shadow) in &point.disks {
            let raw = restored.get(target).ok_or_else(|| format!("{target} was not restored"))?;
            shadow.equals(raw).map_err(|difference| format!("{target}: {difference}"))?;
        }
        let folders = restored.values().filter_map(|raw| raw.parent()).next().map(Path::to_owned);
        for folder in folders.into_iter().chain(cut) {
            fs::remove_dir_all(&folder).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// The set as a folder that ends at a point. Links keep the modification times.
    fn cut(&self, set: &Path, points: &[Point], last: &Point) -> PathBuf {
        let folder = self.new_dir(&format!("cut-{}", self.unused_number()));
        let later = points.iter().skip_while(|point| point.name != last.name).skip(1);
        let marks: Vec<String> = later.map(|point| format!(".{}.", point.name)).collect();
        for entry in fs::read_dir(set).expect("a set can be listed").flatten() {
            let name = entry.file_name().into_string().expect("names of a set are text");
            if entry.path().is_file() && !marks.iter().any(|mark| name.contains(mark)) {
                fs::hard_link(entry.path(), folder.join(name)).expect("the lab is one file system");
            }
        }
        folder
    }
}

/// Whether each stream of a set has a checksum file or a sidecar: virtnbdbackup of Debian 12 writes none when it compresses.
fn has_checksums(set: &Path) -> bool {
    let names: BTreeSet<String> = fs::read_dir(set)
        .expect("a set")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    let stem =
        |name: &str| name.strip_suffix(".data").or_else(|| name.strip_suffix(".zstd")).map(str::to_owned);
    names.iter().filter_map(|name| Some((name, stem(name)?))).all(|(name, stem)| {
        names.contains(&format!("{name}.chksum")) || names.contains(&format!("{stem}.idx"))
    })
}
