//! `--replicate-only` and `--cancel-replication`: the flag between them is a file that the Bash programs know too.

use std::fs;
use std::io::Write;
use std::path::Path;

use jiff::Zoned;
use serde_json::json;
use vmstream::fresh;

use super::arguments::Scope;
use super::context::{Context, start_log};
use super::failed::{Failed, Known, root_error, session_error};
use super::opened::{BACKUP_LOG, Opened};
use super::replication::replication;
use super::say::tell;
use super::session_record::SessionRecord;
use crate::session::check_backup_path;
use vmconfig::{Feature, Unserved};
use vmreport::{Exit, Replication, SessionKind, SessionStatus, draw};
use vmstore::{HostDir, Root, StateDir};

/// Asks a replication to end. Works whether or not one is under way.
pub(super) fn cancel(context: &Context) -> Result<Exit, Failed> {
    let backup_path = context.loaded.settings.backup_path.as_path();
    check_backup_path(backup_path).map_err(session_error)?;
    let root = Root::look(backup_path, &HostDir::of(&context.environment)).map_err(root_error)?;
    if let Some(refusal) = root.refusal() {
        return Err(root_error(refusal));
    }
    let state = StateDir::of(backup_path);
    let flag = state.cancel_flag();
    if context.arguments.dry_run {
        let text =
            format!("[DRY-RUN] Would ask a replication to end, with the flag file\n  {}\n", flag.display());
        return Ok(asked(context, &flag, &text));
    }
    let now = Zoned::now().strftime("%Y-%m-%d %H:%M:%S");
    // Only root comes here.
    let line = format!("{now} PID={} user=root\n", std::process::id());
    let written = state.make().and_then(|()| fresh::create(&flag, 0o640)?.write_all(line.as_bytes()));
    written.map_err(|error| {
        Failed::new(Exit::Storage, format!("Cannot write flag file {}: {error}", flag.display()))
    })?;
    let text = format!(
        "Replication is asked to end.\n  Flag file: {}\nA replication that is under way ends within about 30 seconds.\n",
        flag.display()
    );
    Ok(asked(context, &flag, &text))
}

/// Says what was done, or would be.
fn asked(context: &Context, flag: &Path, text: &str) -> Exit {
    if context.arguments.json {
        let content = json!({ "dry_run": context.arguments.dry_run, "flag_file": flag });
        context.call.answer("vmbackup/cancel-replication/1", Exit::Ok, &content);
    } else {
        tell(text);
    }
    Exit::Ok
}

/// Replicates without a backup.
pub(super) fn replicate_only(context: &Context, scope: Scope) -> Result<Exit, Failed> {
    let log = start_log(context, None);
    let marker = format!("REPLICATE-ONLY MODE START (scope={})", scope.as_str());
    let opened = Opened::begin(context, log, BACKUP_LOG, &marker)?;
    opened.confirm_lock()?;
    let begin = || SessionRecord::begin(context, &opened, SessionKind::ReplicateOnly);
    let written = (!context.arguments.dry_run).then(begin);
    if written.is_some() {
        take_flag(&opened.state);
    }
    // Destinations that are configured and cannot be served must not look like success.
    let configured: Vec<&Unserved> =
        context.loaded.unserved.iter().filter(|of| is_in(scope, of.feature)).collect();
    let joined =
        |part: fn(&Unserved) -> &str| configured.iter().map(|of| part(of)).collect::<Vec<_>>().join("; ");
    let Replication { local, cloud } = replication(&context.loaded.unserved);
    let local = (scope != Scope::Cloud).then_some(local);
    let cloud = (scope != Scope::Local).then_some(cloud);
    let lines = draw::replication_only(scope.as_str(), local, cloud);
    lines.iter().for_each(|line| tracing::info!(file_only = true, "{line}"));
    let (exit, said) = if configured.is_empty() {
        (Exit::Ok, "No replication destination is configured: nothing was replicated".to_owned())
    } else {
        (Exit::General, format!("{}: nothing was replicated", joined(|of| &of.said)))
    };
    if let Some(written) = written {
        let status = if exit == Exit::Ok { SessionStatus::Success } else { SessionStatus::Failed };
        written.end(status);
    }
    // Before the block that ends the session in the log: nothing follows that.
    match exit {
        Exit::Ok => tracing::info!("{said}"),
        _ => tracing::error!(file_only = true, "{said}"),
    }
    opened.end(&format!("REPLICATE-ONLY MODE END (exit={})", exit.code()), &[], &said);
    if exit != Exit::Ok {
        return Err(Failed::new(exit, said).fix(joined(|of| &of.fix)).known(Known::InLog));
    }
    if context.arguments.json {
        let content = json!({ "scope": scope.as_str(), "dry_run": context.arguments.dry_run, "local": local, "cloud": cloud });
        context.call.answer("vmbackup/replicate/1", exit, &content);
    }
    Ok(exit)
}

fn is_in(scope: Scope, feature: Feature) -> bool {
    match feature {
        Feature::LocalReplication => scope != Scope::Cloud,
        Feature::CloudReplication => scope != Scope::Local,
        Feature::Mail => false,
    }
}

/// Takes away the flag that asks a replication to end: it is meant for one, and not for the next.
pub(super) fn take_flag(state: &StateDir) {
    if fs::remove_file(state.cancel_flag()).is_ok() {
        tracing::warn!("The flag that asks a replication to end was set; it is removed");
    }
}
