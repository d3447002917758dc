//! Loads one instance: finds its files, reads them, adds environment and defaults, checks every value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::bash::{self, Element, Variables};
use super::compression;
use super::error::{ConfigError, InvalidValue};
use super::files::{check_pattern, instance_dir, read_if_present, read_patterns};
use super::keys::Key;
use super::keys::{VM_CONSISTENCY, VM_EXCLUDE_DISKS, VM_POLICY, VM_TABLES, VM_TRIPWIRE};
use super::merge::{MainFiles, differences, effective, merged};
use super::place::Source;
use super::stated::{EXCLUDE_PATTERNS, MAIN_CONF, Stated};
use super::table::{KEYS, Settings};
use super::toml_file;
use super::unserved::{Unserved, unserved};
use super::value::Value;

/// `BACKUP_PATH` in the sample files: to be replaced.
pub(super) const PLACEHOLDER: &str = "/path/to/backups/";
pub(super) const MAIN_TOML: &str = "vmbackup.toml";
pub(super) const TRIM_EXCLUDE: &str = "FSTRIM_EXCLUDE_FILE";
/// Read after the main file, in this order.
pub(super) const OTHER_CONF: [&str; 2] = ["vm_overrides.conf", "exclude_patterns.conf"];

/// The configuration of one instance.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The instance directory, where further files of the instance lie.
    pub dir: PathBuf,
    /// Its main file: `vmbackup.conf` where there is one, else `vmbackup.toml`.
    pub main_file: PathBuf,
    /// All settings, checked.
    pub settings: Settings,
    /// What was read but deserves a look.
    pub warnings: Vec<Warning>,
    /// What is switched on beside the settings, and does nothing.
    pub unserved: Vec<Unserved>,
    /// Where each value came from: by upper-case key, `VM_POLICY[name]` (and the like) and
    /// `EXCLUDE_PATTERNS[number]`.
    pub sources: BTreeMap<String, Source>,
}

/// Something that was read and deserves a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where it stands, and what it is.
    pub said: String,
    pub fix: &'static str,
}

impl Warning {
    /// A line that should say something else.
    fn line(said: String) -> Self {
        Self { said, fix: "correct that line" }
    }

    /// A name that nothing has.
    pub(super) fn name(said: String) -> Self {
        Self { said, fix: "correct the name, or remove it" }
    }
}

/// Loads the instance `instance` of `config_dir`.
///
/// `environment` stands for the process environment: keys that allow it are taken from there when no file sets
/// them, and files may refer to any of its variables. Nothing else is read, and nothing is run.
///
/// # Errors
/// [`ConfigError`], always of the category "configuration". Values that are not allowed are reported together.
pub fn load(
    config_dir: &Path,
    instance: &str,
    environment: &BTreeMap<String, String>,
) -> Result<Loaded, ConfigError> {
    let dir = instance_dir(config_dir, instance)?;
    let (conf_file, toml_file) = (dir.join(MAIN_CONF), dir.join(MAIN_TOML));
    let conf_bytes = read_if_present(&conf_file)?;
    let toml_bytes = read_if_present(&toml_file)?;
    let (main_files, main_file) = match (&conf_bytes, &toml_bytes) {
        (None, None) => return Err(ConfigError::NoMainFile { dir }),
        (Some(_), Some(_)) => (MainFiles::Both, conf_file.clone()),
        (Some(_), None) => (MainFiles::One, conf_file.clone()),
        (None, Some(_)) => (MainFiles::One, toml_file.clone()),
    };
    let conf = read_bash_files(&dir, &conf_file, conf_bytes, environment)?;
    let toml = match toml_bytes {
        Some(bytes) => toml_file::read(&toml_file, &bytes)?,
        None => Stated::default(),
    };
    // A vmbackup.conf with nothing but the path is there for restore scripts: the settings are in the other file. A
    // vmbackup.toml that says nothing is the sample.
    let only_path = conf.keys.keys().all(|name| *name == "BACKUP_PATH") && conf.vm_tables.is_empty();
    let main_files = if only_path || toml.is_silent() { MainFiles::One } else { main_files };
    let differences = differences(&conf, &toml, main_files, environment);
    if !differences.is_empty() {
        return Err(ConfigError::Disagree { dir, differences });
    }
    settle(dir, main_file, merged(conf, toml), environment)
}

/// What the Bash files of an instance say together.
pub(super) fn read_bash_files(
    dir: &Path,
    main_file: &Path,
    main_bytes: Option<Vec<u8>>,
    environment: &BTreeMap<String, String>,
) -> Result<Stated, ConfigError> {
    let mut variables = Variables::new(environment, &VM_TABLES);
    if let Some(bytes) = main_bytes {
        bash::read(main_file, &bytes, &mut variables)?;
    }
    for name in OTHER_CONF {
        let file = dir.join(name);
        if let Some(bytes) = read_if_present(&file)? {
            bash::read(&file, &bytes, &mut variables)?;
        }
    }
    Stated::from_variables(variables)
}

