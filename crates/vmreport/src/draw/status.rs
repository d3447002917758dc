//! How the VMs stand, for people: a table of 80 columns, and below each VM what deserves a look.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::age::age;
use crate::status::{
    Fault, Group, Health, Leftover, LeftoverKind, RunResult, RunningSession, StatusReport, VmStanding,
};
use vmstream::text::{aligned, few, fits, size, wrapped};

/// So many names are said where there may be many.
const SHOWN_NAMES: usize = 3;

/// Columns that go, the first of them first, where a line would be too long otherwise: NEXT, CHAIN, POLICY.
const DISPENSABLE: [usize; 3] = [4, 5, 1];

/// The table, with times of this zone.
pub fn status(report: &StatusReport, zone: &TimeZone) -> String {
    let head =
        ["VM", "POLICY", "LAST RUN", "AGE", "NEXT", "CHAIN", "POINTS", "TOTAL", "HEALTH"].map(str::to_owned);
    let groups = [Group::BackedUp, Group::Excluded, Group::Forgotten];
    let vms = || groups.iter().flat_map(|group| report.vms.iter().filter(|vm| vm.group() == *group));
    let rows: Vec<[String; 9]> = std::iter::once(head).chain(vms().map(|vm| row(vm, report.at))).collect();
    let lines = fitting(&rows);
    let mut lines = lines.lines();
    let mut text = report.running.as_ref().map_or_else(String::new, |it| running(it, zone));
    if let Some(head) = lines.next().filter(|_| !report.vms.is_empty()) {
        text += &format!("{head}\n");
    }
    let mut group = Group::BackedUp;
    for (vm, line) in vms().zip(lines) {
        if vm.group() != group {
            group = vm.group();
            text += &format!("\n{}\n", title(group));
        }
        text += &format!("{line}\n");
        for remark in remarks(vm, report.max_age) {
            text += &wrapped(&format!("    {remark}\n"));
        }
    }
    let not_served = report.not_served.iter().map(|of| format!("Not done: {}: {}\n", of.said, of.fix));
    let unknown = report.unknown.iter().map(|what| format!("Not known: {what}\n"));
    text + &format!("\n{}", wrapped(&total(report))) + &not_served.chain(unknown).collect::<String>()
}

/// The rows, without dispensable columns as far as that is needed.
fn fitting(rows: &[[String; 9]]) -> String {
    let mut dropped: Vec<usize> = vec![];
    loop {
        let kept = |row: &[String; 9]| {
            let cells = row.iter().enumerate().filter(|(column, _)| !dropped.contains(column));
            cells.map(|(_, cell)| cell.clone()).collect::<Vec<_>>()
        };
        let text = aligned(&rows.iter().map(kept).collect::<Vec<_>>());
        match DISPENSABLE.get(dropped.len()) {
            Some(next) if !fits(&text) => dropped.push(*next),
            _ => return text,
        }
    }
}

fn title(group: Group) -> &'static str {
    match group {
        Group::BackedUp => "Backed up:",
        Group::Excluded => "Not backed up, because the policy is never:",
        Group::Forgotten => "Forgotten: libvirt does not know them any more, and their backups stay:",
    }
}

