//! What a run did, for people and for scripts.

use std::time::Duration;

use serde_json::{Value, json};

use super::exit::Exit;
use super::failed::exit_of;
use crate::engine::cancel::Cancel;
use crate::engine::cancel::StopReason;
use crate::engine::{Method, Report};
use crate::session::{VmOutcome, VmResult};
use vmplan::Decision;
use vmstream::text::{aligned, size};

/// One line about a backup that ended well.
pub(super) fn one_line(report: &Report, took: Duration) -> String {
    let level = level(&report.plan.decision);
    if report.plan.decision == Decision::Skip {
        return format!("skipped: {}", report.plan.why);
    }
    let how = match report.method {
        Some(Method::Agent) => format!("file systems frozen for {} ms", report.stopped.as_millis()),
        Some(Method::Paused) => format!("paused for {} ms", report.stopped.as_millis()),
        Some(Method::AlreadyPaused) => "was paused already".to_owned(),
        Some(Method::AlreadyFrozen) => "was frozen already".to_owned(),
        Some(Method::Running) => "not held still".to_owned(),
        Some(Method::StartedPaused) => "shut off, started paused for it".to_owned(),
        Some(Method::Offline) | None => "shut off".to_owned(),
    };
    let archived = report.archived_to.as_ref();
    let archived = archived.map_or(String::new(), |to| format!(", previous chain moved to {}", to.display()));
    let stages = report.stages().map_or(String::new(), |stages| format!("; {stages}"));
    format!(
        "{level} of {} disk(s) done in {:.2} s: {} written ({}; {how}){archived}{stages}",
        report.disks.len(),
        took.as_secs_f64(),
        size(report.file_bytes()),
        report.plan.why,
    )
}

pub(super) fn level(decision: &Decision) -> String {
    match decision {
        Decision::Skip => "skip".into(),
        Decision::Full { .. } => "full".into(),
        Decision::Incremental { name, .. } => format!("incremental {}", name.number()),
        Decision::Copy { .. } => "copy".into(),
        Decision::Refuse(_) => "refused".into(),
    }
}

/// The table at the end of a run.
pub(super) fn table(outcomes: &[VmOutcome]) -> String {
    let mut rows = vec![["VM", "STATUS", "TYPE", "POINTS", "SIZE", "TIME", "REMARK"].map(str::to_owned)];
    for outcome in outcomes {
        rows.push(row(outcome));
    }
    let text = aligned(&rows) + &disk_table(outcomes);
    let count = |wanted: &str| outcomes.iter().filter(|o| status(o) == wanted).count();
    let (ok, excluded) = (count("ok") + count("DAMAGED"), count("excluded"));
    text + &format!(
        "{ok} backed up, {excluded} excluded, {} skipped, {} failed\n",
        count("skipped"),
        count("FAILED")
    )
}

/// What became of each disk, between two empty lines. Empty when no VM has got so far.
fn disk_table(outcomes: &[VmOutcome]) -> String {
    let mut rows = vec![["VM", "DISK", "RESULT", "SIZE", "REMARK"].map(str::to_owned)];
    for outcome in outcomes {
        let VmResult::Done(report) = &outcome.result else { continue };
        rows.extend(report.every_disk.iter().map(|disk| {
            let size = report.bytes_of(&disk.target).map_or_else(|| "-".to_owned(), size);
            let result = disk.treatment.word().to_owned();
            [outcome.domain.clone(), disk.target.clone(), result, size, disk.remark()]
        }));
    }
    if rows.len() == 1 { String::new() } else { format!("\n{}\n", aligned(&rows)) }
}

pub(super) fn status(outcome: &VmOutcome) -> &'static str {
    match &outcome.result {
        VmResult::Done(report) if report.plan.decision == Decision::Skip => "skipped",
        VmResult::Done(report) if !report.damaged.is_empty() => "DAMAGED",
        VmResult::Done(_) => "ok",
        VmResult::Excluded(_) => "excluded",
        VmResult::Failed(_) | VmResult::NoFolder(_) | VmResult::NotBegun => "FAILED",
    }
}

/// Why it failed, if it did.
pub(super) fn error(outcome: &VmOutcome) -> Option<String> {
    match &outcome.result {
        VmResult::Done(_) | VmResult::Excluded(_) => None,
        VmResult::Failed(error) => Some(error.to_string()),
        VmResult::NoFolder(error) => Some(error.to_string()),
        VmResult::NotBegun => Some("not begun".to_owned()),
    }
}

fn row(outcome: &VmOutcome) -> [String; 7] {
    let time = format!("{:.1} s", outcome.took.as_secs_f64());
    let status = status(outcome).to_owned();
    let nothing = |remark: String| {
        let dash = || "-".to_owned();
        [outcome.domain.clone(), status.clone(), dash(), dash(), dash(), time.clone(), remark]
    };
    match &outcome.result {
        VmResult::Done(report) => {
            let points = if report.points == 0 { "-".to_owned() } else { report.points.to_string() };
            let mut remarks = report.damaged.clone();
            if !matches!(report.plan.decision, Decision::Incremental { .. }) {
                remarks.push(report.plan.why.to_string());
            }
            if !report.warnings.is_empty() {
                remarks.push(format!("{} warning(s)", report.warnings.len()));
            }
            let size = size(report.file_bytes());
            let level = level(&report.plan.decision);
            [outcome.domain.clone(), status, level, points, size, time, remarks.join("; ")]
        }
        VmResult::Excluded(by) => nothing(format!("policy never ({by})")),
        _ => nothing(error(outcome).unwrap_or_default()),
    }
}

/// The same for scripts.
pub(super) fn json(outcomes: &[VmOutcome]) -> Value {
    let one = |outcome: &VmOutcome| {
        let mut value = json!({
            "vm": outcome.domain,
            "policy": outcome.policy,
            "status": status(outcome).to_lowercase(),
            "seconds": outcome.took.as_secs_f64(),
        });
        if let Some(place) = &outcome.destination {
            value["period"] = json!(place.period);
            value["dir"] = json!(place.dir);
        }
        value["retention"] = json!(outcome.retention);
        match &outcome.result {
            VmResult::Done(report) => {
                value["report"] = serde_json::to_value(report).unwrap_or_default();
                value["report"]["why"] = json!(report.plan.why.to_string());
            }
            VmResult::Excluded(by) => value["why"] = json!(format!("policy never ({by})")),
            _ => value["error"] = json!(error(outcome)),
        }
        value
    };
    json!({ "vms": outcomes.iter().map(one).collect::<Vec<_>>() })
}

/// How the program ends after a run.
pub(super) fn exit(outcomes: &[VmOutcome], cancel: &Cancel) -> Exit {
    if let Some(StopReason::Signal(number)) = cancel.stopped() {
        return Exit::Signal(number);
    }
    let failed = outcomes.iter().filter_map(|o| match &o.result {
        // The point is there, and holds a disk that is not whole.
        VmResult::Done(report) if !report.damaged.is_empty() => Some(Exit::Vm),
        VmResult::Done(_) | VmResult::Excluded(_) => None,
        VmResult::Failed(error) => Some(exit_of(error)),
        VmResult::NoFolder(_) | VmResult::NotBegun => Some(Exit::Vm),
    });
    let mut kinds: Vec<Exit> = failed.collect();
    kinds.dedup();
    match kinds.as_slice() {
        [] => Exit::Ok,
        [one] => *one,
        _ => Exit::Vm,
    }
}
