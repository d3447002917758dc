//! `--status`: how each VM stands. Touches nothing, takes no lock, and works for members of group backup too.

use std::io::ErrorKind;

use super::context::{Context, start_log};
use super::failed::{Failed, session_error};
use super::say::tell;
use crate::catalog::Catalog;
use crate::session::{self, SeenDomain, check_backup_path};
use vmconfig::value::MaxAge;
use vmhost::libvirt::Host;
use vmreport::{Exit, NotServed, StatusReport, draw};
use vmstore::{HostDir, Root};

pub(super) fn status(context: &Context) -> Result<Exit, Failed> {
    start_log(context, None);
    let report = look(context)?;
    let exit = if report.has_faults() { Exit::Vm } else { Exit::Ok };
    if context.arguments.json {
        context.call.answer("vmbackup/status/1", exit, &report.answer());
    } else {
        tell(&draw::status(&report, &context.clock.local().time_zone().clone()));
    }
    Ok(exit)
}

fn look(context: &Context) -> Result<StatusReport, Failed> {
    let settings = &context.loaded.settings;
    let backup_path = settings.backup_path.as_path();
    check_backup_path(backup_path).map_err(session_error)?;
    may_be_read(context)?;
    // What tells this host from others is root's to read.
    if rustix::process::geteuid().is_root() {
        let root = Root::look(backup_path, &HostDir::of(&context.environment));
        if let Some(refusal) = root.map_or_else(Some, |root| root.refusal()) {
            tracing::warn!("{refusal}");
        }
    }
    let host = Host::connect_read_only(settings.libvirt_uri.as_str());
    let domains: Option<Vec<SeenDomain>> = match host.and_then(|host| host.domains()) {
        Ok(domains) => Some(domains.iter().map(|domain| SeenDomain::of(domain, settings)).collect()),
        Err(error) => {
            tracing::warn!("{error}. Only what is on disk is shown");
            None
        }
    };
    let catalog = Catalog::peek(backup_path, context.clock.now());
    let list = context.arguments.vm.as_deref();
    let max_age = context.arguments.max_age.or(settings.max_age).map(MaxAge::duration);
    let now = context.clock.local();
    let report = session::status(settings, &catalog, domains.as_deref(), list, max_age, &now);
    let unknown = |name| {
        Failed::new(Exit::Vm, format!("VM {name} is not known to libvirt and has no backups"))
            .fix("see what there is: vmbackup --status".to_owned())
    };
    let of = |of: &vmconfig::Unserved| NotServed { said: of.said.clone(), fix: of.fix.clone() };
    let not_served = context.loaded.unserved.iter().map(of).collect();
    Ok(StatusReport { not_served, ..report.map_err(unknown)? })
}

/// Backups are closed to others: who may not look must not see an empty tree.
fn may_be_read(context: &Context) -> Result<(), Failed> {
    let backup_path = context.loaded.settings.backup_path.as_path();
    match std::fs::read_dir(backup_path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let fix = "sudo vmbackup --status, or make this user a member: usermod -aG backup USER";
            let path = backup_path.display();
            let said = format!(
                "{path} is closed to this user: it is for root and members of group backup. Try: {fix}"
            );
            Err(Failed::new(Exit::General, said).fix(fix.to_owned()))
        }
        _ => Ok(()),
    }
}
