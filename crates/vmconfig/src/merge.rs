//! Puts together what the Bash files and the TOML file say, and finds where they disagree.

use std::collections::BTreeMap;

use super::bash::Element;
use super::error::Difference;
use super::keys::Key;
use super::place::Source;
use super::stated::Stated;
use super::table::KEYS;

/// Which of the two main files an instance has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MainFiles {
    One,
    Both,
}

/// Everything on which the two sides disagree.
///
/// With both main files, a key that only one of them sets counts too, unless it sets what would hold without it:
/// either file alone must lead to the same settings. With one main file, only what both sides set can differ.
pub(super) fn differences(
    conf: &Stated,
    toml: &Stated,
    main_files: MainFiles,
    environment: &BTreeMap<String, String>,
) -> Vec<Difference> {
    let mut found = Vec::new();
    for key in KEYS {
        let (of_conf, of_toml) = (conf.keys.get(key.name), toml.keys.get(key.name));
        let comparable = match main_files {
            MainFiles::Both => of_conf.is_some() || of_toml.is_some(),
            MainFiles::One => of_conf.is_some() && of_toml.is_some(),
        };
        let (conf_value, conf_source) = effective(key, of_conf, environment);
        let (toml_value, toml_source) = effective(key, of_toml, environment);
        if comparable && !(key.same)(&conf_value, &toml_value) {
            let key = key.name.to_owned();
            found.push(Difference { key, conf_value, conf_source, toml_value, toml_source });
        }
    }
    for (table, values) in &conf.vm_tables {
        for (vm, value) in values {
            match toml.vm_tables.get(table).and_then(|others| others.get(vm)) {
                Some(other) if other.text != value.text => found.push(Difference {
                    key: format!("{table}[{vm}]"),
                    conf_value: value.text.clone(),
                    conf_source: Source::File(value.at.clone()),
                    toml_value: other.text.clone(),
                    toml_source: Source::File(other.at.clone()),
                }),
                _ => {}
            }
        }
    }
    found
}

/// Both sides as one. They must not disagree; tables and patterns of either side count.
pub(super) fn merged(mut conf: Stated, toml: Stated) -> Stated {
    conf.keys.extend(toml.keys);
    for (table, values) in toml.vm_tables {
        conf.vm_tables.entry(table).or_default().extend(values);
    }
    for pattern in toml.exclude_patterns {
        if !conf.exclude_patterns.iter().any(|known| known.text == pattern.text) {
            conf.exclude_patterns.push(pattern);
        }
    }
    conf.warnings.extend(toml.warnings);
    conf
}

/// The text a key has: from a file, else from the environment where that is allowed, else its default.
pub(super) fn effective(
    key: &Key,
    stated: Option<&Element>,
    environment: &BTreeMap<String, String>,
) -> (String, Source) {
    if let Some(value) = stated {
        return (value.text.clone(), Source::File(value.at.clone()));
    }
    match environment.get(key.name).filter(|text| key.marks.env && !text.is_empty()) {
        Some(text) => (text.clone(), Source::Environment),
        None => (key.default.to_owned(), Source::Default),
    }
}
