//! The session that the drawings are tested with: each kind of end once.

use std::time::Duration;

use crate::{
    BackupReport, ChainOnDisk, Destination, DiskOutcome, DiskReport, DiskResult, Failure, FailureCode,
    FileSystem, GuestOs, HostConfigReport, KeptFile, Method, NextStep, OsInfo, PlanReport, Replication,
    ReplicationState, RetentionReport, SavedHostConfig, Schema, SessionEnd, SessionHead, SessionKind,
    SessionReport, SessionStatus, Stages, TpmKept, Trimmed, TrimmedPath, Trouble, VmReport, VmResult,
};
use vmplan::retention::{PeriodId, Plan, RetentionDecision, Rule, Verdict};
use vmplan::{Decision, RotationPolicy, Why};

/// A night with six VMs.
pub(crate) fn session() -> SessionReport {
    SessionReport {
        schema: Schema::V1,
        session: SessionHead {
            id: Some(1_795_309_200),
            kind: SessionKind::Standard,
            instance: "default".into(),
            version: "0.6.0".into(),
            began: at("2026-11-22T00:00:00Z"),
            log_file: "/logs/vmbackup.log".into(),
            replication: Replication {
                local: ReplicationState::NotServed,
                cloud: ReplicationState::NotConfigured,
            },
            mail: ReplicationState::NotServed,
        },
        vms: vec![web(), db(), off(), lab(), bad(), late()],
        host_config: Some(HostConfigReport::Saved(SavedHostConfig {
            file: "/backup/host/x.tar.gz".into(),
            is_new: true,
            why: "first version".into(),
            file_bytes: 2048,
            entries: 7,
            left_out: vec![],
            removed: vec!["/backup/host/w.tar.gz".into()],
            warnings: vec!["/etc/libvirt/qemu.conf cannot be read".into()],
        })),
        prune: None,
        end: Some(SessionEnd { at: at("2026-11-22T02:00:00Z"), status: SessionStatus::Partial }),
    }
}

fn at(text: &str) -> jiff::Timestamp {
    text.parse().expect("a time")
}

fn vm(name: &str, policy: RotationPolicy, millis: u64, result: VmResult) -> VmReport {
    VmReport {
        vm: name.into(),
        state: "running".into(),
        policy,
        policy_from: "DEFAULT_ROTATION_POLICY".into(),
        policy_before: Some(policy),
        ended: at("2026-11-22T01:00:07Z"),
        took: Duration::from_millis(millis),
        tries: 1,
        destination: Some(Destination {
            period: "202611".into(),
            dir: format!("/backup/{name}/202611").into(),
            previous_period: Some("202610".into()),
        }),
        folder_bytes: 4 << 20,
        archives_bytes: 1 << 20,
        log_file: Some(format!("/logs/backup_{name}_1.log").into()),
        retention: None,
        result,
    }
}

fn report(decision: Decision, why: Why) -> BackupReport {
    let (drop_checkpoints, repairs, notes) = (vec![], vec![], vec![]);
    BackupReport::of_plan(PlanReport { decision, why, start: false, drop_checkpoints, repairs, notes })
}