/// Checks what the files say, and fills in the rest.
fn settle(
    dir: PathBuf,
    main_file: PathBuf,
    stated: Stated,
    environment: &BTreeMap<String, String>,
) -> Result<Loaded, ConfigError> {
    let Stated { keys, mut vm_tables, exclude_patterns, warnings } = stated;
    let mut warnings: Vec<Warning> = warnings.into_iter().map(Warning::line).collect();
    let (mut texts, mut sources) = (BTreeMap::new(), BTreeMap::new());
    for key in KEYS {
        let (text, source) = effective(key, keys.get(key.name), environment);
        if let Some(remark) = (key.remark)(&text) {
            warnings.push(Warning::line(format!("{source}: {}={text:?}: {remark}", key.name)));
        }
        if let Some(because) = key.unused_because(&text) {
            let said = format!("{source}: {}={text:?} is not used: {because}", key.name);
            warnings.push(Warning { said, fix: "remove that line" });
        }
        texts.insert(key.name, text);
        sources.insert(key.name.to_owned(), source);
    }
    check_backup_path(&texts, &sources, &main_file)?;

    let mut problems = Vec::new();
    let settings = Settings::from_texts(texts, &mut |name, value, allowed| {
        let source_of_value = sources.get(name).cloned().unwrap_or(Source::Default);
        problems.push(InvalidValue {
            key: name.to_owned(),
            value: value.to_owned(),
            source_of_value,
            allowed,
        });
    });
    let mut table = |name| vm_tables.remove(name).unwrap_or_default();
    let policies = read_table(VM_POLICY, table(VM_POLICY), &mut sources, &mut problems);
    let consistency = read_table(VM_CONSISTENCY, table(VM_CONSISTENCY), &mut sources, &mut problems);
    let tripwire = read_table(VM_TRIPWIRE, table(VM_TRIPWIRE), &mut sources, &mut problems);
    let excluded = read_table(VM_EXCLUDE_DISKS, table(VM_EXCLUDE_DISKS), &mut sources, &mut problems);
    let Some(mut settings) = settings.filter(|_| problems.is_empty()) else {
        return Err(ConfigError::InvalidValues { problems });
    };
    settings.vm_policies = policies;
    settings.vm_consistency = consistency;
    settings.vm_tripwire = tripwire;
    settings.vm_exclude_disks = excluded;
    for (number, pattern) in exclude_patterns.into_iter().enumerate() {
        check_pattern(&pattern.text, || pattern.at.clone())?;
        sources.insert(format!("{EXCLUDE_PATTERNS}[{number}]"), Source::File(pattern.at));
        settings.exclude_patterns.push(pattern.text);
    }
    settings.compression = compression::choose(&settings, &sources)?;
    if let Some(name) = settings.text(TRIM_EXCLUDE).filter(|name| !name.is_empty()).map(str::to_owned) {
        let file = dir.join(&name);
        settings.trim_exclude = read_patterns(&file)?;
        // The usual one need not be there.
        let is_usual = Key::find(TRIM_EXCLUDE).is_some_and(|key| key.default == name);
        if !is_usual && !file.exists() {
            let source = said(sources.get(TRIM_EXCLUDE));
            let file = file.display();
            let said = format!(
                "{source}: {TRIM_EXCLUDE}={name:?}: there is no {file}, so no VM is left out of trimming"
            );
            warnings.push(Warning { said, fix: "make that file, or correct the line" });
        }
    }
    if settings.orphan_enabled.on && settings.orphan_min_age.get() >= settings.orphan_max_age.get() {
        let (least, most) = ("RETENTION_ORPHAN_MIN_AGE_DAYS", "RETENTION_ORPHAN_MAX_AGE_DAYS");
        let source = sources.get(least).filter(|source| **source != Source::Default);
        let source = said(source.or_else(|| sources.get(most)));
        warnings.push(Warning::line(format!(
            "{source}: {least} is {} and {most} {}: periods that an earlier policy left are never deleted, unless the first is \
             less than the second",
            settings.orphan_min_age.get(),
            settings.orphan_max_age.get()
        )));
    }
    let unserved = unserved(&dir, environment);
    Ok(Loaded { dir, main_file, settings, warnings, unserved, sources })
}

/// Where something comes from, in words: none where nobody knows.
pub(super) fn said(source: Option<&Source>) -> String {
    source.map(ToString::to_string).unwrap_or_default()
}

/// Checks the values of a table of virtual machines.
fn read_table<T: Value>(
    name: &str,
    stated: BTreeMap<String, Element>,
    sources: &mut BTreeMap<String, Source>,
    problems: &mut Vec<InvalidValue>,
) -> BTreeMap<String, T> {
    let mut values = BTreeMap::new();
    for (vm, Element { text, at }) in stated {
        let key = format!("{name}[{vm}]");
        let source = Source::File(at);
        sources.insert(key.clone(), source.clone());
        match T::parse(&text) {
            Some(value) => {
                values.insert(vm, value);
            }
            None => problems.push(InvalidValue {
                key,
                allowed: T::instead_of(&text),
                value: text,
                source_of_value: source,
            }),
        }
    }
    values
}

fn check_backup_path(
    texts: &BTreeMap<&'static str, String>,
    sources: &BTreeMap<String, Source>,
    main_file: &Path,
) -> Result<(), ConfigError> {
    const NAME: &str = "BACKUP_PATH";
    let value = texts.get(NAME).cloned().unwrap_or_default();
    if value.is_empty() {
        return Err(ConfigError::BackupPathMissing { main_file: main_file.to_owned() });
    }
    let is_placeholder = Key::find(NAME).is_some_and(|key| (key.same)(&value, PLACEHOLDER));
    if is_placeholder {
        let source_of_value = sources.get(NAME).cloned().unwrap_or(Source::Default);
        return Err(ConfigError::BackupPathPlaceholder { source_of_value, value });
    }
    Ok(())
}
