//! `--verify`: whether the newest set of a VM, or that of a period, is as it was written.

use std::path::Path;

use serde_json::{Value, json};
use vmreport::Exit;
use vmstream::chain::BackupSet;
use vmstream::verify::{
    Depth, Finding, Level, SetReport, Verdict, VerifyOptions, Worth, total_bytes, verify_set,
};
use vmstream::{default_workers, text};

use super::call::Call;
use super::failed::Failed;
use super::progress::Bar;
use crate::resolve::{VmName, newest_set};

const SCHEMA: &str = "vmrestore/verify/1";

/// So many findings of a set are said; JSON has all.
const SHOWN: usize = 20;

pub(super) fn verify(
    root: &Path,
    vms: &[VmName],
    period: Option<&str>,
    deep: bool,
    call: &Call,
) -> Result<Exit, Failed> {
    let depth = if deep { Depth::Deep } else { Depth::Content };
    let options = VerifyOptions { depth, workers: default_workers() };
    let (mut exits, mut values) = (Vec::new(), Vec::new());
    for vm in vms {
        let looked = newest_set(root, vm, period).map(|(_, set)| read(&vm.name, &set, options));
        match looked.map_err(Failed::from) {
            Ok(report) => {
                let exit = told(call, &vm.name, &report);
                values.push(as_json(&vm.name, &report));
                exits.push(exit);
            }
            // One of many does not keep the others from being looked at.
            Err(failed) if vms.len() > 1 => {
                call.error("verify", &failed.said);
                values.push(json!({ "vm": vm.name, "dir": null, "verdict": Verdict::CannotTell.word(),
                    "points": [], "findings": [], "error": failed.said }));
                exits.push(failed.exit);
            }
            Err(failed) => return Err(failed),
        }
    }
    let exit = exits.into_iter().find(|exit| *exit != Exit::Ok).unwrap_or(Exit::Ok);
    call.answer_if_asked(
        SCHEMA,
        exit,
        || json!({ "depth": if deep { "deep" } else { "content" }, "vms": values }),
    );
    Ok(exit)
}

fn read(vm: &str, set: &BackupSet, options: VerifyOptions) -> SetReport {
    let bar = Bar::new(vm, total_bytes(set, options.depth));
    verify_set(set, options, &bar)
}

/// Says what was found, and how the program ends by it.
fn told(call: &Call, vm: &str, report: &SetReport) -> Exit {
    let dir = &report.dir;
    for finding in report.findings.iter().take(SHOWN) {
        let text = format!("{}: {}", dir.display(), finding.text(dir));
        if finding.level == Level::Damage { call.error("verify", &text) } else { call.warn("verify", &text) }
    }
    if let Some(more @ 1..) = report.findings.len().checked_sub(SHOWN) {
        call.warn("verify", &format!("{}: {more} more findings; --json lists all", dir.display()));
    }
    let (all, dir) = (text::count(report.points.len(), "restore point"), dir.display());
    match report.verdict() {
        Verdict::Good => {
            call.info(
                "main",
                &format!("Verification passed: backup checksums are valid ({vm}, {all} in {dir})"),
            );
            Exit::Ok
        }
        Verdict::Damaged => {
            let damaged = report.count(Worth::Damaged);
            let text = format!(
                "Verification FAILED: {vm} is damaged, {damaged} of {all} in {dir} cannot be restored"
            );
            call.error("main", &text);
            Exit::General
        }
        Verdict::CannotTell if report.findings.iter().any(|finding| finding.level == Level::Unreadable) => {
            call.error(
                "main",
                &format!("Verification FAILED: of {vm} not everything could be read in {dir}"),
            );
            Exit::Storage
        }
        Verdict::CannotTell => {
            let unproven = report.count(Worth::Unproven);
            let text = format!(
                "Verification FAILED: nothing is known to be wrong with {vm}, and nothing proves {unproven} of {all} in {dir}"
            );
            call.error("main", &text);
            Exit::General
        }
    }
}

fn as_json(vm: &str, report: &SetReport) -> Value {
    let worth = |worth| match worth {
        Worth::Proven => "proven",
        Worth::Unproven => "unproven",
        Worth::Unknown => "unknown",
        Worth::Damaged => "damaged",
    };
    let points = report.points.iter().map(|point| {
        let disks = point.disks.iter().map(|(disk, verdict)| (disk.to_string(), Value::from(verdict.word())));
        json!({ "point": point.id.to_string(), "worth": worth(point.worth()), "disks": disks.collect::<serde_json::Map<_, _>>() })
    });
    let finding = |finding: &Finding| json!({ "level": finding.level.word(), "file": finding.path, "message": finding.text(&report.dir) });
    json!({
        "vm": vm,
        "dir": report.dir,
        "verdict": report.verdict().word(),
        "points": points.collect::<Vec<_>>(),
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "error": null,
    })
}
