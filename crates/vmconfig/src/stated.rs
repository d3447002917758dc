//! What the files of one kind say, before anything is checked: known keys as text, each with its place.

use std::collections::BTreeMap;

use super::bash::{Element, Shape, Variable, Variables};
use super::error::ConfigError;
use super::keys::{Key, VM_TABLES};
use super::nearest::nearest;

/// The list of excluded names, and the misspelling that older comments suggest.
pub(super) const EXCLUDE_PATTERNS: &str = "EXCLUDE_PATTERNS";
const EXCLUDE_PATTERN: &str = "EXCLUDE_PATTERN";
/// The file where single values belong.
pub(super) const MAIN_CONF: &str = "vmbackup.conf";

/// What one side says. A key it leaves empty, where that means nothing, is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stated {
    pub(super) keys: BTreeMap<&'static str, Element>,
    /// One of [`VM_TABLES`] → virtual machine → value.
    pub(super) vm_tables: BTreeMap<&'static str, BTreeMap<String, Element>>,
    pub(super) exclude_patterns: Vec<Element>,
    pub(super) warnings: Vec<String>,
}

impl Stated {
    /// Sorts the variables of the Bash files into keys, policies and patterns.
    pub(super) fn from_variables(mut variables: Variables<'_>) -> Result<Self, ConfigError> {
        let mut stated = Self { warnings: std::mem::take(&mut variables.warnings), ..Self::default() };
        let singular = variables.all.remove(EXCLUDE_PATTERN);
        if let Some(plural) = variables.all.remove(EXCLUDE_PATTERNS) {
            stated.take_patterns(EXCLUDE_PATTERNS, plural)?;
        }
        if let Some(singular) = singular {
            let at = &singular.at;
            stated
                .warnings
                .push(format!("{at}: {EXCLUDE_PATTERN} is read as {EXCLUDE_PATTERNS}; write it that way"));
            stated.take_patterns(EXCLUDE_PATTERN, singular)?;
        }
        for (name, variable) in variables.all {
            if let Some(table) = VM_TABLES.into_iter().find(|table| *table == name) {
                stated.take_table(table, variable);
            } else if let Some(key) = Key::find(&name) {
                stated.take_key(key, variable)?;
            } else if !variables.used.contains(&name) {
                stated.warn_unknown(&name, &variable.at);
            }
        }
        Ok(stated)
    }

    /// Whether nothing is set at all.
    pub(super) fn is_silent(&self) -> bool {
        self.keys.is_empty() && self.vm_tables.is_empty() && self.exclude_patterns.is_empty()
    }

    /// Adds a key's value unless it is empty and that means nothing.
    pub(super) fn set(&mut self, key: &'static Key, value: Element) {
        if key.is_set_by(&value.text) {
            self.keys.insert(key.name, value);
        }
    }

    pub(super) fn warn_unknown(&mut self, name: &str, at: &super::place::Place) {
        let shown: String = name.chars().take(80).collect();
        self.warnings.push(match nearest(name) {
            Some(known) => format!("{at}: Unknown key {shown} is ignored; did you mean {known}?"),
            None => format!("{at}: Unknown key {shown} is ignored"),
        });
    }

    fn take_key(&mut self, key: &'static Key, variable: Variable) -> Result<(), ConfigError> {
        let found = match variable.shape {
            Shape::One(value) => {
                if !value.at.file.ends_with(MAIN_CONF) {
                    let (at, name) = (&value.at, key.name);
                    self.warnings.push(format!("{at}: {name} is used, but belongs in {MAIN_CONF}"));
                }
                self.set(key, value);
                return Ok(());
            }
            Shape::Empty => return Ok(()),
            Shape::List(_) => "a list",
            Shape::Table(_) => "a table",
        };
        let wanted = if key.is_list { "one value with commas" } else { "one value" };
        Err(ConfigError::WrongShape { at: variable.at, key: key.name.to_owned(), wanted, found })
    }

    /// Bash files cannot make it anything but a table: it is one by its name.
    fn take_table(&mut self, name: &'static str, variable: Variable) {
        if let Shape::Table(table) = variable.shape {
            let values = table.into_iter().filter(|(_, value)| !value.text.is_empty());
            self.vm_tables.entry(name).or_default().extend(values);
        }
    }

    fn take_patterns(&mut self, key: &str, variable: Variable) -> Result<(), ConfigError> {
        let patterns = match variable.shape {
            Shape::Empty => Vec::new(),
            Shape::One(pattern) => vec![pattern],
            Shape::List(list) => list.into_values().collect(),
            Shape::Table(_) => {
                let (wanted, found) = ("a list", "a table");
                return Err(ConfigError::WrongShape { at: variable.at, key: key.to_owned(), wanted, found });
            }
        };
        self.exclude_patterns.extend(patterns.into_iter().filter(|pattern| !pattern.text.is_empty()));
        Ok(())
    }
}
