//! `--status`: how each VM stands. Touches nothing.

use serde_json::json;

use super::context::{Context, start_log};
use super::exit::Exit;
use super::failed::{Failed, session_error};
use super::say::tell;
use crate::catalog::Catalog;
use crate::session::{self, Health, VmStanding, check_backup_path};
use vmhost::libvirt::Host;
use vmstore::{HostDir, Root};
use vmstream::text::{aligned, size};

pub(super) fn status(context: &Context) -> Result<Exit, Failed> {
    start_log(context, None);
    let settings = &context.loaded.settings;
    let backup_path = settings.backup_path.as_path();
    check_backup_path(backup_path).map_err(session_error)?;
    let root = Root::look(backup_path, &HostDir::of(&context.environment));
    if let Some(refusal) = root.map_or_else(Some, |root| root.refusal()) {
        tracing::warn!("{refusal}");
    }
    let found = Host::connect(settings.libvirt_uri.as_str()).and_then(|host| host.domains());
    let domains = match found {
        Ok(domains) => Some(domains.iter().map(|domain| domain.name().to_owned()).collect::<Vec<_>>()),
        Err(error) => {
            tracing::warn!("{error}. Only what is on disk is shown");
            None
        }
    };
    let catalog = Catalog::peek(backup_path, context.clock.now());
    let list = context.arguments.vm.as_deref();
    let reports = session::status(settings, &catalog, domains.as_deref(), list, &context.clock.local());
    let unknown =
        |name| Failed::new(Exit::Vm, format!("VM {name} is not known to libvirt and has no backups"));
    let reports = reports.map_err(unknown)?;
    let unserved = &context.loaded.unserved;
    if context.arguments.json {
        let not_served: Vec<_> =
            unserved.iter().map(|of| json!({ "said": of.said, "fix": of.fix })).collect();
        let content = json!({ "vms": reports, "not_served": not_served });
        context.call.answer("vmbackup/status/1", Exit::Ok, &content);
    } else {
        let not_served = unserved.iter().map(|of| format!("\nNot done: {}: {}\n", of.said, of.fix));
        let table = table(&reports, &context.clock.local().time_zone().clone());
        tell(&(table + &not_served.collect::<String>()));
    }
    Ok(Exit::Ok)
}

fn table(reports: &[VmStanding], zone: &jiff::tz::TimeZone) -> String {
    let head = ["VM", "POLICY", "LAST SUCCESS", "NEXT PERIOD", "CHAIN", "POINTS", "SIZE", "HEALTH", "REMARK"];
    let mut rows = vec![head.map(str::to_owned)];
    let dash = || "-".to_owned();
    for report in reports {
        let last =
            report.last_success.map(|at| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M %Z").to_string());
        let chain = report.chain.as_ref();
        let health = match report.health {
            Health::Good => "good",
            Health::Damaged => "DAMAGED",
            Health::NoBackup => "no backup",
        };
        let mut remarks = report.problems.clone();
        if report.defined == Some(false) {
            remarks.push("libvirt does not know it any more".to_owned());
        }
        remarks.extend(report.last_error.as_ref().map(|error| format!("the last try failed: {error}")));
        rows.push([
            report.vm.clone(),
            report.policy.to_string(),
            last.unwrap_or_else(dash),
            report.next_period.map_or_else(dash, |day| day.to_string()),
            chain.map_or_else(dash, |chain| chain.period.clone()),
            chain.map_or_else(dash, |chain| chain.points.to_string()),
            chain.map_or_else(dash, |chain| size(chain.bytes)),
            health.to_owned(),
            remarks.join("; "),
        ]);
    }
    aligned(&rows)
}
