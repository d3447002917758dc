//! What a run would do, for people and for scripts.

use serde_json::{Value, json};

use super::summary::level;
use crate::engine::Preview;
use crate::policy::Decision;
use crate::retention::{Fate, Rule};
use crate::session::{Outlook, VmPlan};

/// The plan of a run, for people.
pub(super) fn text(plans: &[VmPlan]) -> String {
    let mut text = String::from("[DRY-RUN] Nothing is changed. A run now would do this:\n");
    for plan in plans {
        text += &format!("  {}: {}\n", plan.domain, of_vm(plan));
        if let Outlook::Backup { place, preview, retention } = &plan.outlook {
            text += &format!("      policy {} ({}), period {}\n", plan.policy, plan.chosen_by, place.period);
            for repair in &preview.plan.repairs {
                text += &format!("      first: {repair}\n");
            }
            for note in &preview.plan.notes {
                text += &format!("      {note}\n");
            }
            for verdict in retention.iter().flat_map(|plan| &plan.verdicts) {
                if let Fate::Delete { rule, .. } = verdict.fate {
                    let period = verdict.period.as_str();
                    text += &format!("      then: period {period} is deleted ({})\n", because(rule));
                }
            }
            for skipped in &preview.skipped {
                text += &format!("      disk {} left out: {}\n", skipped.target, skipped.reason);
            }
        }
    }
    text
}

/// What a run would do to one VM, as one line.
pub(super) fn of_vm(plan: &VmPlan) -> String {
    match &plan.outlook {
        Outlook::Excluded => format!("not backed up: policy never ({})", plan.chosen_by),
        Outlook::NoFolder(error) => format!("cannot: {error}"),
        Outlook::Unknown(error) => format!("cannot: {error}"),
        Outlook::Backup { preview, .. } => line(preview),
    }
}

fn because(rule: Rule) -> String {
    match rule {
        Rule::Count { limit } => format!("{limit} are kept"),
        Rule::Orphan { max_age_days } => {
            format!("left by another policy, {max_age_days} days old or more")
        }
    }
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
        match &plan.outlook {
            Outlook::Excluded => value["plan"] = json!("excluded"),
            Outlook::NoFolder(error) => value["error"] = json!(error.to_string()),
            Outlook::Unknown(error) => value["error"] = json!(error.to_string()),
            Outlook::Backup { place, preview, retention } => {
                value["period"] = json!(place.period);
                value["dir"] = json!(place.dir);
                value["plan"] = json!(preview.plan);
                value["why"] = json!(preview.plan.why.to_string());
                value["retention"] = json!(retention);
                value["leftovers"] = json!(preview.leftovers);
                if let Some(error) = &preview.refused {
                    value["error"] = json!(error.to_string());
                }
            }
        }
        value
    };
    json!({ "dry_run": true, "vms": plans.iter().map(one).collect::<Vec<_>>() })
}
