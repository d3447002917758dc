//! The sample files: written from the table, complete, and true when read back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{ConfigError, KEYS, Sample, Source, load, render};

/// Each sample file and what it is rendered as.
const SAMPLES: [(&str, Sample); 3] = [
    ("default/vmbackup.conf", Sample::Bash),
    ("template/vmbackup.conf", Sample::Bash),
    ("template/vmbackup.toml", Sample::Toml),
];

fn config_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config")
}

/// An instance `x` with one file.
fn instance_with(file: &str, text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::create_dir(dir.path().join("x")).expect("a directory to make");
    std::fs::write(dir.path().join("x").join(file), text).expect("a file to write");
    dir
}

/// Set, it makes the test write the samples anew before it reads them.
const WRITE_VARIABLE: &str = "VMBACKUP_WRITE_SAMPLES";

#[test]
fn samples_are_what_the_table_says() {
    for (file, sample) in SAMPLES {
        if std::env::var_os(WRITE_VARIABLE).is_some() {
            std::fs::write(config_dir().join(file), render(sample)).expect("a file to write");
        }
        let text = std::fs::read_to_string(config_dir().join(file)).expect("a sample file to read");
        let stale = format!("is stale: {WRITE_VARIABLE}=1 cargo test -p vmconfig sample");
        assert!(text == render(sample), "{file} {stale}");
        assert!(text.lines().all(|line| line.len() <= 120), "{file} has a line that is too long");
    }
}

#[test]
fn samples_ask_for_a_backup_path() {
    for instance in ["default", "template"] {
        let refused = load(&config_dir(), instance, &BTreeMap::new());
        assert!(matches!(refused, Err(ConfigError::BackupPathPlaceholder { .. })), "{instance}: {refused:?}");
    }
}

/// The recipe of every guide: copy the template, and name the target in `vmbackup.conf`, or in `vmbackup.toml` alone.
#[test]
fn a_copy_of_the_template_needs_its_backup_path_alone() {
    let template = config_dir().join("template");
    let names =
        |text: &str| text.replace("/path/to/backups/", "/mnt/backups").replace("#backup_path", "backup_path");
    for (main, other) in [("vmbackup.conf", None), ("vmbackup.toml", Some("vmbackup.conf"))] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let copy = dir.path().join("x");
        std::fs::create_dir(&copy).expect("a directory to make");
        for entry in std::fs::read_dir(&template).expect("the template").flatten() {
            std::fs::copy(entry.path(), copy.join(entry.file_name())).expect("a file to copy");
        }
        let text = std::fs::read_to_string(copy.join(main)).expect("a sample file to read");
        std::fs::write(copy.join(main), names(&text)).expect("a file to write");
        other.iter().for_each(|other| std::fs::remove_file(copy.join(other)).expect("a file to remove"));
        let loaded = load(dir.path(), "x", &BTreeMap::new()).expect(main);
        let bare_dir = instance_with("vmbackup.conf", "BACKUP_PATH=/mnt/backups");
        let bare = load(bare_dir.path(), "x", &BTreeMap::new()).expect("defaults are allowed");
        assert_eq!((loaded.settings, loaded.warnings), (bare.settings, vec![]), "{main}");
    }
}

/// Takes the comment sign off every setting, and names a real target.
fn all_in_force(text: &str) -> String {
    let is_setting = |line: &&str| {
        let name = line.split(['=', ' ']).next().unwrap_or_default();
        KEYS.iter().any(|key| key.name == name || key.lower_name() == name)
    };
    let lines = text.lines().map(|line| line.strip_prefix('#').filter(is_setting).unwrap_or(line));
    lines.map(|line| line.replace("/path/to/backups/", "/mnt/backups")).collect::<Vec<_>>().join("\n")
}

#[test]
fn samples_name_every_key_with_its_true_default() {
    for (path, sample) in SAMPLES {
        let file = path.split('/').next_back().expect("a file name");
        let text = std::fs::read_to_string(config_dir().join(path)).expect("a sample file to read");
        let bare = match sample {
            Sample::Bash => "BACKUP_PATH=/mnt/backups",
            Sample::Toml => "backup_path = '/mnt/backups'",
        };
        let (bare_dir, full_dir) = (instance_with(file, bare), instance_with(file, &all_in_force(&text)));
        let bare = load(bare_dir.path(), "x", &BTreeMap::new()).expect("defaults are allowed");
        let full = load(full_dir.path(), "x", &BTreeMap::new()).expect("a sample is allowed");
        assert_eq!(full.settings, bare.settings, "{path}");
        assert_eq!(full.warnings, vec![], "{path}");
        for key in KEYS {
            let stated = matches!(full.sources[key.name], Source::File(_));
            let means_something = key.empty_is_value || !key.default.is_empty() || key.name == "BACKUP_PATH";
            assert_eq!(stated, means_something, "{path}: {}", key.name);
            let name = if sample == Sample::Bash { key.name.to_owned() } else { key.lower_name() };
            let starts =
                [format!("{name}="), format!("#{name}="), format!("{name} = "), format!("#{name} = ")];
            let lines = text.lines().filter(|line| starts.iter().any(|start| line.starts_with(start)));
            assert_eq!(lines.count(), 1, "{path} must show {name} once");
        }
    }
}

#[test]
fn keys_are_unique_and_sections_together() {
    let mut names: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), KEYS.len());
    for key in KEYS {
        assert_eq!(key.name, key.name.to_ascii_uppercase());
        assert!((key.same)(key.default, key.default), "{}", key.name);
    }
}
