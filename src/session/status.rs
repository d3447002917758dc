//! How each VM stands: from the database and the disk, without touching anything.
//!
//! Must not live here: printing (`cli`). A report is a value; as JSON it is the value itself.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;

use jiff::civil::Date;
use jiff::{Timestamp, Zoned};
use serde::{Serialize, Serializer};

use super::choose::names_in;
use super::settings::policies;
use super::unfinished;
use crate::catalog::{Catalog, ChainFolder, newest_chain};
use vmconfig::Settings;
use vmconfig::value::RotationPolicy;
use vmplan::rotation::{Period, Policies};
use vmstore::{Store, VmDir};

/// Whether the newest chain of a VM can be restored, as far as names and the beginnings of files tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Every point.
    Good,
    /// Not every point.
    Damaged,
    /// There is no chain.
    NoBackup,
}

/// How one VM stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VmStanding {
    pub vm: String,
    /// Whether libvirt knows it. `None` when libvirt was not asked, or did not answer.
    pub defined: Option<bool>,
    pub policy: RotationPolicy,
    /// The last backup that ended well: the database's, or the newest point on disk where that is later or all there is.
    #[serde(serialize_with = "as_text")]
    pub last_success: Option<Timestamp>,
    /// Why the last try failed, if nothing succeeded since.
    pub last_error: Option<String>,
    /// The first day of the next period, on which a new chain begins. `None` under a policy without periods.
    #[serde(serialize_with = "as_text")]
    pub next_period: Option<Date>,
    pub chain: Option<NewestChain>,
    /// Whether that can be restored.
    pub health: Health,
    /// What somebody should look at.
    pub problems: Vec<String>,
}

/// The newest chain of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewestChain {
    pub period: String,
    pub folder: PathBuf,
    /// Its restore points.
    pub points: usize,
    /// Those of them that can be restored.
    pub restorable: usize,
    /// Bytes of their files.
    pub bytes: u64,
}

/// Reports on the VMs that libvirt knows and on those that have backups, by name.
///
/// `domains` are the names that libvirt knows, `None` when it does not answer. `list` is a list with commas; without one all of
/// them are meant.
///
/// # Errors
/// The first name of the list that nobody knows.
pub fn status(
    settings: &Settings,
    catalog: &Catalog,
    domains: Option<&[String]>,
    list: Option<&str>,
    now: &Zoned,
) -> Result<Vec<VmStanding>, String> {
    let vms = known_vms(&Store::open(settings.backup_path.as_path()), domains);
    let exists = |name: &str| vms.iter().any(|vm| vm.name == name);
    let names = list.map(|list| (list, names_in(list, &exists)));
    if let Some((list, names)) = &names {
        let unknown = names.iter().find(|name| !exists(name)).copied();
        // Commas alone name nobody.
        if let Some(unknown) = unknown.or_else(|| names.is_empty().then_some(*list)) {
            return Err(unknown.to_owned());
        }
    }
    let is_chosen = |vm: &&KnownVm| names.as_ref().is_none_or(|(_, names)| names.contains(&vm.name.as_str()));
    let chosen = vms.iter().filter(is_chosen);
    Ok(chosen.map(|vm| report(vm, &policies(settings), catalog, domains, now)).collect())
}

/// A VM, its folder and its newest chain.
struct KnownVm {
    name: String,
    folder: VmDir,
    chain: Option<ChainFolder>,
}

/// VMs that libvirt knows, and those that have backups, by name.
fn known_vms(store: &Store, domains: Option<&[String]>) -> Vec<KnownVm> {
    let mut vms: BTreeMap<String, VmDir> = BTreeMap::new();
    for name in domains.into_iter().flatten() {
        vms.insert(name.clone(), store.vm_of(name));
    }
    let mut chains: BTreeMap<VmDir, ChainFolder> = BTreeMap::new();
    for folder in store.vms().flatten() {
        let Some(chain) = newest_chain(&folder) else { continue };
        if !vms.values().any(|known| *known == folder) {
            vms.insert(chain.vm.clone(), folder.clone());
        }
        chains.insert(folder, chain);
    }
    let known = |(name, folder): (String, VmDir)| {
        let chain = chains.get(&folder).cloned();
        KnownVm { name, folder, chain }
    };
    vms.into_iter().map(known).collect()
}

