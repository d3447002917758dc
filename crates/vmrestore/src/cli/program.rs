//! The program `vmrestore`: what the words on its command line lead to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jiff::Zoned;
use vmreport::Exit;
use vmstream::causes::with_causes;
use vmstream::text;

use super::asked::{Asked, Mode, Options, Vms};
use super::call::Call;
use super::failed::Failed;
use super::say::tell;
use super::{command, dump, list, points, read, signals, verify};
use crate::resolve::{VmName, known_vms};

/// Reads the arguments and does what they say.
pub fn main() -> ExitCode {
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    // A variable that is not text can be no setting.
    let variables = std::env::vars_os();
    let environment: BTreeMap<String, String> = variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    signals::listen();
    let call = Call::begin(words.iter().any(|word| word == "--json"));
    let exit = answer(words, &environment, &call).unwrap_or_else(|failed| {
        call.fail(&failed);
        failed.exit
    });
    call.end(exit);
    exit.into()
}

fn answer(words: Vec<String>, environment: &BTreeMap<String, String>, call: &Call) -> Result<Exit, Failed> {
    match read::parse(words.clone(), environment)? {
        Asked::Help | Asked::Usage => Ok(told(&command::help())),
        Asked::Version => Ok(told(&command::version())),
        Asked::Mode(options) => start(&words, &options, environment, call),
    }
}

fn start(
    words: &[String],
    options: &Options,
    environment: &BTreeMap<String, String>,
    call: &Call,
) -> Result<Exit, Failed> {
    let root = backup_path(options, environment, call)?;
    let period = options.period.as_deref();
    let logs =
        |mode: &str, label: &str| call.logs(label, environment, head(words, mode, label, &root, options));
    match &options.mode {
        Mode::List => list::list(&root, call),
        Mode::Points(vm) => points::list(&root, vm, period, call),
        Mode::Verify { vms, deep } => {
            let vms = match vms {
                Vms::Named(vms) => vms.clone(),
                Vms::All => known_vms(&root)?.into_iter().map(VmName::of_folder).collect(),
            };
            logs("verify", &label(&vms));
            verify::verify(&root, &vms, period, *deep, call)
        }
        Mode::Dump(vm) => {
            logs("dump", &vm.name);
            dump::dump(&root, vm, period, call)
        }
    }
}

/// What a log is called after.
fn label(vms: &[VmName]) -> String {
    match vms {
        [vm] => vm.name.clone(),
        vms => text::count(vms.len(), "vm").replace(' ', "-"),
    }
}

/// What a log begins with.
fn head(words: &[String], mode: &str, label: &str, root: &Path, options: &Options) -> Vec<String> {
    let now = Zoned::now().strftime("%Y-%m-%d %H:%M:%S");
    let rows = [
        ("Invocation", format!("vmrestore {}", words.join(" "))),
        ("Mode", mode.to_owned()),
        ("VM", label.to_owned()),
        ("Period", options.period.clone().unwrap_or_else(|| "auto".to_owned())),
        ("Backup Path", root.display().to_string()),
    ];
    let first = format!("vmrestore v{} — {now}", env!("CARGO_PKG_VERSION"));
    let rows = rows.into_iter().map(|(name, value)| format!("{:<13} {value}", format!("{name}:")));
    std::iter::once(first).chain(rows).collect()
}

/// The backup path that was named, else that of the configuration, which is read for nothing else.
fn backup_path(
    options: &Options,
    environment: &BTreeMap<String, String>,
    call: &Call,
) -> Result<PathBuf, Failed> {
    if let Some(path) = &options.backup_path {
        return Ok(path.components().collect());
    }
    call.of_instance(&options.instance);
    let loaded = vmconfig::load(&options.config_dir, &options.instance, environment).map_err(|error| {
        let said = with_causes(&error);
        Failed::new(
            Exit::Configuration,
            format!("{said}. Without a configuration, name the backups with --backup-path"),
        )
    })?;
    Ok(loaded.settings.backup_path.as_path().to_owned())
}

fn told(text: &str) -> Exit {
    tell(text);
    Exit::Ok
}
