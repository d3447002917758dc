//! The log of a call that does more than list: one file in `/var/log/vmrestore`, for its owner alone, and standard error.
//!
//! A line is that of the Bash program: `[2026-12-01 04:23:00] [vmrestore] [function] LEVEL: text`. What cannot be written there is said
//! once and stops nothing.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Zoned;
use vmstore::folder_name;

/// Where logs go, and where they go when that cannot be.
const FOLDER: &str = "/var/log/vmrestore";
const ELSEWHERE: &str = "/tmp";

/// How many calls of one VM may begin in one second.
const NAMES: u32 = 100;

const RULE: usize = 60;

/// How a line counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Info,
    Warn,
    Error,
}

/// The log of one call.
pub(super) struct Log {
    file: Mutex<Option<File>>,
    path: Option<PathBuf>,
    warnings: Mutex<Vec<String>>,
    /// Prints a line for people.
    print: Box<dyn Fn(&str) + Send + Sync>,
}

impl Log {
    /// Opens the log of a call about `label`: a VM, several of them.
    pub(super) fn open(
        label: &str,
        environment: &BTreeMap<String, String>,
        print: impl Fn(&str) + Send + Sync + 'static,
    ) -> Self {
        let named = environment.get("LOG_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let folders = [named.unwrap_or_else(|| FOLDER.into()), ELSEWHERE.into()];
        let name = format!("{}-{}", folder_name(label), Zoned::now().strftime("%Y%m%d-%H%M%S"));
        let mut failed = Vec::new();
        let opened = folders.iter().find_map(|folder| {
            let opened = create(folder, &name);
            opened
                .map_err(|error| {
                    failed.push(format!("No log can be written in {}: {error}", folder.display()))
                })
                .ok()
        });
        let (file, path) = opened.map_or((None, None), |(file, path)| (Some(file), Some(path)));
        let log = Self { file: Mutex::new(file), path, warnings: Mutex::default(), print: Box::new(print) };
        // Who may not write to the folder of logs is no news to anybody.
        if log.path.is_none() {
            failed.iter().for_each(|text| log.warn("init_logging", text));
        }
        log
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What deserved a look, in order.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn info(&self, function: &str, text: &str) {
        self.line(Level::Info, function, text);
    }

    pub(super) fn warn(&self, function: &str, text: &str) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
        self.line(Level::Warn, function, text);
    }

    pub(super) fn error(&self, function: &str, text: &str) {
        self.line(Level::Error, function, text);
    }

    /// Lines between two rules, in the file alone.
    pub(super) fn block(&self, lines: &[String]) {
        let rule = "═".repeat(RULE);
        self.write(&format!("{rule}\n{}\n{rule}\n", lines.join("\n")));
    }

    fn line(&self, level: Level, function: &str, text: &str) {
        let word = match level {
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
        };
        let now = Zoned::now().strftime("%Y-%m-%d %H:%M:%S");
        let line = format!("[{now}] [vmrestore] [{function}] {word}: {text}\n");
        self.write(&line);
        (self.print)(&line);
    }

    fn write(&self, text: &str) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = file.as_mut().and_then(|file| file.write_all(text.as_bytes()).err());
        if let Some(error) = failed {
            *file = None;
            let path = self.path.as_deref().unwrap_or(Path::new(""));
            (self.print)(&format!("Warning: Log {} cannot be written: {error}\n", path.display()));
        }
    }
}

/// A file that was not there, under this name or one with a number.
fn create(folder: &Path, name: &str) -> io::Result<(File, PathBuf)> {
    fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    for number in 0..NAMES {
        let end = if number == 0 { String::new() } else { format!(".{number}") };
        let path = folder.join(format!("{name}{end}.log"));
        match OpenOptions::new().create_new(true).append(true).mode(0o600).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return Ok((opened?, path)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    #[test]
    fn a_log_is_its_owners_alone_and_each_call_has_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let environment = BTreeMap::from([("LOG_DIR".to_owned(), dir.path().display().to_string())]);
        let said = Arc::new(Mutex::new(String::new()));
        let open = || {
            let said = Arc::clone(&said);
            Log::open("a/../b", &environment, move |line| said.lock().unwrap().push_str(line))
        };
        let (one, other) = (open(), open());
        let path = one.path().unwrap().to_owned();
        assert!(other.path().is_some_and(|other| *other != path));
        assert!(path.starts_with(dir.path()) && path.display().to_string().contains("a_.._b-"), "{path:?}");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        one.info("main", "begins");
        one.warn("main", "look at this");
        one.block(&["Mode:         verify".to_owned()]);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| line.get(22..).unwrap_or(line)).collect();
        assert_eq!(lines[..2], ["[vmrestore] [main] INFO: begins", "[vmrestore] [main] WARN: look at this"]);
        assert_eq!(lines[3], "Mode:         verify");
        assert_eq!(one.warnings(), ["look at this"]);
        assert!(
            said.lock().unwrap().contains("WARN: look at this") && !said.lock().unwrap().contains("verify")
        );
    }
}
