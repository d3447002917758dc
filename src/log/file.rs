//! Log files that are appended to for as long as they can be, by a thread of their own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::Sender;
use jiff::Zoned;
use rustix::fs::OFlags;

use super::line::Line;
use super::queue::Queue;
use super::stderr::{ForStderr, Place};

/// What the thread of the log files is to do.
pub(super) enum ForFiles {
    /// Every line goes to this file from now on.
    Session(LogFile),
    /// The lines of this VM do.
    Vm(String, LogFile),
    /// The VM's log is complete.
    Close(String),
    Line {
        vm: Option<String>,
        text: String,
    },
    /// Dropped when all before is written.
    Flush(#[expect(dead_code, reason = "dropping it is the answer")] Sender<()>),
}

/// Starts the thread that writes log files. What cannot be written is said on standard error, once for each file.
pub(super) fn serve(place: Place, stderr: Arc<Queue<ForStderr>>) -> Queue<ForFiles> {
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
            ForFiles::Session(file) => files.session = Some(file),
            ForFiles::Vm(vm, file) => drop(files.vms.insert(vm, file)),
            ForFiles::Close(vm) => drop(files.vms.remove(&vm)),
            ForFiles::Line { vm, text } => files.write(vm.as_deref(), &text).into_iter().for_each(&complain),
            ForFiles::Flush(_) => {}
        }
    })
}

struct Files {
    session: Option<LogFile>,
    /// By VM.
    vms: BTreeMap<String, LogFile>,
}

impl Files {
    fn write(&mut self, vm: Option<&str>, text: &str) -> [Option<String>; 2] {
        let of_session = self.session.as_mut().and_then(|file| file.write(text).err());
        let of_vm = vm.and_then(|vm| self.vms.get_mut(vm)).and_then(|file| file.write(text).err());
        [of_session, of_vm]
    }
}

/// An open log file. The first line that cannot be written is the last one tried.
pub(super) struct LogFile {
    path: PathBuf,
    file: Option<File>,
}

impl LogFile {
    /// Opens a file to append to, and creates it. Never through a symbolic link: root writes to it. Nor a pipe, which
    /// would be waited for.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
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
