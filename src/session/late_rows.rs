//! Rows that the database lacks of earlier sessions, from what those have kept in `_state/report`.
//!
//! Must not live here: SQL (`catalog`), which rows follow from the value (`record`).

use std::fs::{self, File};
use std::io::{self, BufReader};

use jiff::Timestamp;

use super::record::Records;
use crate::catalog::{Catalog, CatalogError, NewSession, SessionId};
use vmreport::{SessionEnd, SessionReport, SessionStatus, VmReport, read_parts};
use vmstore::StateDir;
use vmstore::presence::found;

/// Writes what is missing of sessions that are over. Call it with the session's lock held, before its own file of parts is
/// begun; `own` is its number. What cannot be written now is tried again by the next session.
pub fn take_over(state: &StateDir, catalog: &Catalog, own: Option<SessionId>) {
    if !catalog.is_available() {
        return;
    }
    let done = catalog.complete_until().map_err(io::Error::other).and_then(|until| {
        let reports = later_than(state, until.unwrap_or(Timestamp::UNIX_EPOCH))?;
        // Several may begin in one second, and the row of one is not that of another.
        let numbers = reports.iter().filter_map(|report| report.session.id.map(SessionId));
        let mut known: Vec<SessionId> = numbers.chain(own).collect();
        for report in reports {
            let complete = complete(catalog, &report, &mut known).map_err(io::Error::other)?;
            if !complete {
                break;
            }
            catalog.set_complete_until(report.session.began);
        }
        Ok(())
    });
    if let Err(error) = done {
        tracing::debug!("Whether the database has the rows of earlier sessions cannot be told: {error}");
    }
}

/// What sessions have kept that began later, oldest first. What is no report of ours is passed over.
fn later_than(state: &StateDir, until: Timestamp) -> io::Result<Vec<SessionReport>> {
    let mut reports = Vec::new();
    for entry in found(fs::read_dir(state.reports()))?.into_iter().flatten() {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number =
            name.and_then(|name| name.strip_prefix("session-")?.strip_suffix(".jsonl")?.parse::<i64>().ok());
        // The number is the second in which it began, or a later one.
        if number.is_none_or(|number| number < until.as_second()) {
            continue;
        }
        match read_parts(BufReader::new(File::open(&path)?)) {
            Ok(report) => reports.push(report),
            Err(error) => tracing::debug!("{} is passed over: {error}", path.display()),
        }
    }
    reports.retain(|report| report.session.began.as_second() >= until.as_second());
    reports.sort_by_key(|report| report.session.began);
    Ok(reports)
}

/// Writes what is missing of one session. False when it could not be written. `known` are the rows whose session is known.
fn complete(
    catalog: &Catalog,
    report: &SessionReport,
    known: &mut Vec<SessionId>,
) -> Result<bool, CatalogError> {
    let head = &report.session;
    let SessionEnd { at, status } = report.end.clone().unwrap_or_else(|| SessionEnd {
        at: report.vms.iter().map(|vm| vm.ended).max().unwrap_or(head.began),
        status: SessionStatus::Interrupted,
    });
    let new =
        NewSession { instance: &head.instance, kind: head.kind, log_file: &head.log_file, at: head.began };
    let row = catalog.session_row(head.id.map(SessionId), &new, known)?;
    let Some(session) = row.map(|(id, _)| id).or_else(|| catalog.late_session(&new)) else {
        return Ok(false);
    };
    known.push(session);
    let records = Records { catalog, session: Some(session), parts: None };
    let lacks = |vm: &&VmReport| catalog.has_backup(session, &vm.vm).map(|has| !has);
    let mut late = 0;
    for vm in &report.vms {
        if lacks(&vm)? {
            records.vm_end(vm);
            late += 1;
        }
    }
    if late > 0 || row.is_none_or(|(_, then)| then != Some(status)) {
        catalog.end_late_session(session, status, at);
        say(session, late);
    }
    for vm in &report.vms {
        if lacks(&vm)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn say(SessionId(number): SessionId, late: usize) {
    tracing::info!("The database lacked what became of session {number} ({late} VMs); it is there now");
}
