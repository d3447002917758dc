//! Writes `vmbackup.toml` from the Bash files of an instance, and leaves them where they do no harm.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::files::{instance_dir, read_if_present};
use super::keys::Key;
use super::load::{MAIN_TOML, OTHER_CONF, read_bash_files};
use super::merge::{MainFiles, differences, effective};
use super::sample::render_toml;
use super::stated::MAIN_CONF;
use super::toml_file;
use vmstream::durable;

/// What the old files are called afterwards.
const KEPT: &str = "before-toml";

/// An instance was not migrated. Nothing was changed unless a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The files cannot be read.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// Something would be overwritten.
    #[error("{} is there already and is not overwritten. Move it away first", .0.display())]
    Exists(PathBuf),
    /// Nothing to migrate.
    #[error("There is no vmbackup.conf in {}: nothing to migrate", .0.display())]
    NoBashFile(PathBuf),
    /// A file could not be written.
    #[error("Cannot write {}: {source}", path.display())]
    Write {
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What becomes of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    pub toml_file: PathBuf,
    pub toml: String,
    /// The new text of `vmbackup.conf`: the line that restore scripts look for.
    pub conf: String,
    /// The Bash files, and what they are called afterwards.
    pub kept: Vec<(PathBuf, PathBuf)>,
}

