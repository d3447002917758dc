//! Command lines and what they ask for.

use std::path::PathBuf;

use super::asked::{Arguments, Asked, Mode, Scope, UsageError};
use super::command::command;
use super::rules::prune_target;

fn parse(line: &str) -> Result<Asked, String> {
    parse_in(line, &[])
}

/// Splits at blanks; `''` stands for an empty word.
fn parse_in(line: &str, environment: &[(&str, &str)]) -> Result<Asked, String> {
    let words = line.split_whitespace().map(|word| if word == "''" { "" } else { word }.to_owned());
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    super::read::parse(words, &environment).map_err(|UsageError(text)| text)
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
        ("--run --help=3", "Unknown option: --help=3"),
        ("--prune '' --bogus", "Unknown option: \n"),
        ("--vm= --bogus", "--vm needs the name"),
        ("--vm -- --run", "--vm needs the name"),
        ("--run -yx", "Unknown option: -x"),
        ("--vm", "--vm needs the name"),
        ("--vm ''", "--vm needs the name"),
        ("--run --vm --dry-run", "--vm needs the name"),
        ("--replicate-only remote", "--replicate-only takes local, cloud or both, not 'remote'"),
        ("--replicate-only remote --bogus", "--replicate-only takes"),
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
        ("--run --init", "--init and --run cannot"),
        ("--init --vm web", "--vm needs --run"),
        ("--run --max-age 26h", "--max-age needs --status"),
        ("--status --max-age 26", "--max-age takes a whole number of m (minutes), h"),
        ("--status --max-age", "--max-age takes"),
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
    for mode in ["--run", "--status", "--check", "--prune list"] {
        assert_eq!(arguments(&format!("{mode} --vm=-a,b")).vm.as_deref(), Some("-a,b"), "{mode}");
    }
    assert_eq!(arguments("--prune list --prune all").mode, Mode::Prune(Some("all".into())));
    assert_eq!(arguments("--replicate-only local --replicate-only").mode, Mode::ReplicateOnly(Scope::Both));
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
        ("--check --settings", Arguments { mode: Mode::Check, settings: true, ..base.clone() }),
        (
            "--status --max-age 26h",
            Arguments { mode: Mode::Status, max_age: vmconfig::value::Value::parse("26h"), ..base.clone() },
        ),
        ("--check --vm a", Arguments { mode: Mode::Check, vm: Some("a".into()), ..base.clone() }),
        (
            "--migrate-config --dry-run",
            Arguments { mode: Mode::MigrateConfig, dry_run: true, ..base.clone() },
        ),
        ("--init --yes", Arguments { mode: Mode::Init, yes: true, ..base.clone() }),
        ("--init --json", Arguments { mode: Mode::Init, json: true, ..base.clone() }),
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
        ("--config-instance --help --run", "--help"),
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

/// What packages install is made of the same value as the help.
#[test]
fn a_man_page_and_completions_come_of_the_same_command() {
    command().debug_assert();
    let mut page = Vec::new();
    clap_mangen::Man::new(command()).render(&mut page).unwrap();
    let complete = |shell: clap_complete::Shell| {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command(), "vmbackup", &mut script);
        String::from_utf8(script).unwrap()
    };
    let page = String::from_utf8(page).unwrap().replace("\\-", "-");
    let shells = [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish];
    for text in shells.map(complete).iter().chain([&page]) {
        for option in command().get_arguments().filter_map(clap::Arg::get_long) {
            assert!(text.contains(option), "no {option} in {text}");
        }
        assert!(text.contains("cloud"), "the scopes are not in {text}");
    }
}

#[test]
fn the_help_fits_a_terminal() {
    for line in super::help().lines() {
        assert!(line.chars().count() <= vmstream::text::WIDTH, "{line}");
    }
}