/// A full with everything that a report can hold.
fn web() -> VmReport {
    let disk = |disk: &str, result, detail: &str, caveats: &[&str]| DiskOutcome {
        disk: disk.into(),
        result,
        detail: detail.into(),
        caveats: caveats.iter().map(|text| (*text).to_owned()).collect(),
        gap: false,
    };
    let report = BackupReport {
        recovered: vec!["an earlier run (process 7) ended in the middle".into()],
        method: Some(Method::Agent),
        stopped: Duration::from_millis(12),
        trimmed: Some(Trimmed::Done {
            paths: vec![
                TrimmedPath { path: "/".into(), outcome: Ok(Some(4096)) },
                TrimmedPath { path: "/srv".into(), outcome: Err("not supported".into()) },
            ],
            bytes: 4096,
        }),
        os: Some(OsInfo { os: GuestOs::Other, name: "Debian".into() }),
        file_systems: vec![FileSystem { mount_point: "/".into(), kind: "ext4".into(), name: "vda1".into() }],
        tpm: Some(TpmKept::Saved),
        tpm_from: Some("/var/lib/libvirt/swtpm/x".into()),
        definition: Some(KeptFile {
            path: "/backup/web/202611/vmconfig.virtnbdbackup.0.xml".into(),
            bytes_and_mtime: Some((300, 1_795_309_200)),
        }),
        disks: vec![DiskReport {
            target: "vda".into(),
            file: "vda.full.data".into(),
            file_bytes: 1_572_864,
            data_bytes: 4 << 20,
            stages: Stages::new(41, 97, 30, Duration::from_secs(3700)),
        }],
        every_disk: vec![
            disk(
                "vda",
                DiskResult::BackedUp,
                "the whole disk",
                &["its image is encrypted, the backup is not"],
            ),
            disk("sda", DiskResult::Skipped, "empty drive", &[]),
        ],
        not_in_backup: vec!["/srv of the host is shared with the guest: back it up on the host".into()],
        warnings: vec!["the agent was slow".into()],
        points_before: 5,
        points: 1,
        scratch_peak_bytes: Some(64 << 10),
        target_free_bytes: Some(1 << 40),
        archived_to: Some("/backup/web/202611/old/chain-1".into()),
        archived_bytes: 1 << 20,
        archived_in_doubt: true,
        ..report(Decision::Full { archive: true }, Why::NewPeriod("202610".into()))
    };
    let verdict = Verdict {
        period: PeriodId::parse("202601").expect("a period"),
        size_bytes: 100,
        age_days: Some(300),
        decision: RetentionDecision::Delete { rule: Rule::Count { limit: 2 }, unreplicated: false },
    };
    VmReport {
        retention: Some(RetentionReport {
            plan: Plan { verdicts: vec![verdict] },
            freed_bytes: 100,
            removed: 1,
            failures: vec!["x".into()],
        }),
        ..vm("web", RotationPolicy::Monthly, 3_723_000, VmResult::Ok { report: Box::new(report) })
    }
}

/// An increment with a damaged image.
fn db() -> VmReport {
    let name = |number: &str| format!("virtnbdbackup.{number}").parse().expect("a name");
    let decision = Decision::Incremental { parent: name("1"), name: name("2") };
    let report = BackupReport {
        method: Some(Method::Paused),
        stopped: Duration::from_millis(3),
        points_before: 2,
        points: 3,
        damaged: vec!["Disk vdb is damaged".into()],
        ..report(decision, Why::ChainContinues)
    };
    vm("db", RotationPolicy::Daily, 500, VmResult::Damaged { report: Box::new(report) })
}

fn off() -> VmReport {
    let report = BackupReport { points_before: 4, points: 4, ..report(Decision::Skip, Why::Unchanged) };
    let result = VmResult::Skipped { report: Box::new(report) };
    VmReport { state: "shut off".into(), ..vm("off", RotationPolicy::Monthly, 1000, result) }
}

fn lab() -> VmReport {
    let result = VmResult::Excluded { why: "policy never (VM_POLICY)".into() };
    VmReport { destination: None, policy_before: None, ..vm("lab", RotationPolicy::Never, 0, result) }
}

fn bad() -> VmReport {
    let failure = Failure {
        error: "no space".into(),
        code: FailureCode::Storage,
        trouble: Trouble::Storage,
        next_step: NextStep::GiveUp,
        chain: Some(ChainOnDisk { points: 3, restorable: 2 }),
        report: Some(Box::new(BackupReport {
            points_before: 3,
            points: 3,
            scratch_peak_bytes: Some(7 << 10),
            warnings: vec!["the guest agent does not answer any more".into()],
            ..report(Decision::Full { archive: false }, Why::NoChain)
        })),
    };
    vm("bad", RotationPolicy::Weekly, 2000, VmResult::Failed(failure))
}

fn late() -> VmReport {
    let failure = Failure {
        error: "not begun".into(),
        code: FailureCode::NotBegun,
        trouble: Trouble::Domain,
        next_step: NextStep::TryAgain,
        chain: None,
        report: None,
    };
    VmReport { tries: 0, ..vm("late", RotationPolicy::Monthly, 0, VmResult::Failed(failure)) }
}
