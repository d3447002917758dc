//! Finds the instance directory and reads the bytes of its files.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::place::Place;

/// Far more than any configuration needs.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// The instance that is copied to make others.
const TEMPLATE: &str = "template";

/// The directory of an instance.
pub(super) fn instance_dir(config_dir: &Path, instance: &str) -> Result<PathBuf, ConfigError> {
    let plain = !instance.is_empty()
        && instance != "."
        && !instance.contains(['/', '\0'])
        && !instance.contains("..");
    if !plain {
        return Err(ConfigError::InstanceName { name: instance.to_owned() });
    }
    let dir = config_dir.join(instance);
    if dir.is_dir() {
        return Ok(dir);
    }
    Err(ConfigError::InstanceMissing {
        instance: instance.to_owned(),
        config_dir: config_dir.to_owned(),
        exist: existing_instances(config_dir),
    })
}

/// Names of the instances, sorted. Only to help after a mistake: what cannot be read is left out.
fn existing_instances(config_dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(config_dir).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.path().is_dir());
    let names = directories.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name != TEMPLATE && !name.starts_with('.')).collect();
    names.sort();
    names
}

/// The bytes of a file, or `None` if there is none of that name.
pub(super) fn read_if_present(file: &Path) -> Result<Option<Vec<u8>>, ConfigError> {
    let failed = |source| ConfigError::ReadFile { file: file.to_owned(), source };
    let opened = match std::fs::File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !file.is_symlink() => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len <= MAX_FILE_BYTES) {
        return Ok(Some(bytes));
    }
    Err(ConfigError::FileTooLarge { file: file.to_owned(), limit_bytes: MAX_FILE_BYTES })
}

/// Libvirt's names have 255 bytes at most. A reader of patterns looks at each part of one many times.
const MAX_PATTERN_CHARS: usize = 1000;

/// Refuses a pattern that is longer than any name.
pub(super) fn check_pattern(text: &str, at: impl FnOnce() -> Place) -> Result<(), ConfigError> {
    let chars = text.chars().count();
    if chars <= MAX_PATTERN_CHARS {
        return Ok(());
    }
    Err(ConfigError::PatternTooLong { at: at(), chars, limit: MAX_PATTERN_CHARS })
}

/// The patterns of a list, one a line. Text from `#` on is a remark; a file that is not there is an empty list.
pub(super) fn read_patterns(file: &Path) -> Result<Vec<String>, ConfigError> {
    let bytes = read_if_present(file)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut patterns = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let pattern = line.split('#').next().unwrap_or_default().trim();
        check_pattern(pattern, || Place { file: file.into(), line: number, column: 1 })?;
        if !pattern.is_empty() {
            patterns.push(pattern.to_owned());
        }
    }
    Ok(patterns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_patterns_has_remarks_and_blank_lines() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("fstrim_exclude.conf");
        assert_eq!(read_patterns(&file).unwrap(), [""; 0]);
        std::fs::write(&file, "# remark\n\n  win-*  # slow\r\ndb?\n#x\n").unwrap();
        assert_eq!(read_patterns(&file).unwrap(), ["win-*", "db?"]);
        std::fs::write(&file, format!("web\n{}\n", "@(".repeat(600))).unwrap();
        let refused = read_patterns(&file).unwrap_err().to_string();
        assert!(refused.contains("conf:2:1: A pattern has 1200 characters"), "{refused}");
    }
}