fn running(session: &RunningSession, zone: &TimeZone) -> String {
    let since = session.began.map_or_else(String::new, |began| {
        format!(" since {}", began.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M"))
    });
    let ended = match session.ended_vms {
        0 => String::new(),
        ended => format!("; {ended} VM(s) have ended"),
    };
    wrapped(&format!("A run is under way{since}, process {}{ended}.\n", session.pid)) + "\n"
}

fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

fn row(vm: &VmStanding, at: Timestamp) -> [String; 9] {
    let dash = || "-".to_owned();
    let chain = vm.chain.as_ref();
    let last_run = match (&vm.last_run, vm.at_work_pid) {
        (_, Some(_)) => "now".to_owned(),
        (None, None) => dash(),
        (Some(run), None) => {
            let word = match run.result {
                RunResult::Success => "ok",
                RunResult::Failed => "FAILED",
                RunResult::Unchanged => "unchanged",
                RunResult::Skipped => "skipped",
                RunResult::Excluded => "excluded",
            };
            run.at.map_or_else(|| word.to_owned(), |then| format!("{word}, {} ago", age(since(then, at))))
        }
    };
    let points = chain.map_or_else(dash, |chain| match chain.restorable == chain.points {
        true => chain.points.to_string(),
        false => format!("{} of {}", chain.restorable, chain.points),
    });
    let health = match vm.health {
        Health::NoBackup if vm.group() == Group::Excluded => "-",
        Health::Good => "good",
        Health::Failing => "FAILING",
        Health::Damaged => "DAMAGED",
        Health::NoBackup => "NO BACKUP",
    };
    [
        vm.vm.clone(),
        vm.policy.to_string(),
        last_run,
        vm.age.map_or_else(dash, age),
        vm.next_period.map_or_else(dash, |day| day.to_string()),
        chain.map_or_else(dash, |chain| chain.period.clone()),
        points,
        if vm.folder_bytes == 0 { dash() } else { size(vm.folder_bytes) },
        health.to_owned(),
    ]
}

/// What deserves a look, the worst first.
fn remarks(vm: &VmStanding, max_age: Option<Duration>) -> Vec<String> {
    let mut remarks = Vec::new();
    for fault in &vm.faults {
        remarks.extend(match fault {
            Fault::TooOld => Some(match (vm.age, max_age) {
                (Some(old), Some(limit)) => format!("TOO OLD: {}, and {} are allowed", age(old), age(limit)),
                _ => "TOO OLD: nothing tells how old the newest restore point is".to_owned(),
            }),
            Fault::NoRestorablePoint => Some("NO RESTORE POINT of it can be restored".to_owned()),
            // Each disk has a line.
            Fault::DiskInNoBackup => None,
        });
    }
    if let Some(error) = &vm.last_error {
        let tries = match vm.failed_tries {
            0 | 1 => "the last try failed".to_owned(),
            tries => format!("{tries} tries failed since the last success"),
        };
        remarks.push(format!("{tries}: {error}"));
    }
    remarks
        .extend(vm.left_out.iter().map(|disk| format!("disk {} is in no backup: {}", disk.disk, disk.why)));
    remarks.extend(vm.problems.iter().cloned());
    let at_work = vm.at_work_pid.is_some();
    let kinds =
        [LeftoverKind::Unfinished, LeftoverKind::PutAside, LeftoverKind::Removal, LeftoverKind::Journal];
    for kind in kinds {
        let found: Vec<&Leftover> = vm.leftovers.iter().filter(|left| left.kind == kind).collect();
        if !found.is_empty() {
            remarks.push(leftovers(kind, &found, at_work));
        }
    }
    remarks
}

fn leftovers(kind: LeftoverKind, found: &[&Leftover], at_work: bool) -> String {
    let bytes = size(found.iter().map(|left| left.bytes).sum());
    let names: Vec<String> = found.iter().map(|left| left.path.display().to_string()).collect();
    let (count, names) = (found.len(), few(&names, SHOWN_NAMES));
    match (kind, at_work) {
        (LeftoverKind::Unfinished, true) => {
            format!("{count} unfinished file(s), {bytes}, of the backup that runs: {names}")
        }
        (LeftoverKind::Unfinished, false) => {
            format!(
                "{count} unfinished file(s), {bytes}, of a backup that was killed; the next one removes them: {names}"
            )
        }
        (LeftoverKind::PutAside, _) => format!(
            "{count} unfinished file(s), {bytes}, left by a run that was killed; remove them when no other host writes them: {names}"
        ),
        (LeftoverKind::Removal, _) => {
            format!("{count} interrupted removal(s), {bytes}; the next backup or prune ends them: {names}")
        }
        (LeftoverKind::Journal, true) => "a backup of it is under way".to_owned(),
        (LeftoverKind::Journal, false) => {
            format!("a run of it broke off; the next one undoes what it left: {names}")
        }
    }
}

fn total(report: &StatusReport) -> String {
    let totals = report.totals();
    let mut text = format!(
        "{} backed up, {} excluded, {} forgotten; {} in all, {} of it archives\n",
        totals.backed_up,
        totals.excluded,
        totals.forgotten,
        size(totals.folder_bytes),
        size(totals.archives_bytes)
    );
    if totals.with_faults > 0 {
        text += &format!("{} VM(s) need somebody: see the words in capitals\n", totals.with_faults);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{LastRun, LeftOutDisk, NewestChain, NotServed};
    use vmplan::RotationPolicy;

    const HOUR: u64 = 3600;

    fn at() -> Timestamp {
        "2026-11-30T12:00:00Z".parse().unwrap()
    }

    fn vm(name: &str) -> VmStanding {
        let ended = "2026-11-30T10:00:00Z".parse().ok();
        VmStanding {
            vm: name.into(),
            defined: Some(true),
            policy: RotationPolicy::Monthly,
            at_work_pid: None,
            last_run: Some(LastRun { at: ended, result: RunResult::Success }),
            last_success: ended,
            failed_tries: 0,
            last_error: None,
            age: Some(Duration::from_secs(2 * HOUR)),
            next_period: Some(jiff::civil::date(2026, 12, 1)),
            chain: Some(NewestChain {
                period: "202611".into(),
                folder: format!("/b/{name}/202611").into(),
                points: 4,
                restorable: 4,
                bytes: 2 << 30,
            }),
            folder_bytes: 3 << 30,
            archives_bytes: 1 << 30,
            health: Health::Good,
            left_out: vec![],
            leftovers: vec![],
            problems: vec![],
            faults: vec![],
        }
    }

    fn report() -> StatusReport {
        let mut db = vm("db");
        db.last_run = db.last_run.map(|run| LastRun { result: RunResult::Failed, ..run });
        db.age = Some(Duration::from_secs(73 * HOUR));
        db.chain = db.chain.map(|chain| NewestChain { restorable: 3, ..chain });
        db.health = Health::Damaged;
        db.failed_tries = 3;
        db.last_error = Some("no space".into());
        db.left_out.push(LeftOutDisk { disk: "vdc".into(), why: "network disk (rbd)".into() });
        db.problems.push("Disk vdb is damaged".into());
        db.leftovers = ["x", "y"]
            .map(|name| Leftover {
                kind: LeftoverKind::Unfinished,
                path: format!("/b/db/{name}.partial").into(),
                bytes: 1 << 20,
            })
            .to_vec();
        db.faults = vec![Fault::TooOld, Fault::DiskInNoBackup];
        let lab = VmStanding {
            policy: RotationPolicy::Never,
            last_run: None,
            age: None,
            next_period: None,
            chain: None,
            folder_bytes: 0,
            archives_bytes: 0,
            health: Health::NoBackup,
            ..vm("lab")
        };
        StatusReport {
            at: at(),
            max_age: Some(Duration::from_secs(26 * HOUR)),
            running: Some(RunningSession {
                pid: 77,
                began: "2026-11-30T11:30:00Z".parse().ok(),
                kind: None,
                ended_vms: 1,
            }),
            vms: vec![db, lab, VmStanding { defined: Some(false), ..vm("old") }, vm("web")],
            not_served: vec![NotServed { said: "mail".into(), fix: "watch the exit code".into() }],
            unknown: vec!["Cannot list /b/x: it is closed".into()],
        }
    }

    #[test]
    fn each_vm_has_a_row_in_its_part_and_what_deserves_a_look_below() {
        let want = "\
A run is under way since 2026-11-30 11:30, process 77; 1 VM(s) have ended.

VM   POLICY   LAST RUN         AGE     CHAIN   POINTS  TOTAL     HEALTH
db   monthly  FAILED, 2 h ago  3 days  202611  3 of 4  3.00 GiB  DAMAGED
    TOO OLD: 3 days, and 26 h are allowed
    3 tries failed since the last success: no space
    disk vdc is in no backup: network disk (rbd)
    Disk vdb is damaged
    2 unfinished file(s), 2.00 MiB, of a backup that was killed; the next one
      removes them: /b/db/x.partial, /b/db/y.partial
web  monthly  ok, 2 h ago      2 h     202611  4       3.00 GiB  good

Not backed up, because the policy is never:
lab  never    -                -       -       -       -         -

Forgotten: libvirt does not know them any more, and their backups stay:
old  monthly  ok, 2 h ago      2 h     202611  4       3.00 GiB  good

2 backed up, 1 excluded, 1 forgotten; 9.00 GiB in all, 3.00 GiB of it archives
1 VM(s) need somebody: see the words in capitals
Not done: mail: watch the exit code
Not known: Cannot list /b/x: it is closed
";
        assert_eq!(status(&report(), &TimeZone::UTC), want);
    }

    #[test]
    fn a_table_of_few_words_keeps_all_columns_and_one_of_nobody_says_so() {
        let quiet = StatusReport {
            running: None,
            not_served: vec![],
            unknown: vec![],
            vms: vec![VmStanding { at_work_pid: Some(7), ..vm("web") }],
            ..report()
        };
        let want = "\
VM   POLICY   LAST RUN  AGE  NEXT        CHAIN   POINTS  TOTAL     HEALTH
web  monthly  now       2 h  2026-12-01  202611  4       3.00 GiB  good

1 backed up, 0 excluded, 0 forgotten; 3.00 GiB in all, 1.00 GiB of it archives
";
        assert_eq!(status(&quiet, &TimeZone::UTC), want);
        let nobody = StatusReport { vms: vec![], ..quiet };
        let want = "\n0 backed up, 0 excluded, 0 forgotten; 0 B in all, 0 B of it archives\n";
        assert_eq!(status(&nobody, &TimeZone::UTC), want);
    }

    #[test]
    fn the_value_is_as_its_schema_says() {
        let report = report();
        let call = crate::Call {
            version: "1".into(),
            instance: None,
            began: at(),
            ended: at(),
            exit_code: 5,
            session_id: None,
            log_file: None,
            warnings: vec![],
        };
        let document = crate::Document { schema: "vmbackup/status/1", call, content: report.answer() };
        let document = serde_json::to_value(document).unwrap();
        assert_eq!(lab::schema::complaints("vmbackup-status-1", &document), "");
        assert_eq!(
            (&document["vms"][0]["age_seconds"], &document["totals"]["with_faults"]),
            (&262_800.into(), &1.into())
        );
    }
}
