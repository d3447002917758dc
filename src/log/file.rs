//! Log files that are appended to for as long as they can be, by a thread of their own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::Sender;
use jiff::Zoned;
use rustix::fs::OFlags;

use super::line::Line;
use super::queue::Queue;
use super::stderr::{ForStderr, Place};

/// What the thread of the log files is to do.
pub(super) enum ForFiles {
    /// Lines go to another file too from now on.
    Open(Opening),
    /// Something else that touches their storage.
    Work(Box<dyn FnOnce() + Send>),
    /// The VM's log is complete.
    Close(String),
    Line {
        vm: Option<String>,
        text: String,
    },
    /// Dropped when all before is written.
    Flush(#[expect(dead_code, reason = "dropping it is the answer")] Sender<()>),
}

/// A log file that is to be opened.
pub(super) struct Opening {
    /// Whose lines go there; everybody's without a VM.
    pub(super) vm: Option<String>,
    /// The first of these that can be opened.
    pub(super) paths: Vec<PathBuf>,
    /// What is done before.
    pub(super) prepare: Box<dyn FnOnce() -> io::Result<()> + Send>,
    /// Which one it is.
    pub(super) answer: Sender<io::Result<PathBuf>>,
}

/// Starts the thread that opens and writes log files. What cannot be written is said on standard error, once for each file.
/// `is_late` is false again when it goes on.
pub(super) fn serve(
    place: Place,
    stderr: Arc<Queue<ForStderr>>,
    is_late: Arc<AtomicBool>,
) -> Queue<ForFiles> {
    let mut files = Files { session: None, vms: BTreeMap::new() };
    // Not through the log: it is what failed.
    let complain = move |failed: Option<String>| {
        if let Some(message) = failed {
            stderr.put(ForStderr::Text(place.text(&Line::of_log(&Zoned::now(), &message))));
        }
    };
    Queue::start("log-files", move |job, dropped| {
        if dropped > 0 {
            let message = format!(
                "{dropped} line(s) are missing here: the log could not be written as fast as they came"
            );
            let text = Line::of_log(&Zoned::now(), &message).for_file();
            files.write(None, &text).into_iter().for_each(&complain);
        }
        match job {
            ForFiles::Open(opening) => complain(files.open(opening)),
            ForFiles::Work(work) => work(),
            ForFiles::Close(vm) => drop(files.vms.remove(&vm)),
            ForFiles::Line { vm, text } => files.write(vm.as_deref(), &text).into_iter().for_each(&complain),
            ForFiles::Flush(_) => {}
        }
        is_late.store(false, Ordering::Release);
    })
}

struct Files {
    session: Option<LogFile>,
    vms: BTreeMap<String, LogFile>,
}

impl Files {
    /// Returns what is to be told people when nobody waits for the answer any more.
    fn open(&mut self, opening: Opening) -> Option<String> {
        let Opening { vm, paths, prepare, answer } = opening;
        let opened = prepare().and_then(|()| LogFile::open_first(&paths)).map(|file| {
            let path = file.path.clone();
            match vm {
                Some(vm) => drop(self.vms.insert(vm, file)),
                None => self.session = Some(file),
            }
            path
        });
        let unheard = answer.send(opened).err()?;
        let error = unheard.into_inner().err()?;
        Some(format!("Log file {} cannot be written: {error}", paths.last()?.display()))
    }

    fn write(&mut self, vm: Option<&str>, text: &str) -> [Option<String>; 2] {
        let of_session = self.session.as_mut().and_then(|file| file.write(text).err());
        let of_vm = vm.and_then(|vm| self.vms.get_mut(vm)).and_then(|file| file.write(text).err());
        [of_session, of_vm]
    }
}

/// An open log file. The first line that cannot be written is the last one tried.
struct LogFile {
    path: PathBuf,
    file: Option<File>,
}

impl LogFile {
    fn open_first(paths: &[PathBuf]) -> io::Result<Self> {
        let mut opened = Err(io::ErrorKind::NotFound.into());
        for path in paths {
            opened = Self::open(path);
            if opened.is_ok() {
                break;
            }
        }
        opened
    }

    /// Opens a file to append to, and creates it. Never through a symbolic link: root writes to it. Nor a pipe, which
    /// would be waited for.
    fn open(path: &Path) -> io::Result<Self> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let file = fs::OpenOptions::new().create(true).append(true).custom_flags(flags).open(path)?;
        Ok(Self { path: path.to_owned(), file: Some(file) })
    }

    /// Appends. `Err` with what to tell people, once.
    fn write(&mut self, text: &str) -> Result<(), String> {
        let Some(file) = &mut self.file else { return Ok(()) };
        // One call for each line, so that lines of two processes do not mix.
        file.write_all(text.as_bytes()).map_err(|error| {
            self.file = None;
            format!(
                "Log file {} cannot be written ({error}): the rest of this session is missing there",
                self.path.display()
            )
        })
    }
}
