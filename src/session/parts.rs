//! The file that keeps the parts of a session's value: `_state/report/session-TIME.jsonl`.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use vmreport::{Part, PartsFile, SessionReport};
use vmstore::StateDir;

/// Group may read, others nothing: what the tree has everywhere.
const FILE_MODE: u32 = 0o640;

/// Begins the file of a session. `None`, which is said, when it cannot be made: a backup is no worse without.
pub fn keep_parts(state: &StateDir, report: &SessionReport) -> Option<PartsFile> {
    let begin = Part::Begin { schema: report.schema, session: Box::new(report.session.clone()) };
    let made = make(state, report.session.began.as_second());
    let made = made.and_then(|file| file.add(&begin).map(|()| file));
    made.inspect_err(|error| {
        let path = state.reports().display().to_string();
        tracing::warn!("What becomes of this session is not kept in {path}: {error}");
    })
    .ok()
}

/// A new file, named by the second, or by the next free one.
fn make(state: &StateDir, mut seconds: i64) -> io::Result<PartsFile> {
    let folder = state.create_reports()?;
    loop {
        let path = folder.join(format!("session-{seconds}.jsonl"));
        match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => seconds += 1,
            made => return made.map(PartsFile::new),
        }
    }
}