impl Migration {
    /// Reads the instance, and says what is to be written. Changes nothing.
    pub fn plan(
        config_dir: &Path,
        instance: &str,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, MigrateError> {
        let dir = instance_dir(config_dir, instance)?;
        let toml_file = dir.join(MAIN_TOML);
        let conf_file = dir.join(MAIN_CONF);
        let Some(bytes) = read_if_present(&conf_file)? else { return Err(MigrateError::NoBashFile(dir)) };
        let mut kept = Vec::new();
        for name in [MAIN_CONF].iter().chain(&OTHER_CONF) {
            let file = dir.join(name);
            if file.exists() {
                kept.push((file, dir.join(format!("{name}.{KEPT}"))));
            }
        }
        let in_the_way =
            std::iter::once(&toml_file).chain(kept.iter().map(|(_, to)| to)).find(|path| path.exists());
        if let Some(path) = in_the_way {
            return Err(MigrateError::Exists(path.clone()));
        }
        let mut stated = read_bash_files(&dir, &conf_file, Some(bytes), environment)?;
        // Said in both files, also where it came from the environment.
        let mut backup_path = String::new();
        if let Some(key) = Key::find("BACKUP_PATH") {
            backup_path = effective(key, stated.keys.get(key.name), environment).0;
        }
        let toml = render_toml(&stated, &backup_path);
        let read_back = toml_file::read(&toml_file, toml.as_bytes())?;
        stated.keys.remove("BACKUP_PATH");
        let mut compared = read_back.clone();
        compared.keys.remove("BACKUP_PATH");
        let differences = differences(&stated, &compared, MainFiles::Both, environment);
        if !differences.is_empty() {
            return Err(ConfigError::Disagree { dir, differences }.into());
        }
        let conf = format!(
            "# The settings of this instance are in {MAIN_TOML}. Restore scripts look for this line; keep both the same.\nBACKUP_PATH=\"{backup_path}\"\n"
        );
        Ok(Self { toml_file, toml, conf, kept })
    }

    /// Writes the files. The instance can be loaded, and says the same, after each step.
    pub fn execute(&self) -> Result<(), MigrateError> {
        let Some((conf_file, _)) = self.kept.first() else { return Ok(()) };
        for (from, to) in &self.kept {
            fs::copy(from, to).map_err(|source| MigrateError::Write { path: to.clone(), source })?;
        }
        write(&self.toml_file, &self.toml, conf_file)?;
        write(conf_file, &self.conf, conf_file)?;
        for (from, _) in self.kept.iter().skip(1) {
            fs::remove_file(from).map_err(|source| MigrateError::Write { path: from.clone(), source })?;
        }
        Ok(())
    }
}

/// Writes a file in one step, with the mode of another.
fn write(path: &Path, text: &str, like: &Path) -> Result<(), MigrateError> {
    let written = fs::metadata(like).and_then(|about| {
        durable::replace_with(path, 0o600, |file| {
            file.set_permissions(about.permissions())?;
            file.write_all(text.as_bytes())
        })
    });
    written.map_err(|source| MigrateError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load;

    fn instance(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("x")).unwrap();
        files.iter().for_each(|(name, text)| fs::write(dir.path().join("x").join(name), text).unwrap());
        dir
    }

    #[test]
    fn says_the_same_before_and_after_and_keeps_the_old_files() {
        let conf = "BACKUP_PATH=\"/mnt/b\"\nLOG_LEVEL=debug\nMAX_RETRIES=5\nVIRTNBD_EXCLUDE_DISKS=vda,vdb\nRETENTION_DAYS=${KEEP:-9}\n";
        let overrides = "VM_POLICY[\"web 1\"]=\"daily\"\nVM_POLICY[a\\\"b]=never\n";
        let dir = instance(&[
            ("vmbackup.conf", conf),
            ("vm_overrides.conf", overrides),
            ("exclude_patterns.conf", "EXCLUDE_PATTERNS=(\"test-*\" 'back\\slash')\n"),
        ]);
        let environment = BTreeMap::from([("KEEP".to_owned(), "12".to_owned())]);
        let before = load(dir.path(), "x", &environment).unwrap().settings;
        let migration = Migration::plan(dir.path(), "x", &environment).unwrap();
        assert!(!dir.path().join("x/vmbackup.toml").exists(), "a plan changes nothing");
        migration.execute().unwrap();
        let file = |name: &str| fs::read_to_string(dir.path().join("x").join(name)).unwrap();
        assert_eq!(load(dir.path(), "x", &BTreeMap::new()).unwrap().settings, before);
        assert_eq!(file("vmbackup.conf.before-toml"), conf);
        assert_eq!(file("vm_overrides.conf.before-toml"), overrides);
        assert!(!dir.path().join("x/vm_overrides.conf").exists());
        assert_eq!(file("vmbackup.conf").lines().last(), Some("BACKUP_PATH=\"/mnt/b\""));
        let toml = file("vmbackup.toml");
        assert!(
            toml.contains("\nlog_level = \"debug\"\n") && toml.contains("\n#virtnbd_scratch_dir = "),
            "{toml}"
        );
        assert!(
            toml.contains("\nretention_days = 12\n") && toml.contains("# Default: 7. Unit: days."),
            "{toml}"
        );
        // Settings are changed in one place now.
        fs::write(dir.path().join("x/vmbackup.toml"), toml.replace("max_retries = 5", "max_retries = 6"))
            .unwrap();
        assert_eq!(load(dir.path(), "x", &BTreeMap::new()).unwrap().settings.text("MAX_RETRIES"), Some("6"));
        assert!(matches!(Migration::plan(dir.path(), "x", &environment), Err(MigrateError::Exists(_))));
    }

    #[test]
    fn overwrites_nothing() {
        for present in ["vmbackup.toml", "vmbackup.conf.before-toml"] {
            let dir = instance(&[("vmbackup.conf", "BACKUP_PATH=/mnt/b\n"), (present, "")]);
            let refused = Migration::plan(dir.path(), "x", &BTreeMap::new());
            assert!(
                matches!(refused, Err(MigrateError::Exists(path)) if path.ends_with(present)),
                "{present}"
            );
        }
        let dir = instance(&[("vmbackup.toml", "backup_path = \"/mnt/b\"\n")]);
        assert!(matches!(
            Migration::plan(dir.path(), "x", &BTreeMap::new()),
            Err(MigrateError::NoBashFile(_))
        ));
    }
}
