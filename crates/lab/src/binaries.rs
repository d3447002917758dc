//! Runs the programs under test.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use super::Lab;
use super::command::output_of;
use super::place::program;

/// Where `vmbackup` keeps what a host knows; see `vmstore::HostDir`.
pub const LIB_DIR: &str = "VMBACKUP_LIB_DIR";

impl Lab {
    /// A `vmbackup` command that reads the configuration of this lab; see [`Lab::instance_conf`].
    pub fn vmbackup_command(&self) -> Command {
        let mut command = Command::new(program("vmbackup"));
        command.arg("--config-dir").arg(self.config_dir()).env(LIB_DIR, self.lib_dir());
        command
    }

    /// Runs `vmbackup` to its end.
    pub fn vmbackup(&self, arguments: &[&str]) -> Output {
        output_of(self.vmbackup_command().args(arguments))
    }

    /// Runs `vmstream` to its end.
    pub fn vmstream(&self, arguments: &[&str]) -> Output {
        output_of(Command::new(program("vmstream")).args(arguments))
    }

    /// What this host knows of its backup paths: the lab's own, never the machine's.
    pub fn lib_dir(&self) -> PathBuf {
        self.path().join("lib")
    }

    /// Where backups of the default configuration go.
    pub fn backup_path(&self) -> PathBuf {
        self.new_dir("backups")
    }

    /// Writes the configuration of the instance `default` in the shell syntax: `BACKUP_PATH` and these keys.
    pub fn instance_conf(&self, keys: &[(&str, &str)]) -> PathBuf {
        let mut text = String::new();
        if !keys.iter().any(|(key, _)| *key == "BACKUP_PATH") {
            text.push_str(&format!("BACKUP_PATH=\"{}/\"\n", self.backup_path().display()));
        }
        for (key, value) in keys {
            text.push_str(&format!("{key}=\"{value}\"\n"));
        }
        let instance = self.config_dir().join("default");
        fs::create_dir_all(&instance).expect("the configuration has a directory");
        let file = instance.join("vmbackup.conf");
        fs::write(&file, text).expect("the configuration can be written");
        file
    }

    /// The folder that holds the instances: what `--config-dir` gets.
    pub fn config_dir(&self) -> PathBuf {
        self.new_dir("config")
    }
}
