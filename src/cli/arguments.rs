//! The command line as the Bash program reads it: from left to right, the last of equal options counts, and what does
//! not go together is refused in a fixed order. Scripts rely on which error comes first, so no parser library fits.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Used when no instance is named.
const DEFAULT_INSTANCE: &str = "default";
/// Where the configurations are.
const DEFAULT_CONFIG_DIR: &str = "/opt/vmbackup/config";

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Back up.
    Run,
    /// Delete backups, or list them. `None` when no target was named.
    Prune(Option<String>),
    /// Replicate without a backup.
    ReplicateOnly(Scope),
    /// Ask a replication that is under way to end.
    CancelReplication,
    /// Tell how each VM stands.
    Status,
    /// Look whether backups can work.
    Check,
    /// Write `vmbackup.toml` from the Bash files.
    MigrateConfig,
    /// Make the tree at the backup path this host's.
    Init,
}

/// Which replications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Local,
    Cloud,
    Both,
}

impl Scope {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Cloud => "cloud",
            Self::Both => "both",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Local, Self::Cloud, Self::Both].into_iter().find(|scope| scope.as_str() == word)
    }
}

/// A mode and what modifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arguments {
    pub(super) mode: Mode,
    /// Only these VMs; may be a list with commas.
    pub(super) vm: Option<String>,
    /// Change nothing.
    pub(super) dry_run: bool,
    /// Results as JSON on standard output.
    pub(super) json: bool,
    /// Do not ask before deleting, or before taking a tree.
    pub(super) yes: bool,
    pub(super) instance: String,
    pub(super) config_dir: PathBuf,
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Help,
    Version,
    /// No mode was named: a short help.
    Usage,
    Mode(Arguments),
}

/// Why the command line makes no sense, without the leading `Error: `; may have a second line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UsageError(pub(super) String);

/// The options that were named.
#[derive(Default)]
struct Named {
    run: bool,
    prune: Option<Option<String>>,
    replicate: Option<Scope>,
    cancel: bool,
    status: bool,
    check: bool,
    migrate: bool,
    init: bool,
    vm: Option<String>,
    dry_run: bool,
    json: bool,
    yes: bool,
    instance: Option<String>,
    config_dir: Option<String>,
}

/// Reads the words behind the program's name. Pure: `environment` stands for the process environment.
pub(super) fn parse(
    words: impl IntoIterator<Item = String>,
    environment: &BTreeMap<String, String>,
) -> Result<Asked, UsageError> {
    let mut words = words.into_iter().peekable();
    let mut named = Named::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--help" | "-h" => return Ok(Asked::Help),
            "--version" => return Ok(Asked::Version),
            "--run" => named.run = true,
            "--prune" => named.prune = Some(words.next_if(|word| is_value(word))),
            "--replicate-only" => {
                named.replicate = Some(match words.next_if(|word| !word.starts_with('-')) {
                    None => Scope::Both,
                    Some(scope) => Scope::parse(&scope).ok_or_else(|| bad_scope(&scope))?,
                });
            }
            "--cancel-replication" => named.cancel = true,
            "--status" => named.status = true,
            "--check" => named.check = true,
            "--migrate-config" => named.migrate = true,
            "--init" => named.init = true,
            "--vm" => named.vm = Some(words.next_if(|word| is_value(word)).ok_or_else(no_vm)?),
            "--dry-run" => named.dry_run = true,
            "--json" => named.json = true,
            "--yes" | "-y" => named.yes = true,
            // Takes any word, also one that looks like an option, and none at all.
            "--config-instance" => set(&mut named.instance, words.next()),
            "--config-dir" => set(&mut named.config_dir, words.next()),
            other => match other.split_once('=') {
                Some(("--config-instance", name)) => set(&mut named.instance, Some(name.to_owned())),
                Some(("--config-dir", dir)) => set(&mut named.config_dir, Some(dir.to_owned())),
                _ => return Err(unknown(other)),
            },
        }
    }
    named.settle(environment)
}

/// A word that can be the value of an option.
fn is_value(word: &str) -> bool {
    !word.is_empty() && !word.starts_with('-')
}

/// An empty value leaves things as they are.
fn set(option: &mut Option<String>, value: Option<String>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        *option = Some(value);
    }
}

fn unknown(word: &str) -> UsageError {
    UsageError(format!("Unknown option: {word}\nSee what there is: vmbackup --help"))
}

