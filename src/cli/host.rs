//! What a run says of the host's own configuration.

use serde_json::{Value, json};

use crate::session::HostOutcome;
use vmhost::host_config::{HostConfigError, Plan, Saved};
use vmstream::text::size;

/// One line on what was done.
pub(super) fn line(outcome: &HostOutcome<Saved>) -> String {
    match outcome {
        None => "Host configuration: not saved (HOST_CONFIG_BACKUP)".to_owned(),
        Some(Err(error)) => format!("Host configuration: NOT SAVED: {error}"),
        Some(Ok(saved)) => {
            let file = saved.file.display();
            let look = match saved.warnings.len() {
                0 => String::new(),
                count => format!("; {count} warning(s)"),
            };
            if saved.is_new {
                let size = size(saved.file_bytes);
                return format!("Host configuration: saved, {size} in {file} ({}){look}", saved.why);
            }
            format!("Host configuration: unchanged since {file}{look}")
        }
    }
}

/// What was done, for scripts.
pub(super) fn json(outcome: &HostOutcome<Saved>) -> Value {
    match outcome {
        Some(Ok(saved)) => {
            let mut value = serde_json::to_value(saved).unwrap_or_default();
            value["status"] = json!(if saved.is_new { "saved" } else { "unchanged" });
            value
        }
        other => off_or_failed(other.as_ref().and_then(|result| result.as_ref().err())),
    }
}

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
        other => off_or_failed(other.as_ref().and_then(|result| result.as_ref().err())),
    }
}

fn off_or_failed(error: Option<&HostConfigError>) -> Value {
    match error {
        Some(error) => json!({ "status": "failed", "error": error.to_string() }),
        None => json!({ "status": "off" }),
    }
}
