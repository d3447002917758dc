//! The parts of a session's value as a file, a line of JSON for each: what has ended is in it, whatever happens to the session.

use std::fs::File;
use std::io::{self, BufRead, Write};
use std::sync::{Mutex, PoisonError};

use super::session::{Part, SessionReport};

/// The file of a session that is under way. Its threads share it.
#[derive(Debug)]
pub struct PartsFile(Mutex<File>);

/// A file of parts cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PartsError {
    /// The file itself.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A line that is no part, or one of a later version.
    #[error("Line {line}: {source}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Nothing in it says whose parts these are.
    #[error("It does not begin with the beginning of a session")]
    NoBeginning,
}

impl PartsFile {
    /// Takes an empty file that is open for writing.
    pub fn new(file: File) -> Self {
        Self(Mutex::new(file))
    }

    /// Adds a part. When this returns what became of a VM, or was removed, is on disk, as far as the file system keeps its
    /// promise. What came before gets there with it; a session whose end did not was ended by its host.
    pub fn add(&self, part: &Part) -> io::Result<()> {
        let waits = matches!(part, Part::Vm(_) | Part::Removal(_));
        let mut line = serde_json::to_vec(part)?;
        line.push(b'\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line)?;
        if waits { file.sync_data() } else { Ok(()) }
    }
}

/// The sum of the parts in a file. A last line that was not written to its end does not count.
pub fn read_parts(mut file: impl BufRead) -> Result<SessionReport, PartsError> {
    let mut report: Option<SessionReport> = None;
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        file.read_until(b'\n', &mut text)?;
        if text.last() != Some(&b'\n') {
            break;
        }
        let part = serde_json::from_slice(&text).map_err(|source| PartsError::Line { line, source })?;
        match (&mut report, part) {
            (Some(report), part) => report.add(part),
            (None, Part::Begin { session, .. }) => report = Some(SessionReport::begin(*session)),
            (None, _) => return Err(PartsError::NoBeginning),
        }
    }
    report.ok_or(PartsError::NoBeginning)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::literal;
    use crate::{PruneReport, Removal};

    #[test]
    fn removals_are_parts_of_their_own() {
        let removal = |what: &str, error: Option<&str>| Removal {
            what: what.into(),
            freed_bytes: 7,
            error: error.map(str::to_owned),
        };
        let removals = vec![removal("period 202610 for web", None), removal("folder web", Some("busy"))];
        let begun = PruneReport { description: "all of web".into(), ..PruneReport::default() };
        let mut report = SessionReport::begin(literal::session().session);
        report.add(Part::Prune(begun.clone()));
        removals.iter().for_each(|removal| report.add(Part::Removal(removal.clone())));
        assert_eq!(report.prune, Some(PruneReport { removals, ..begun }));
        let document = serde_json::to_value(&report).unwrap();
        assert_eq!(lab::schema::complaints("vmbackup-session-1", &document), "");
    }

    #[test]
    fn a_session_is_the_sum_of_its_parts_and_a_killed_one_keeps_them() {
        let whole = literal::session();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("parts");
        let file = PartsFile::new(File::create(&path).unwrap());
        let read = || read_parts(io::BufReader::new(File::open(&path).unwrap()));
        assert!(matches!(read(), Err(PartsError::NoBeginning)));
        let mut so_far = SessionReport::begin(whole.session.clone());
        let begin = Part::Begin { schema: whole.schema, session: Box::new(whole.session.clone()) };
        let vms = whole.vms.iter().map(|vm| Part::Vm(Box::new(vm.clone())));
        let host = Part::HostConfig(whole.host_config.clone().unwrap());
        let end = Part::End(whole.end.clone().unwrap());
        for part in std::iter::once(begin).chain(vms).chain([host, end]) {
            file.add(&part).unwrap();
            so_far.add(part);
            assert_eq!(read().unwrap(), so_far, "after each part");
        }
        assert_eq!(so_far, whole);
        // Killed in the middle of a line.
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 2]).unwrap();
        assert_eq!(read().unwrap(), SessionReport { end: None, ..whole });
        let later = String::from_utf8(text).unwrap().replacen("session/1", "session/2", 1);
        std::fs::write(&path, later).unwrap();
        assert!(matches!(read(), Err(PartsError::Line { line: 1, .. })), "a version that nobody here knows");
    }
}
