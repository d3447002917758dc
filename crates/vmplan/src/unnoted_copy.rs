//! Whether a copy is of the disks as they are, where no note says what their images were like when it was made.
//!
//! The Bash program and virtnbdbackup leave none. What is known of such a copy is when its streams were begun, and of the images when
//! they last changed: one that has not changed since long before is what was copied, if it is the same image. Here everything has to
//! fit; where one thing does not, the disks are copied again, which costs time and nothing else.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

/// What tells whether a copy is of the disks as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnnotedCopy {
    /// The definition that was kept with it is that of now, so the disks are the same images in the same places.
    pub same_definition: bool,
    /// The disks that a copy would hold now.
    pub disks: Vec<DiskSize>,
    /// What it holds.
    pub copied: Vec<CopiedDisk>,
    /// Every file of those disks: images, what backs them, where their data is. Or why one cannot be looked at.
    pub files: Result<Vec<FileTimes>, String>,
    /// Why nobody can tell whether somebody has one of them open.
    pub untold: Option<String>,
}

/// A disk, and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSize {
    pub target: String,
    pub size: u64,
}

/// A disk in the copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedDisk {
    pub disk: DiskSize,
    /// When reading it began, at the latest. `None` when that is not known: a raw image does not tell.
    pub began: Option<Timestamp>,
    /// When its file was last written.
    pub written: Timestamp,
}

/// When a file changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileTimes {
    pub path: PathBuf,
    /// Neither a device, whose node shows no write, nor a link, which may lead elsewhere now.
    pub is_regular: bool,
    /// Its content, as programs may set it.
    pub modified: Timestamp,
    /// Anything of it: nobody can set that back.
    pub changed: Timestamp,
}

/// Why such a copy may not be of the disks as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Something of it is missing or damaged.
    Incomplete(String),
    OtherDefinition,
    OtherDisks {
        copied: Vec<String>,
        now: Vec<String>,
    },
    OtherSize {
        target: String,
        copied: u64,
        now: u64,
    },
    /// Nothing says when the disk was read.
    NoDate(String),
    /// The date lies after its own file.
    DateAhead(String),
    NotRegular(PathBuf),
    /// Less long before the copy than a change takes to settle, or after it.
    Changed(PathBuf),
    CannotLook(String),
    Untold(String),
}

impl UnnotedCopy {
    /// The first thing that does not fit. `settle`: how long before the copy a file must have been at rest. `broken`: what is wrong with
    /// the copy itself.
    pub fn doubt(&self, broken: Option<&str>, settle: Duration) -> Option<Doubt> {
        let broken = || broken.map(|what| Doubt::Incomplete(what.to_owned()));
        let definition = || (!self.same_definition).then_some(Doubt::OtherDefinition);
        let files = || match &self.files {
            Ok(files) => self.doubt_of_files(files, settle),
            Err(why) => Some(Doubt::CannotLook(why.clone())),
        };
        broken()
            .or_else(definition)
            .or_else(|| self.doubt_of_disks())
            .or_else(files)
            .or_else(|| self.untold.clone().map(Doubt::Untold))
    }

    fn doubt_of_disks(&self) -> Option<Doubt> {
        let mut now: Vec<String> = self.disks.iter().map(|disk| disk.target.clone()).collect();
        let mut copied: Vec<String> = self.copied.iter().map(|copied| copied.disk.target.clone()).collect();
        now.sort();
        copied.sort();
        if copied.is_empty() || copied != now {
            return Some(Doubt::OtherDisks { copied, now });
        }
        let of = |target: &str| self.disks.iter().find(|disk| disk.target == target);
        self.copied.iter().find_map(|CopiedDisk { disk, began, written }| {
            let target = disk.target.clone();
            match (of(&target)?.size, began) {
                (now, _) if now != disk.size => Some(Doubt::OtherSize { target, copied: disk.size, now }),
                (_, None) => Some(Doubt::NoDate(target)),
                (_, Some(began)) if began > written => Some(Doubt::DateAhead(target)),
                _ => None,
            }
        })
    }