/// What policy, database and disk know of a VM.
fn report(
    vm: &KnownVm,
    policies: &Policies,
    catalog: &Catalog,
    domains: Option<&[String]>,
    now: &Zoned,
) -> VmStanding {
    let mut problems = Vec::new();
    let recorded = catalog.last_success(&vm.name).unwrap_or_else(|error| {
        problems.push(format!("history is not known: {error}"));
        None
    });
    let recorded_at = recorded.as_ref().and_then(|last| last.at);
    let good = |chain: &ChainFolder| chain.points.iter().rev().find(|point| point.restorable)?.taken;
    let on_disk = vm.chain.as_ref().and_then(good).map(|(at, _)| at);
    let failed = catalog.errors(Some(&vm.name), 1).unwrap_or_default().pop();
    let health = match &vm.chain {
        None => Health::NoBackup,
        Some(chain) if chain.restorable() < chain.points.len() || !chain.damage.is_empty() => Health::Damaged,
        Some(_) => Health::Good,
    };
    match &vm.chain {
        Some(chain) => problems.extend(chain.damage.iter().cloned()),
        None if recorded.is_some() => problems.push(format!(
            "the database has a backup, but {} holds none outside its archives",
            vm.folder.path().display()
        )),
        None => {}
    }
    problems.extend(unfinished::told(&unfinished::find(vm.folder.path())));
    let policy = policies.of(&vm.name).0;
    VmStanding {
        vm: vm.name.clone(),
        defined: domains.map(|domains| domains.contains(&vm.name)),
        policy,
        last_success: recorded_at.max(on_disk),
        last_error: failed.filter(|error| error.at > recorded_at).map(|error| error.message),
        next_period: Period::of(policy, now.date()).map(Period::next_begin),
        chain: vm.chain.as_ref().map(NewestChain::of),
        health,
        problems,
    }
}

impl NewestChain {
    fn of(chain: &ChainFolder) -> Self {
        Self {
            period: chain.period.clone(),
            folder: chain.folder.clone(),
            points: chain.points.len(),
            restorable: chain.restorable(),
            bytes: chain.bytes(),
        }
    }
}

