//! The session that is under way in a backup path, as its lock and its own words tell.

use std::fs::File;
use std::io::BufReader;

use vmreport::{RunningSession, SessionReport, read_parts};
use vmstore::{LockError, SessionLock, StateDir};

/// `None` when there is none.
pub(super) fn session(state: &StateDir) -> Option<RunningSession> {
    let Err(LockError::Session { pid }) = SessionLock::look(state) else { return None };
    let report = newest(state).filter(|report| report.end.is_none());
    Some(RunningSession {
        pid,
        began: report.as_ref().map(|report| report.session.began),
        kind: report.as_ref().map(|report| report.session.kind),
        ended_vms: report.map_or(0, |report| report.vms.len()),
    })
}

/// What the session has written down that began last.
fn newest(state: &StateDir) -> Option<SessionReport> {
    let second = |name: &str| name.strip_prefix("session-")?.strip_suffix(".jsonl")?.parse::<i64>().ok();
    let entries = std::fs::read_dir(state.reports()).ok()?.flatten();
    let dated = entries.filter_map(|entry| Some((second(entry.file_name().to_str()?)?, entry.path())));
    let (_, path) = dated.max()?;
    read_parts(BufReader::new(File::open(path).ok()?)).ok()
}
