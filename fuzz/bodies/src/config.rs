//! The files of an instance, Bash assignments and TOML, and the patterns in them.

use std::collections::BTreeMap;
use std::path::Path;

use vmconfig::{ConfigError, Loaded, load};
use vmplan::glob::Pattern;

use crate::structured::Structured;

/// Stands between the files of one input. No text file has it.
pub(crate) const SEPARATOR: u8 = 0x1e;

fn loaded(dir: &Path, files: &[(&str, &[u8])]) -> Result<Loaded, ConfigError> {
    let instance = dir.join("default");
    std::fs::create_dir_all(&instance).unwrap();
    for (name, bytes) in files {
        std::fs::write(instance.join(name), bytes).unwrap();
    }
    let environment = [("HOME", "/root"), ("LANG", "C"), ("VIRTNBD_COMPRESS_LEVEL", "3")];
    let environment: BTreeMap<_, _> =
        environment.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    load(dir, "default", &environment)
}

fn show(result: Result<Loaded, ConfigError>) {
    match result {
        Ok(loaded) => assert!(loaded.warnings.iter().all(|warning| !warning.said.is_empty())),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The three Bash files, one after the other.
pub(crate) fn conf(input: &[u8]) {
    let dir = crate::seeds::scratch();
    let names = ["vmbackup.conf", "vm_overrides.conf", "exclude_patterns.conf"];
    let files: Vec<_> = names.into_iter().zip(input.splitn(3, |byte| *byte == SEPARATOR)).collect();
    show(loaded(dir.path(), &files));
}

/// The TOML file.
pub(crate) fn toml(input: &[u8]) {
    let dir = crate::seeds::scratch();
    show(loaded(dir.path(), &[("vmbackup.toml", input)]));
}

/// Patterns and policies written in either form come back the same, and the forms agree.
pub(crate) fn round_trip(input: &[u8]) {
    let mut input = Structured(input);
    let mut patterns = Vec::new();
    while !input.is_empty() && patterns.len() < 32 {
        // CRLF is a line end of a Bash file, wherever it stands.
        let pattern = input.text().replace(['\0', '\r'], "_");
        // An empty pattern is left out, and what is in both files comes once.
        if !pattern.is_empty() && !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    let quoted = |text: &String| format!("'{}'", text.replace('\'', r"'\''"));
    let bash: Vec<_> = patterns.iter().map(quoted).collect();
    let bash = format!("BACKUP_PATH=/b\nEXCLUDE_PATTERNS=(\n{}\n)\n", bash.join("\n"));
    let mut table = ::toml::Table::new();
    table.insert("backup_path".into(), "/b".into());
    table.insert("exclude_patterns".into(), patterns.clone().into());
    let toml = table.to_string();
    for files in [
        &[("vmbackup.conf", bash.as_bytes())][..],
        &[("vmbackup.toml", toml.as_bytes())],
        &[("vmbackup.conf", bash.as_bytes()), ("vmbackup.toml", toml.as_bytes())],
    ] {
        let dir = crate::seeds::scratch();
        match loaded(dir.path(), files) {
            Ok(loaded) => assert_eq!(loaded.settings.exclude_patterns, patterns),
            Err(error) => panic!("{error}: {files:?}"),
        }
    }
}

/// A pattern and a name, with a zero byte between them. Every text is a pattern, and one that is all plain matches
/// itself.
pub(crate) fn glob(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (pattern, name) = text.split_once('\0').unwrap_or((text, "web-1"));
    // libvirt's names have 255 characters at most; reading takes the square of a pattern's length.
    let cut = |text: &str, most| text.chars().take(most).collect::<String>();
    let (pattern, name) = (cut(pattern, 400), cut(name, 60));
    let read = Pattern::new(&pattern);
    assert_eq!(read.to_string(), pattern);
    read.matches(&name);
    let quoted: String = name.chars().flat_map(|c| ['\\', c]).collect();
    assert!(Pattern::new(&quoted).matches(&name));
    assert!(Pattern::new("*").matches(&name));
    let either = format!("@(x|{quoted})");
    assert!(Pattern::new(&either).matches(&name), "{either}");
}
