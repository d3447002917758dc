//! What this process has begun and not finished: files, folders, helper programs, devices half written.
//!
//! Each thing is taken away when its owner drops it. Whoever ends the process in mid-work, as a signal does, calls
//! [`take_away`]: nothing is begun or gets its final name after that.
//!
//! Must not live here: signals, and what a thing is for.

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Everything of this process, by number.
static BEGUN: Mutex<BTreeMap<u64, Thing>> = Mutex::new(BTreeMap::new());

/// The number of the next thing.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Threads that still write into a folder while it is removed get so many chances to lose the race.
const REMOVE_ATTEMPTS: u32 = 100;

/// So often a killed program is looked at.
const WAIT_ATTEMPTS: u32 = 300;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

#[derive(Clone, Debug)]
enum Thing {
    /// A file, and which one: its name may belong to another by now.
    File {
        path: PathBuf,
        identity: (u64, u64),
    },
    Folder(PathBuf),
    Program(u32),
    Device(PathBuf),
}

/// One thing. Dropped, it is taken away.
#[derive(Debug)]
pub(crate) struct Unfinished {
    number: u64,
}

/// What became of an unfinished thing.
#[derive(Debug)]
pub enum TakenAway {
    /// It is gone.
    Removed(PathBuf),
    /// It is still there.
    Left {
        /// The file or folder.
        path: PathBuf,
        /// Why it could not be removed.
        source: io::Error,
    },
    /// A device that was being written.
    HalfWritten(PathBuf),
}

impl fmt::Display for TakenAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed(path) => write!(f, "removed the unfinished {}", path.display()),
            Self::Left { path, source } => {
                write!(f, "the unfinished {} is left, remove it: {source}", path.display())
            }
            Self::HalfWritten(path) => {
                write!(f, "{} holds parts of old and new content: write it again", path.display())
            }
        }
    }
}

/// Takes everything away, and keeps all other threads from beginning or finishing anything: the process must end now.
pub fn take_away() -> Vec<TakenAway> {
    let mut begun = lock();
    let things = std::mem::take(&mut *begun);
    // Never given back: a thread that would publish, begin or drop something waits for the end of the process.
    std::mem::forget(begun);
    let (programs, rest): (Vec<_>, Vec<_>) =
        things.into_values().partition(|thing| matches!(thing, Thing::Program(_)));
    // Programs first: they write into the files.
    programs.into_iter().chain(rest).filter_map(Thing::take_away).collect()
}

impl Unfinished {
    /// Begins a file that `make` creates at `path`.
    pub(crate) fn file(path: &Path, make: impl FnOnce() -> io::Result<File>) -> io::Result<(File, Self)> {
        let mut begun = lock();
        let file = make()?;
        let about = file.metadata()?;
        let thing = Thing::File { path: path.to_owned(), identity: (about.dev(), about.ino()) };
        Ok((file, Self::add_to(&mut begun, thing)))
    }

    /// Begins a folder that `make` creates. What is in it goes with it.
    pub(crate) fn folder<E>(path: &Path, make: impl FnOnce() -> Result<(), E>) -> Result<Self, E> {
        let mut begun = lock();
        make()?;
        Ok(Self::add_to(&mut begun, Thing::Folder(path.to_owned())))
    }

    /// Starts a program that is ended with us. Its owner waits for it before it drops this.
    pub(crate) fn program(command: &mut Command) -> io::Result<(Child, Self)> {
        let mut begun = lock();
        // Ctrl-C is for us alone: we end the program ourselves, and then take its files away.
        let child = command.process_group(0).spawn()?;
        let this = Self::add_to(&mut begun, Thing::Program(child.id()));
        Ok((child, this))
    }

    /// A device that is being written.
    pub(crate) fn device(path: &Path) -> Self {
        Self::add(Thing::Device(path.to_owned()))
    }