fn bad_scope(word: &str) -> UsageError {
    UsageError(format!("--replicate-only takes local, cloud or both, not '{word}'"))
}

fn no_vm() -> UsageError {
    UsageError("--vm needs the name of a VM, or several with commas: --vm web,db".to_owned())
}

impl Named {
    /// The first rule that is broken, in this order.
    fn conflict(&self) -> Option<String> {
        let (prune, replicate) = (self.prune.is_some(), self.replicate.is_some());
        let vm = self.vm.as_deref();
        let own = [
            (self.status, "--status"),
            (self.check, "--check"),
            (self.migrate, "--migrate-config"),
            (self.init, "--init"),
        ];
        let modes = [
            (self.run, "--run"),
            (prune, "--prune"),
            (replicate, "--replicate-only"),
            (self.cancel, "--cancel-replication"),
        ];
        let both = |one: &str, other: &str| format!("{one} and {other} cannot be used together");
        let rules = [
            (prune && replicate, both("--prune", "--replicate-only")),
            (replicate && vm.is_some(), both("--replicate-only", "--vm")),
            (
                prune && vm.is_some_and(|vm| vm.contains(',')),
                "--prune works on one VM at a time: --vm takes a single name here".to_owned(),
            ),
            (self.cancel && prune, both("--cancel-replication", "--prune")),
            (self.cancel && replicate, both("--cancel-replication", "--replicate-only")),
            (self.cancel && vm.is_some(), both("--cancel-replication", "--vm")),
            (self.run && prune, both("--run", "--prune")),
            (self.run && replicate, both("--run", "--replicate-only")),
            (self.run && self.cancel, both("--run", "--cancel-replication")),
        ];
        if let Some((_, text)) = rules.into_iter().find(|(broken, _)| *broken) {
            return Some(text);
        }
        // The modes that the Bash program does not have: one alone.
        let mut used = own.iter().chain(&modes).filter(|(used, _)| *used).map(|(_, name)| *name);
        if let (true, Some(one), Some(other)) = (own.iter().any(|(used, _)| *used), used.next(), used.next())
        {
            return Some(both(one, other));
        }
        if let Some(vm) = vm.filter(|_| !(self.run || prune || self.status || self.check)) {
            return Some(format!(
                "--vm needs --run, --prune, --status or --check\nFor example: vmbackup --run --vm '{vm}'"
            ));
        }
        let silent = [
            (replicate, "--replicate-only"),
            (self.cancel, "--cancel-replication"),
            (self.migrate, "--migrate-config"),
            (self.init, "--init"),
        ];
        let silent = silent.into_iter().find(|(used, _)| self.json && *used);
        silent.map(|(_, name)| both(name, "--json"))
    }

    fn settle(self, environment: &BTreeMap<String, String>) -> Result<Asked, UsageError> {
        if let Some(text) = self.conflict() {
            return Err(UsageError(text));
        }
        let mode = match self {
            Self { run: true, .. } => Mode::Run,
            Self { prune: Some(target), .. } => Mode::Prune(target),
            Self { replicate: Some(scope), .. } => Mode::ReplicateOnly(scope),
            Self { cancel: true, .. } => Mode::CancelReplication,
            Self { status: true, .. } => Mode::Status,
            Self { check: true, .. } => Mode::Check,
            Self { migrate: true, .. } => Mode::MigrateConfig,
            Self { init: true, .. } => Mode::Init,
            _ => return Ok(Asked::Usage),
        };
        let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty()).cloned();
        let instance = self.instance.or_else(|| variable("VMBACKUP_INSTANCE"));
        let config_dir = self.config_dir.or_else(|| variable("VMBACKUP_CONFIG_DIR"));
        Ok(Asked::Mode(Arguments {
            mode,
            vm: self.vm,
            dry_run: self.dry_run,
            json: self.json,
            yes: self.yes,
            instance: instance.unwrap_or_else(|| DEFAULT_INSTANCE.to_owned()),
            config_dir: config_dir.unwrap_or_else(|| DEFAULT_CONFIG_DIR.to_owned()).into(),
        }))
    }
}