    fn doubt_of_files(&self, files: &[FileTimes], settle: Duration) -> Option<Doubt> {
        let began = self.copied.iter().filter_map(|copied| copied.began).min()?;
        // A threshold that reaches beyond the calendar leaves nothing at rest.
        let at_rest = |time: Timestamp| time.checked_add(settle).is_ok_and(|settled| settled < began);
        files.iter().find_map(|FileTimes { path, is_regular, modified, changed }| match is_regular {
            false => Some(Doubt::NotRegular(path.clone())),
            true => (!at_rest(*modified) || !at_rest(*changed)).then(|| Doubt::Changed(path.clone())),
        })
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete(what) => write!(f, "it is not complete: {what}"),
            Self::OtherDefinition => write!(f, "the VM's definition is not the one that was kept with it"),
            Self::OtherDisks { copied, now } => {
                write!(f, "it holds the disks [{}], now they are [{}]", copied.join(", "), now.join(", "))
            }
            Self::OtherSize { target, copied, now } => {
                write!(f, "disk {target} has {now} bytes, and {copied} in it")
            }
            Self::NoDate(target) => write!(f, "nothing says when disk {target} was read for it"),
            Self::DateAhead(target) => write!(
                f,
                "its date of disk {target} is later than its own file: the clock or the time zone was another then"
            ),
            Self::NotRegular(path) => write!(
                f,
                "{} is a device or a link, which does not show when its content changed",
                path.display()
            ),
            Self::Changed(path) => write!(
                f,
                "{} was changed after it, or less than OFFLINE_CHANGE_DETECTION_THRESHOLD before",
                path.display()
            ),
            Self::CannotLook(why) => write!(f, "the images cannot be looked at: {why}"),
            Self::Untold(why) => write!(f, "nobody can tell whether an image is in use: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_secs(60);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn disk(target: &str, size: u64) -> DiskSize {
        DiskSize { target: target.into(), size }
    }

    fn copied(target: &str, began: i64) -> CopiedDisk {
        CopiedDisk { disk: disk(target, 10), began: Some(at(began)), written: at(began + 5) }
    }

    fn file(path: &str, second: i64) -> FileTimes {
        FileTimes { path: path.into(), is_regular: true, modified: at(second), changed: at(second) }
    }

    /// Two disks, read at 1000 and 1100 seconds; their files are at rest since 900.
    fn sound() -> UnnotedCopy {
        UnnotedCopy {
            same_definition: true,
            disks: vec![disk("vda", 10), disk("vdb", 10)],
            copied: vec![copied("vdb", 1100), copied("vda", 1000)],
            files: Ok(vec![file("/a", 900), file("/base", 800), file("/b", 900)]),
            untold: None,
        }
    }

    #[test]
    fn only_where_everything_fits_it_is_of_the_disks_as_they_are() {
        assert_eq!(sound().doubt(None, SETTLE), None);
        assert_eq!(sound().doubt(Some("x"), SETTLE), Some(Doubt::Incomplete("x".into())));
        fn files(copy: &mut UnnotedCopy) -> &mut Vec<FileTimes> {
            copy.files.as_mut().unwrap()
        }
        let changed = |path: &str| Doubt::Changed(path.into());
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        type Change = fn(&mut UnnotedCopy);
        let cases: [(&str, Change, Doubt); 14] = [
            ("definition", |c| c.same_definition = false, Doubt::OtherDefinition),
            ("written since", |c| files(c)[2].modified = at(2000), changed("/b")),
            ("its time set back", |c| files(c)[1].changed = at(2000), changed("/base")),
            ("written just before", |c| files(c)[0].modified = at(941), changed("/a")),
            ("as long before as the threshold", |c| files(c)[0].changed = at(940), changed("/a")),
            ("before the second disk was read", |c| files(c)[2].modified = at(1001), changed("/b")),
            ("a device", |c| files(c)[0].is_regular = false, Doubt::NotRegular("/a".into())),
            ("gone", |c| c.files = Err("x".into()), Doubt::CannotLook("x".into())),
            (
                "a disk more",
                |c| c.disks.push(disk("vdc", 10)),
                Doubt::OtherDisks { copied: names(&["vda", "vdb"]), now: names(&["vda", "vdb", "vdc"]) },
            ),
            (
                "a disk less",
                |c| c.disks.truncate(1),
                Doubt::OtherDisks { copied: names(&["vda", "vdb"]), now: names(&["vda"]) },
            ),
            (
                "grown",
                |c| c.disks[1].size = 11,
                Doubt::OtherSize { target: "vdb".into(), copied: 10, now: 11 },
            ),
            ("no date", |c| c.copied[0].began = None, Doubt::NoDate("vdb".into())),
            ("another zone", |c| c.copied[1].written = at(999), Doubt::DateAhead("vda".into())),
            ("hidden", |c| c.untold = Some("x".into()), Doubt::Untold("x".into())),
        ];
        for (case, change, want) in cases {
            let mut copy = sound();
            change(&mut copy);
            assert_eq!(copy.doubt(None, SETTLE), Some(want), "{case}");
        }
        let mut nothing = sound();
        (nothing.disks, nothing.copied) = (vec![], vec![]);
        assert!(nothing.doubt(None, SETTLE).is_some(), "a copy of nothing");
        let mut just_before = sound();
        files(&mut just_before)[0] = file("/a", 939);
        assert_eq!(just_before.doubt(None, SETTLE), None);
        assert!(sound().doubt(None, Duration::MAX).is_some());
    }
}
