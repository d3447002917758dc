//! What a dry run says of the host's own configuration.

use serde_json::{Value, json};

use crate::session::HostOutcome;
use vmhost::host_config::Plan;

/// One line on what would be done.
pub(super) fn plan_line(outcome: &HostOutcome<Plan>) -> String {
    match outcome {
        None => "host configuration: not saved (HOST_CONFIG_BACKUP)".to_owned(),
        Some(Err(error)) => format!("host configuration: cannot: {error}"),
        Some(Ok(plan)) => {
            let mut line = match plan.unchanged_since() {
                Some(file) => format!("host configuration: unchanged since {}", file.display()),
                None => format!("host configuration: a new version ({})", plan.why),
            };
            for what in &plan.trouble {
                line += &format!("\n      left out: {what}");
            }
            for version in plan.removes() {
                line += &format!("\n      then: version {version} is deleted");
            }
            line
        }
    }
}

/// What would be done, for scripts.
pub(super) fn plan_json(outcome: &HostOutcome<Plan>) -> Value {
    match outcome {
        Some(Ok(plan)) => json!({
            "status": if plan.unchanged_since().is_some() { "unchanged" } else { "save" },
            "why": plan.why.to_string(),
            "left_out": plan.left_out,
            "removes": plan.removes().collect::<Vec<_>>(),
        }),
        Some(Err(error)) => json!({ "status": "failed", "error": error.to_string() }),
        None => json!({ "status": "off" }),
    }
}