/// Checks the target of `--prune`, as a word, and whether it needs a VM.
pub(super) fn prune_target<'a>(target: Option<&'a str>, vm: Option<&str>) -> Result<&'a str, UsageError> {
    const TARGETS: &str = "Targets: list, archives, archives:PERIOD, chain:NAME, period:ID, all";
    let target = target.ok_or_else(|| UsageError(format!("--prune needs a target\n{TARGETS}")))?;
    let of_one_vm =
        target == "all" || ["archives:", "chain:", "period:"].iter().any(|kind| target.starts_with(kind));
    match (of_one_vm, vm) {
        (false, _) if !["list", "archives"].contains(&target) => {
            Err(UsageError(format!("--prune does not know the target '{target}'\n{TARGETS}")))
        }
        (true, None) => Err(UsageError(format!(
            "--prune {target} works on one VM: name it\nFor example: vmbackup --prune {target} --vm web"
        ))),
        _ => Ok(target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Asked, String> {
        parse_in(line, &[])
    }

    /// Splits at blanks; `''` stands for an empty word.
    fn parse_in(line: &str, environment: &[(&str, &str)]) -> Result<Asked, String> {
        let words = line.split_whitespace().map(|word| if word == "''" { "" } else { word }.to_owned());
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        super::parse(words, &environment).map_err(|UsageError(text)| text)
    }

    fn arguments(line: &str) -> Arguments {
        match parse(line) {
            Ok(Asked::Mode(arguments)) => arguments,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused_in_a_fixed_order() {
        // Each line breaks the rule that is named, and some also a later one.
        let cases = [
            ("--bogus", "Unknown option: --bogus\nSee what there is: vmbackup --help"),
            ("--run extra", "Unknown option: extra"),
            ("--run ''", "Unknown option: "),
            ("--run --", "Unknown option: --"),
            ("--run=yes", "Unknown option: --run=yes"),
            ("--vm", "--vm needs the name"),
            ("--vm ''", "--vm needs the name"),
            ("--run --vm --dry-run", "--vm needs the name"),
            ("--replicate-only remote", "--replicate-only takes local, cloud or both, not 'remote'"),
            ("--replicate-only '' --prune all", "--replicate-only takes"),
            ("--prune all --replicate-only --vm a,b --run", "--prune and --replicate-only cannot"),
            ("--replicate-only --vm a --run", "--replicate-only and --vm cannot"),
            ("--prune all --vm a,b --cancel-replication", "--prune works on one VM at a time"),
            ("--cancel-replication --prune --vm a", "--cancel-replication and --prune cannot"),
            ("--cancel-replication --replicate-only", "--cancel-replication and --replicate-only cannot"),
            ("--cancel-replication --vm a --run", "--cancel-replication and --vm cannot"),
            ("--run --prune list", "--run and --prune cannot"),
            ("--run --replicate-only local", "--run and --replicate-only cannot"),
            ("--run --cancel-replication", "--run and --cancel-replication cannot"),
            ("--status --check", "--status and --check cannot"),
            ("--run --status", "--status and --run cannot"),
            ("--migrate-config --prune list", "--migrate-config and --prune cannot"),
            (
                "--vm web",
                "--vm needs --run, --prune, --status or --check\nFor example: vmbackup --run --vm 'web'",
            ),
            ("--vm web --dry-run --migrate-config", "--vm needs --run"),
            ("--replicate-only --json", "--replicate-only and --json cannot"),
            ("--cancel-replication --json", "--cancel-replication and --json cannot"),
            ("--migrate-config --json", "--migrate-config and --json cannot"),
            ("--init --json", "--init and --json cannot"),
            ("--run --init", "--init and --run cannot"),
            ("--init --vm web", "--vm needs --run"),
        ];
        for (line, want) in cases {
            let said = parse(line).expect_err(line);
            assert!(said.starts_with(want), "{line}: {said}");
        }
    }

    #[test]
    fn words_are_read_from_left_to_right() {
        assert_eq!(parse("--help --bogus"), Ok(Asked::Help));
        assert_eq!(parse("--run --prune x -h"), Ok(Asked::Help));
        assert_eq!(parse("--version --bogus"), Ok(Asked::Version));
        assert!(parse("--bogus --help").is_err());
        assert!(parse("--vm --help").is_err());
        for line in ["", "--dry-run", "-y", "--yes --json", "--config-instance x"] {
            assert_eq!(parse(line), Ok(Asked::Usage), "{line}");
        }
        assert_eq!(arguments("--run --vm a --vm b").vm.as_deref(), Some("b"));
        assert_eq!(arguments("--prune list --prune all").mode, Mode::Prune(Some("all".into())));
        assert_eq!(
            arguments("--replicate-only local --replicate-only").mode,
            Mode::ReplicateOnly(Scope::Both)
        );
    }

    #[test]
    fn every_mode_takes_its_modifiers() {
        let base = arguments("--run");
        assert_eq!((base.dry_run, base.json, base.yes, base.vm.clone()), (false, false, false, None));
        let cases = [
            ("--run --dry-run", Arguments { dry_run: true, ..base.clone() }),
            ("--run -y", Arguments { yes: true, ..base.clone() }),
            ("--run --vm a,b --json", Arguments { vm: Some("a,b".into()), json: true, ..base.clone() }),
            ("--prune --dry-run", Arguments { mode: Mode::Prune(None), dry_run: true, ..base.clone() }),
            ("--replicate-only", Arguments { mode: Mode::ReplicateOnly(Scope::Both), ..base.clone() }),
            ("--replicate-only cloud", Arguments { mode: Mode::ReplicateOnly(Scope::Cloud), ..base.clone() }),
            (
                "--cancel-replication --dry-run",
                Arguments { mode: Mode::CancelReplication, dry_run: true, ..base.clone() },
            ),
            (
                "--status --json --vm a",
                Arguments { mode: Mode::Status, json: true, vm: Some("a".into()), ..base.clone() },
            ),
            ("--check --vm a", Arguments { mode: Mode::Check, vm: Some("a".into()), ..base.clone() }),
            (
                "--migrate-config --dry-run",
                Arguments { mode: Mode::MigrateConfig, dry_run: true, ..base.clone() },
            ),
            ("--init --yes", Arguments { mode: Mode::Init, yes: true, ..base.clone() }),
        ];
        for (line, want) in cases {
            assert_eq!(arguments(line), want, "{line}");
        }
    }

    #[test]
    fn the_instance_is_named_in_both_forms_or_by_the_environment() {
        let environment = [("VMBACKUP_INSTANCE", "of-env"), ("VMBACKUP_CONFIG_DIR", "/of-env")];
        let cases = [
            ("--run --config-instance x", "x"),
            ("--run --config-instance=x", "x"),
            ("--config-instance --run --run", "--run"),
            ("--run --config-instance x --config-instance ''", "x"),
            ("--run --config-instance ''", "default"),
            ("--run --config-instance=", "default"),
            ("--run --config-instance", "default"),
        ];
        for (line, want) in cases {
            assert_eq!(arguments(line).instance, want, "{line}");
            let Ok(Asked::Mode(with_environment)) = parse_in(line, &environment) else { panic!("{line}") };
            let want = if want == "default" { "of-env" } else { want };
            assert_eq!(with_environment.instance, want, "{line}");
            assert_eq!(with_environment.config_dir, PathBuf::from("/of-env"));
        }
        assert_eq!(arguments("--run").config_dir, PathBuf::from("/opt/vmbackup/config"));
        assert_eq!(arguments("--run --config-dir /x").config_dir, PathBuf::from("/x"));
    }

    #[test]
    fn a_prune_target_is_known_and_has_its_vm() {
        for (target, vm, want) in [
            (None, None, Err("--prune needs a target")),
            (Some("everything"), None, Err("--prune does not know the target 'everything'")),
            (Some("period"), Some("a"), Err("--prune does not know")),
            (Some("all"), None, Err("--prune all works on one VM")),
            (Some("period:202611"), None, Err("--prune period:202611 works on one VM")),
            (Some("archives:202611"), None, Err("--prune archives:202611 works on one VM")),
            (Some("chain:chain-2026-11-22"), None, Err("--prune chain:chain-2026-11-22 works on one VM")),
            (Some("list"), None, Ok("list")),
            (Some("archives"), None, Ok("archives")),
            (Some("archives"), Some("a"), Ok("archives")),
            (Some("chain:x"), Some("a"), Ok("chain:x")),
            (Some("all"), Some("a"), Ok("all")),
        ] {
            match (prune_target(target, vm), want) {
                (Ok(found), Ok(want)) => assert_eq!(found, want),
                (Err(UsageError(said)), Err(want)) => assert!(said.starts_with(want), "{said}"),
                (found, want) => panic!("{target:?} {vm:?}: {found:?}, not {want:?}"),
            }
        }
    }
}
