//! The settings and the findings, for people and for programs.

use std::cmp::Reverse;

use serde_json::{Value, json};

use super::finding::{Finding, Grade};
use crate::cli::context::Context;
use crate::cli::plan;
use crate::session::VmPlan;
use vmconfig::{KEYS, Key};
use vmstream::text::aligned;

/// The findings, what is bad first, and the settings where they are asked for.
pub(super) fn text(context: &Context, findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| Reverse(finding.grade));
    for finding in sorted {
        let mark = match finding.grade {
            Grade::Good => "ok  ",
            Grade::Look => "look",
            Grade::Bad => "BAD ",
        };
        text += &format!("{mark}  {}: {}\n", finding.about, finding.said);
        for detail in &finding.details {
            text += &format!("        {detail}\n");
        }
        if let Some(fix) = &finding.fix {
            text += &format!("      → {fix}\n");
        }
    }
    let count = |grade: Grade| findings.iter().filter(|finding| finding.grade == grade).count();
    let (bad, look) = (count(Grade::Bad), count(Grade::Look));
    text += &match (bad, look) {
        (0, 0) => "\nBackups can work.\n".to_owned(),
        (0, look) => format!("\nBackups can work; {look} finding(s) deserve a look.\n"),
        (bad, _) => format!("\n{bad} finding(s) keep backups from working.\n"),
    };
    if context.arguments.settings {
        let rows = aligned(&settings_rows(context));
        return text + &format!("\nSettings of {}:\n\n{rows}", context.loaded.dir.display());
    }
    text + "Each setting, and where it comes from: vmbackup --check --settings\n"
}

/// The same as one value, with the plan of the next run.
pub(super) fn json(context: &Context, findings: &[Finding], plans: &[VmPlan]) -> Value {
    let setting = |[key, value, source]: [String; 3]| json!({ "key": key, "value": value, "source": source });
    let settings: Vec<_> = settings_rows(context).into_iter().map(setting).collect();
    let count = |grade: Grade| findings.iter().filter(|finding| finding.grade == grade).count();
    let totals = json!({ "good": count(Grade::Good), "look": count(Grade::Look), "bad": count(Grade::Bad) });
    json!({ "findings": findings, "totals": totals, "settings": settings, "plan": plan::json(plans) })
}

/// Key, value and where that came from.
fn settings_rows(context: &Context) -> Vec<[String; 3]> {
    let loaded = &context.loaded;
    let source = |name: &str| loaded.sources.get(name).map_or_else(String::new, ToString::to_string);
    let row = |name: &str, value: &str| [name.to_owned(), value.to_owned(), source(name)];
    let settings = &loaded.settings;
    let row_of = |key: &Key| match key.name {
        // The older key chooses lz4 where this one is not set.
        "COMPRESSION" if settings.compression.method != settings.compression_method => {
            [key.name, "lz4", &source("VIRTNBD_COMPRESS_LEVEL")].map(str::to_owned)
        }
        name => row(name, settings.text(name).unwrap_or_default()),
    };
    let mut rows: Vec<_> = KEYS.iter().map(row_of).collect();
    for (vm, policy) in &loaded.settings.vm_policies {
        rows.push(row(&format!("VM_POLICY[{vm}]"), policy.as_str()));
    }
    for (vm, consistency) in &loaded.settings.vm_consistency {
        rows.push(row(&format!("VM_CONSISTENCY[{vm}]"), consistency.as_str()));
    }
    for (vm, tripwire) in &loaded.settings.vm_tripwire {
        rows.push(row(&format!("VM_TRIPWIRE[{vm}]"), if tripwire.on { "yes" } else { "no" }));
    }
    for (vm, disks) in &loaded.settings.vm_exclude_disks {
        rows.push(row(&format!("VM_EXCLUDE_DISKS[{vm}]"), &disks.as_slice().join(",")));
    }
    for (number, pattern) in loaded.settings.exclude_patterns.iter().enumerate() {
        rows.push(row(&format!("EXCLUDE_PATTERNS[{number}]"), pattern));
    }
    rows
}
