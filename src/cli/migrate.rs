//! `--migrate-config`: writes `vmbackup.toml` from the Bash files of an instance.

use std::path::PathBuf;

use serde_json::json;

use super::context::Context;
use super::failed::Failed;
use super::say::tell;
use vmconfig::{MigrateError, Migration};
use vmreport::Exit;
use vmstream::causes::with_causes;

pub(super) fn migrate(context: &Context) -> Result<Exit, Failed> {
    let arguments = &context.arguments;
    let failed = |error: MigrateError| {
        let exit =
            if matches!(error, MigrateError::Write { .. }) { Exit::Storage } else { Exit::Configuration };
        Failed::new(exit, with_causes(&error))
    };
    let migration =
        Migration::plan(&arguments.config_dir, &arguments.instance, &context.environment).map_err(failed)?;
    if !arguments.dry_run {
        migration.execute().map_err(failed)?;
    }
    if arguments.json {
        let kept = |(from, to): &(PathBuf, PathBuf)| json!({ "from": from, "to": to });
        let kept: Vec<_> = migration.kept.iter().map(kept).collect();
        let content = json!({
            "dry_run": arguments.dry_run,
            "toml_file": migration.toml_file,
            "toml": migration.toml,
            "kept": kept,
        });
        context.call.answer("vmbackup/migrate-config/1", Exit::Ok, &content);
        return Ok(Exit::Ok);
    }
    if arguments.dry_run {
        tell(&migration.toml);
        return Ok(Exit::Ok);
    }
    let mut text = format!("Written: {}\n", migration.toml_file.display());
    for (from, to) in &migration.kept {
        text += &format!("Kept: {} as {}\n", from.display(), to.display());
    }
    text += "vmbackup.conf keeps the line BACKUP_PATH, which restore scripts look for. Look at the result: vmbackup --check\n";
    tell(&text);
    Ok(Exit::Ok)
}
