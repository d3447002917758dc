//! Which options go together: what does not is refused in a fixed order, for scripts rely on which error comes first.

use std::collections::BTreeMap;

use super::asked::{Arguments, Asked, Mode, Scope, UsageError};
use vmconfig::value::MaxAge;

/// Used when no instance is named.
const DEFAULT_INSTANCE: &str = "default";
/// Where the configurations are.
const DEFAULT_CONFIG_DIR: &str = "/opt/vmbackup/config";

/// What `--prune` says to a list of VMs.
pub(in crate::cli) const ONE_VM: &str = "--prune works on one VM at a time: --vm takes a single name here";

/// The options that were named.
#[derive(Default)]
pub(super) struct Named {
    pub(super) run: bool,
    pub(super) prune: Option<Option<String>>,
    pub(super) replicate: Option<Scope>,
    pub(super) cancel: bool,
    pub(super) status: bool,
    pub(super) check: bool,
    pub(super) migrate: bool,
    pub(super) init: bool,
    pub(super) vm: Option<String>,
    pub(super) dry_run: bool,
    pub(super) json: bool,
    pub(super) settings: bool,
    pub(super) max_age: Option<MaxAge>,
    pub(super) yes: bool,
    pub(super) instance: Option<String>,
    pub(super) config_dir: Option<String>,
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
            // Alone it may be one name: `prune` knows which VMs there are.
            (prune && vm.is_some_and(|vm| vm.contains(',')) && (self.run || self.cancel), ONE_VM.to_owned()),
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
        if self.settings && !self.check {
            return Some("--settings needs --check".to_owned());
        }
        let needs_status = "--max-age needs --status\nFor example: vmbackup --status --max-age 26h";
        (self.max_age.is_some() && !self.status).then(|| needs_status.to_owned())
    }

    /// The mode that is meant. `environment` names what no option does.
    pub(super) fn settle(self, environment: &BTreeMap<String, String>) -> Result<Asked, UsageError> {
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
            settings: self.settings,
            max_age: self.max_age,
            yes: self.yes,
            instance: instance.unwrap_or_else(|| DEFAULT_INSTANCE.to_owned()),
            config_dir: config_dir.unwrap_or_else(|| DEFAULT_CONFIG_DIR.to_owned()).into(),
        }))
    }
}

/// Checks the target of `--prune`, as a word, and whether it needs a VM.
pub(in crate::cli) fn prune_target<'a>(
    target: Option<&'a str>,
    vm: Option<&str>,
) -> Result<&'a str, UsageError> {
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
