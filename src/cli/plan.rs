//! What a run would do, for people and for scripts.

use serde_json::{Value, json};

use crate::engine::Preview;
use crate::retention::RetentionDecision;
use crate::session::{PlannedVm, VmPlan};
use vmconfig::value::Consistency;
use vmplan::Decision;
use vmreport::draw::level;

/// The plan of a run, for people.
pub(super) fn text(plans: &[VmPlan]) -> String {
    let mut text = String::from("[DRY-RUN] Nothing is changed. A run now would do this:\n");
    for plan in plans {
        text += &format!("  {}: {}\n", plan.domain, of_vm(plan));
        if let PlannedVm::Backup { destination, preview, retention } = &plan.planned {
            text += &format!(
                "      policy {} ({}), period {}\n",
                plan.policy, plan.chosen_by, destination.period
            );
            for repair in &preview.plan.repairs {
                text += &format!("      first: {repair}\n");
            }
            for note in &preview.plan.notes {
                text += &format!("      {note}\n");
            }
            for verdict in retention.iter().flat_map(|plan| &plan.verdicts) {
                if let RetentionDecision::Delete { rule, .. } = verdict.decision {
                    let period = verdict.period.as_str();
                    text += &format!("      then: period {period} is deleted ({})\n", rule.text());
                }
            }
            for disk in &preview.disks {
                text += &format!("      disk {disk}\n");
            }
        }
    }
    text
}

/// What a run would do to one VM, as one line.
pub(super) fn of_vm(plan: &VmPlan) -> String {
    match &plan.planned {
        PlannedVm::Excluded => format!("not backed up: policy never ({})", plan.chosen_by),
        PlannedVm::NoFolder(error) => format!("cannot: {error}"),
        PlannedVm::Unknown(error) => format!("cannot: {error}"),
        PlannedVm::Backup { preview, .. } => line(preview),
    }
}

/// How the guest of a VM would be held still while the snapshot begins. `None` when nothing is taken of a guest that runs.
pub(super) fn held_still(preview: &Preview) -> Option<String> {
    let way = preview.consistency?;
    let agent = if preview.agent { "the guest agent is connected" } else { "no guest agent is connected" };
    let then = match (way, preview.agent) {
        (Consistency::Auto | Consistency::Freeze, true) => {
            "it freezes the file systems (application-consistent)"
        }
        (Consistency::Auto, false) => "the guest is paused (crash-consistent)",
        (Consistency::Freeze, false) | (Consistency::None, _) => "the guest runs on (crash-consistent)",
        (Consistency::Pause, _) => "the guest is paused (crash-consistent)",
    };
    Some(match way {
        Consistency::Auto | Consistency::Freeze => format!("consistency {}: {agent}, {then}", way.as_str()),
        Consistency::Pause | Consistency::None => format!("consistency {}: {then}", way.as_str()),
    })
}

fn line(preview: &Preview) -> String {
    let plan = &preview.plan;
    if let Some(error) = &preview.refused {
        return format!("cannot: {error}");
    }
    let archive = match plan.decision {
        Decision::Full { archive: true } | Decision::Copy { archive: true } => {
            ", what is there goes to the archive"
        }
        _ => "",
    };
    let mut line = format!("{} ({}){archive}", level(&plan.decision), plan.why);
    if !plan.drop_checkpoints.is_empty() {
        line += &format!(", {} checkpoint(s) no chain needs are deleted", plan.drop_checkpoints.len());
    }
    if plan.start {
        line += ", the VM is started paused for it";
    }
    if preview.leftovers {
        line += "; first, what an interrupted run left is undone";
    }
    line
}

/// The plan of a run, for scripts.
pub(super) fn json(plans: &[VmPlan]) -> Value {
    let one = |plan: &VmPlan| {
        let mut value = json!({
            "vm": plan.domain,
            "policy": plan.policy,
            "policy_from": plan.chosen_by.to_string(),
        });
        match &plan.planned {
            PlannedVm::Excluded => value["plan"] = json!("excluded"),
            PlannedVm::NoFolder(error) => value["error"] = json!(error.to_string()),
            PlannedVm::Unknown(error) => value["error"] = json!(error.to_string()),
            PlannedVm::Backup { destination, preview, retention } => {
                value["period"] = json!(destination.period);
                value["dir"] = json!(destination.dir);
                value["plan"] = json!(preview.plan);
                value["why"] = json!(preview.plan.why.to_string());
                value["retention"] = json!(retention);
                value["leftovers"] = json!(preview.leftovers);
                value["disks"] = json!(preview.disks);
                value["consistency"] = json!(preview.consistency.map(Consistency::as_str));
                value["agent_connected"] = json!(preview.agent);
                value["not_in_backup"] =
                    preview.not_backed_up.iter().map(|outside| json!(outside.to_string())).collect();
                if let Some(error) = &preview.refused {
                    value["error"] = json!(error.to_string());
                }
            }
        }
        value
    };
    let excluded = plans.iter().filter(|plan| matches!(plan.planned, PlannedVm::Excluded)).count();
    let refused = plans.iter().filter(|plan| is_refused(plan)).count();
    let totals = json!({ "vms": plans.len(), "excluded": excluded, "refused": refused });
    json!({ "dry_run": true, "vms": plans.iter().map(one).collect::<Vec<_>>(), "totals": totals })
}

/// Whether a VM that should be backed up cannot be.
fn is_refused(plan: &VmPlan) -> bool {
    match &plan.planned {
        PlannedVm::Excluded => false,
        PlannedVm::NoFolder(_) | PlannedVm::Unknown(_) => true,
        PlannedVm::Backup { preview, .. } => preview.refused.is_some(),
    }
}