    /// Does what finishes it. Nobody takes anything away meanwhile; after an error it is still unfinished.
    pub(crate) fn finish<T, E>(&self, act: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let mut begun = lock();
        let done = act()?;
        begun.remove(&self.number);
        Ok(done)
    }

    fn add(thing: Thing) -> Self {
        Self::add_to(&mut lock(), thing)
    }

    fn add_to(begun: &mut BTreeMap<u64, Thing>, thing: Thing) -> Self {
        // Never used again: what is finished is still dropped, and must not take another thing along.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        begun.insert(number, thing);
        Self { number }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut begun = lock();
        match begun.remove(&self.number) {
            // Its owner has ended it, and its number may be another's.
            None | Some(Thing::Program(_)) => {}
            // Nothing more can be done about one that stays; its name says that it is not finished.
            Some(thing) => drop(thing.take_away()),
        }
    }
}

impl Thing {
    fn take_away(self) -> Option<TakenAway> {
        let (path, removed) = match self {
            Self::Program(number) => {
                if let Some(number) = i32::try_from(number).ok().and_then(Pid::from_raw) {
                    end_program(number);
                }
                return None;
            }
            Self::Device(path) => return Some(TakenAway::HalfWritten(path)),
            Self::File { path, identity } => {
                if !is(&path, identity) {
                    return None;
                }
                let removed = std::fs::remove_file(&path);
                (path, removed)
            }
            Self::Folder(path) => {
                let removed = remove_folder(&path);
                (path, removed)
            }
        };
        Some(match removed {
            Ok(()) => TakenAway::Removed(path),
            Err(source) => TakenAway::Left { path, source },
        })
    }
}

/// Kills a program and waits until it can write no more, unless a dead disk keeps it.
fn end_program(number: Pid) {
    let _ = kill_process(number, Signal::KILL);
    for _ in 0..WAIT_ATTEMPTS {
        match waitpid(Some(number), WaitOptions::NOHANG) {
            Ok(None) => std::thread::sleep(PAUSE),
            _ => return,
        }
    }
}

fn remove_folder(path: &Path) -> io::Result<()> {
    for _ in 1..REMOVE_ATTEMPTS {
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                std::thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
    std::fs::remove_dir_all(path)
}

/// True when `path` itself is the file of this device and inode.
fn is(path: &Path, identity: (u64, u64)) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|about| (about.dev(), about.ino()) == identity)
}

/// True when `path` itself is the open file.
pub(crate) fn is_open_file(path: &Path, file: &File) -> bool {
    file.metadata().is_ok_and(|about| is(path, (about.dev(), about.ino())))
}

fn lock() -> MutexGuard<'static, BTreeMap<u64, Thing>> {
    BEGUN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_file_that_took_the_name_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.partial");
        let (_, ours) = Unfinished::file(&path, || File::create(&path)).unwrap();
        std::fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        std::fs::write(&path, "theirs").unwrap();
        drop(ours);
        assert_eq!(std::fs::read(&path).unwrap(), b"theirs");
        drop(Unfinished::file(&path, || File::open(&path)).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn what_is_finished_takes_nothing_along_that_began_before_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let begin = |name: &str| {
            let path = dir.path().join(name);
            Unfinished::file(&path, || File::create(&path)).unwrap().1
        };
        let first = begin("first");
        first.finish(|| Ok::<_, ()>(())).unwrap();
        let second = begin("second");
        drop(first);
        assert!(dir.path().join("second").exists());
        drop(second);
        assert!(!dir.path().join("second").exists() && dir.path().join("first").exists());
    }

    #[test]
    fn what_is_finished_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new.partial");
        let folder = Unfinished::folder(&path, || std::fs::create_dir(&path)).unwrap();
        folder.finish(|| Err::<(), _>(())).unwrap_err();
        folder.finish(|| Ok::<_, ()>(())).unwrap();
        drop(folder);
        assert!(path.exists());
    }
}