fn as_text<T: Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::catalog::{ErrorCode, Failure, NewSession, VmBackup, VmStatus};
    use vmreport::SessionKind;

    /// The tree and database that the Bash version wrote.
    fn golden() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let tar = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vmbackup-0.5.3-lz4.tar");
        let done = std::process::Command::new("tar").arg("xf").arg(tar).arg("-C").arg(dir.path()).status();
        assert!(done.unwrap().success());
        dir
    }

    fn noon() -> Zoned {
        "2026-11-23T12:00:00[UTC]".parse().unwrap()
    }

    fn ask(base: &Path, catalog: &Catalog, domains: Option<&[String]>) -> Vec<VmStanding> {
        let by_vm = BTreeMap::from([("web 1".to_owned(), RotationPolicy::Weekly)]);
        let policies = Policies { default: RotationPolicy::Monthly, by_vm, exclude: vec![] };
        let vms = known_vms(&Store::open(base), domains);
        vms.iter().map(|vm| report(vm, &policies, catalog, domains, &noon())).collect()
    }

    #[test]
    fn a_vm_stands_as_database_and_disk_say() {
        let tree = golden();
        let at: Timestamp = "2026-11-22T20:02:38Z".parse().unwrap();
        let gold = VmStanding {
            vm: "gold1".into(),
            defined: Some(false),
            policy: RotationPolicy::Monthly,
            last_success: Some(at),
            last_error: None,
            next_period: Some(jiff::civil::date(2026, 12, 1)),
            chain: Some(NewestChain {
                period: "202611".into(),
                folder: tree.path().join("gold1/202611"),
                points: 4,
                restorable: 4,
                bytes: 493_152 + 309_464 + 5369 + 909,
            }),
            health: Health::Good,
            problems: vec![],
        };
        let web = VmStanding {
            vm: "web 1".into(),
            defined: Some(true),
            policy: RotationPolicy::Weekly,
            last_success: None,
            next_period: Some(jiff::civil::date(2026, 11, 30)),
            chain: None,
            health: Health::NoBackup,
            ..gold.clone()
        };
        let domains = ["web 1".to_owned()];
        let peek = Catalog::peek(tree.path(), noon().timestamp());
        assert_eq!(ask(tree.path(), &peek, Some(&domains)), [gold.clone(), web]);
        let json = serde_json::to_value(&gold).unwrap();
        assert_eq!(
            (&json["last_success"], &json["policy"]),
            (&"2026-11-22T20:02:38Z".into(), &"monthly".into())
        );

        // Without a database the disk still tells, and it is said what is missing.
        let alone = &ask(tree.path(), &Catalog::none(), None)[0];
        assert_eq!(
            (alone.last_success, alone.defined),
            (Some("2026-11-22T20:02:36Z".parse().unwrap()), None)
        );
        assert_eq!(alone.problems, ["history is not known: there is no usable database in this run"]);
    }

    #[test]
    fn failures_and_losses_are_seen() {
        let tree = golden();
        let catalog = Catalog::open(tree.path(), noon().timestamp());
        let new = NewSession {
            instance: "default",
            kind: SessionKind::Standard,
            log_file: Path::new(""),
            at: noon().timestamp(),
        };
        let session = catalog.begin_session(&new);
        let failure = Some(Failure { code: Some(ErrorCode::Storage), message: "no space".into() });
        let row = VmBackup { failure, ..VmBackup::new("gold1", VmStatus::Failed) };
        catalog.vm_backup(session.stamp(noon().timestamp()), &row);
        let now = || ask(tree.path(), &catalog, None).pop();
        assert_eq!(now().unwrap().last_error.as_deref(), Some("no space"));
        catalog.vm_backup(session.stamp(noon().timestamp()), &VmBackup::new("gold1", VmStatus::Success));
        assert_eq!(now().unwrap().last_error, None, "there was a success since");

        std::fs::remove_file(tree.path().join("gold1/202611/vdb.inc.virtnbdbackup.3.data")).unwrap();
        let damaged = now().unwrap();
        assert_eq!((damaged.health, damaged.chain.unwrap().restorable), (Health::Damaged, 3));
        assert_eq!(damaged.problems, ["Disk vdb has no stream at virtnbdbackup.3"]);
        let known = ["gold1".to_owned()];
        std::fs::remove_dir_all(tree.path().join("gold1")).unwrap();
        let gone = ask(tree.path(), &catalog, Some(&known)).pop().unwrap();
        assert_eq!(gone.health, Health::NoBackup);
        assert!(gone.problems[0].contains("the database has a backup, but"), "{:?}", gone.problems);
        assert!(now().is_none(), "nobody knows it");
    }

    #[test]
    fn the_newest_chain_counts() {
        let tree = golden();
        let copy = |to: &str| {
            let (from, to) = (tree.path().join("gold1/202611"), tree.path().join("gold1").join(to));
            let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
            assert!(done.unwrap().success());
        };
        let newest = || newest_chain(&Store::open(tree.path()).vm("gold1")).unwrap().period;
        copy("2026-W30");
        assert_eq!(newest(), "202611");
        copy("20261122");
        assert_eq!(newest(), "20261122");
        std::fs::create_dir(tree.path().join("gold1/202701")).unwrap();
        assert_eq!(newest(), "20261122", "an empty folder is no chain");
    }

    #[test]
    fn whatever_a_vm_is_called_everybody_sees_its_folder() {
        use crate::retention::{Look, read, read_vm};
        let tree = golden();
        let store = Store::open(tree.path());
        let long = "a".repeat(200);
        let names = ["übung", "web 1", "🦀", "_lead", "-dash", "k.", long.as_str()];
        for name in names {
            let to = store.vm_of(name).path().to_owned();
            let done =
                std::process::Command::new("cp").arg("-a").arg(tree.path().join("gold1")).arg(&to).status();
            assert!(done.unwrap().success());
            let list = |name: &str| to.join("202611").join(format!("{name}.cpt"));
            std::fs::rename(list("gold1"), list(name)).unwrap();
        }
        for gone in ["gold1", "_state"] {
            std::fs::remove_dir_all(tree.path().join(gone)).unwrap();
        }
        // None of these is a VM's.
        std::os::unix::fs::symlink("_bung", tree.path().join("linked")).unwrap();
        for folder in [".snapshot/202611", "tpm-state/202611", "__HOST_CONFIG__/202611"] {
            let to = tree.path().join(folder);
            std::fs::create_dir_all(&to).unwrap();
            std::fs::copy(tree.path().join("_bung/202611/vda.full.data"), to.join("vda.full.data")).unwrap();
        }
        let mut want: Vec<String> = names.map(str::to_owned).to_vec();
        want.sort();
        let sorted = |mut found: Vec<String>| {
            found.sort();
            found
        };
        let kept = read(&store, Look::Dates).unwrap();
        assert_eq!(sorted(kept.vms.iter().map(|vm| vm.name().to_owned()).collect()), want, "retention");
        for name in names {
            assert_eq!(read_vm(&store, &store.vm_of(name), Look::Sizes).unwrap().vms.len(), 1, "{name}");
        }
        let catalog = Catalog::open(tree.path(), noon().timestamp());
        for known in [None, Some(&want[..])] {
            let reports = ask(tree.path(), &catalog, known);
            assert!(reports.iter().all(|report| report.health == Health::Good), "{reports:?}");
            assert_eq!(sorted(reports.into_iter().map(|report| report.vm).collect()), want, "status");
        }
        let database = rusqlite::Connection::open(tree.path().join("_state/vmbackup.db")).unwrap();
        let mut rows = database.prepare("SELECT DISTINCT vm_name FROM chain_health").unwrap();
        let rows = rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert_eq!(sorted(rows), want, "the database that was filled from the disk");
    }
}
