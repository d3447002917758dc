//! The program `vmbackup`: what the words on its command line lead to.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::rc::Rc;

use rustix::fs::Mode as FileMode;

use super::arguments::{self, Arguments, Asked, Mode};
use super::call::Call;
use super::context::Context;
use super::doors::{self, Doors};
use super::failed::{Failed, Known};
use super::say::{LAST_LINES_LIMIT, tell};
use super::{check, help, init, migrate, prune, replicate, run, status};
use crate::clock::Clock;
use crate::engine::claims::guard::GUARD_ARGUMENT;
use crate::engine::recovery::guard;
use crate::log;
use vmreport::Exit;
use vmstream::causes::with_causes;

/// Reads the arguments and does what they say.
pub fn main() -> ExitCode {
    // First of all: a program that is started later gets no file that is opened from here on.
    vmprogram::begin(vmhost::own_files);
    let mut words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).peekable();
    if words.peek().is_some_and(|word| word == GUARD_ARGUMENT) {
        guard::run_guard(&words.nth(1).unwrap_or_default());
        return ExitCode::SUCCESS;
    }
    if words.peek().is_some_and(|word| vmprogram::answer(word)) {
        return ExitCode::SUCCESS;
    }
    let paths = std::env::args_os().skip(2).map(Into::into);
    if let Some(code) = words.peek().and_then(|word| vmstore::snapshot::answer(word.as_ref(), paths)) {
        return code;
    }
    // A variable that is not text can be no setting.
    let variables = std::env::vars_os();
    let environment =
        variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let (words, environment): (Vec<String>, BTreeMap<_, _>) = (words.collect(), environment.collect());
    let doors = Doors::of(&environment, doors::BUILT_IN);
    let clock = doors.as_ref().map_or_else(|_| Clock::system(), |doors| doors.clock);
    let call = Rc::new(Call::begin(words.iter().any(|word| word == "--json"), clock));
    match doors.and_then(|doors| answer(words, environment, doors, &call)) {
        Ok(exit) => {
            log::flush(LAST_LINES_LIMIT);
            exit.into()
        }
        Err(failed) => {
            call.fail(&failed);
            failed.exit.into()
        }
    }
}

/// Does what the words ask for. A program without doors has refused a variable that would open one, whatever is asked.
fn answer(
    words: Vec<String>,
    environment: BTreeMap<String, String>,
    doors: Doors,
    call: &Rc<Call>,
) -> Result<Exit, Failed> {
    match arguments::parse(words, &environment)? {
        Asked::Help => Ok(told(&arguments::help())),
        Asked::Version => Ok(told(&help::version())),
        Asked::Usage => Ok(told(&help::usage())),
        Asked::Mode(arguments) => start(arguments, environment, doors, call),
    }
}

fn start(
    arguments: Arguments,
    environment: BTreeMap<String, String>,
    doors: Doors,
    call: &Rc<Call>,
) -> Result<Exit, Failed> {
    call.of_instance(&arguments.instance);
    // A question is for whoever may read the backups.
    if arguments.mode != Mode::Status && !rustix::process::geteuid().is_root() {
        let text = "vmbackup must be run as root: disks, guests and backups are not for everybody. Members of group backup may ask for --status. Try: sudo vmbackup …";
        return Err(Failed::new(Exit::General, text).fix("sudo vmbackup …".to_owned()));
    }
    // What is written is for root and the group of the backup path only.
    rustix::process::umask(FileMode::from_raw_mode(0o027));
    let loaded = vmconfig::load(&arguments.config_dir, &arguments.instance, &environment)
        .map_err(|e| Failed::new(Exit::Configuration, with_causes(&e)))?;
    let Doors { clock, fail_points } = doors;
    let context = Context { arguments, loaded, clock, fail_points, environment, call: Rc::clone(call) };
    match &context.arguments.mode {
        Mode::Run => run::run(&context),
        Mode::CancelReplication => replicate::cancel(&context),
        Mode::ReplicateOnly(scope) => replicate::replicate_only(&context, *scope),
        Mode::Prune(target) => {
            let target = arguments::prune_target(target.as_deref(), context.arguments.vm.as_deref());
            prune::prune(&context, target.map_err(|error| Failed::from(error).known(Known::AsResult))?)
        }
        Mode::Status => status::status(&context),
        Mode::Check => check::check(&context),
        Mode::MigrateConfig => migrate::migrate(&context),
        Mode::Init => init::init(&context),
    }
}

fn told(text: &str) -> Exit {
    tell(text);
    Exit::Ok
}
