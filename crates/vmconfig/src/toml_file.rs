//! Reads `vmbackup.toml`: the same keys in lower case (or as in Bash), a table `vm_policy`, a list
//! `exclude_patterns`.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::bash::{Construct, Element};
use super::error::ConfigError;
use super::keys::Key;
use super::keys::{VM_EXCLUDE_DISKS, VM_TABLES};
use super::place::{Place, Positions};
use super::stated::{EXCLUDE_PATTERNS, Stated};

/// Reads the file's bytes. A byte order mark is taken off first.
pub(super) fn read(file: &Path, bytes: &[u8]) -> Result<Stated, ConfigError> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let positions = Positions::new(file, bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = positions.place(bytes, error.valid_up_to());
        ConfigError::Toml { at, message: Construct::NotUtf8.to_string() }
    })?;
    let table = DeTable::parse(text).map_err(|error| {
        let at = positions.place(bytes, error.span().map_or(0, |span| span.start));
        ConfigError::Toml { at, message: error.message().replace('\n', "; ") }
    })?;
    let mut reader = Reader { text: bytes, positions, stated: Stated::default(), places: BTreeMap::new() };
    for (name, value) in table.get_ref() {
        reader.entry(name.get_ref(), reader.place(name.span().start), value)?;
    }
    Ok(reader.stated)
}

struct Reader<'t> {
    text: &'t [u8],
    positions: Positions,
    stated: Stated,
    /// Where each key was met, by its upper-case name.
    places: BTreeMap<String, Place>,
}

impl Reader<'_> {
    fn entry(&mut self, name: &str, at: Place, value: &Spanned<DeValue<'_>>) -> Result<(), ConfigError> {
        let upper = name.to_ascii_uppercase();
        let known = Key::find(&upper);
        let vm_table = VM_TABLES.into_iter().find(|table| *table == upper);
        let one_case = name == upper || name == name.to_ascii_lowercase();
        if !one_case || (known.is_none() && vm_table.is_none() && upper != EXCLUDE_PATTERNS) {
            self.stated.warn_unknown(name, &at);
            return Ok(());
        }
        if let Some(first) = self.places.insert(upper.clone(), at.clone()) {
            // Tables come sorted by name, not by place.
            let (first, second) = if first < at { (first, at) } else { (at, first) };
            return Err(ConfigError::KeyTwice { key: upper, first, second });
        }
        match (known, vm_table) {
            (Some(key), _) => {
                let value = self.key_value(key, value)?;
                self.stated.set(key, value);
            }
            (None, Some(table)) => self.vm_table(table, value)?,
            (None, None) => self.patterns(value)?,
        }
        Ok(())
    }

    fn key_value(&self, key: &Key, value: &Spanned<DeValue<'_>>) -> Result<Element, ConfigError> {
        let at = self.place(value.span().start);
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => {
                decimal(number).ok_or_else(|| wrong(&at, key.name, "a number below 2^127", "a larger one"))?
            }
            DeValue::Boolean(on) => key.switch_word(*on).to_owned(),
            DeValue::Array(items) if key.is_list => self.list(key.name, items)?,
            other => return Err(wrong(&at, key.name, "one value", kind(other))),
        };
        Ok(Element { text, at })
    }

    fn vm_table(&mut self, name: &'static str, value: &Spanned<DeValue<'_>>) -> Result<(), ConfigError> {
        let shown = name.to_ascii_lowercase();
        let DeValue::Table(table) = value.get_ref() else {
            let at = self.place(value.span().start);
            return Err(wrong(&at, &shown, "a table", kind(value.get_ref())));
        };
        for (vm, value) in table {
            let key = format!("{shown}.{}", vm.get_ref());
            let value = match value.get_ref() {
                DeValue::Array(items) if name == VM_EXCLUDE_DISKS => {
                    let at = self.place(value.span().start);
                    Element { text: self.list(&key, items)?, at }
                }
                _ => self.string(&key, value)?,
            };
            self.stated.vm_tables.entry(name).or_default().insert(vm.get_ref().to_string(), value);
        }
        Ok(())
    }

    fn patterns(&mut self, value: &Spanned<DeValue<'_>>) -> Result<(), ConfigError> {
        let DeValue::Array(items) = value.get_ref() else {
            let at = self.place(value.span().start);
            return Err(wrong(&at, "exclude_patterns", "an array", kind(value.get_ref())));
        };
        for item in items.iter() {
            let pattern = self.string("exclude_patterns", item)?;
            if !pattern.text.is_empty() {
                self.stated.exclude_patterns.push(pattern);
            }
        }
        Ok(())
    }

    /// An array of texts, as Bash files have it: with commas.
    fn list(&self, key: &str, items: &[Spanned<DeValue<'_>>]) -> Result<String, ConfigError> {
        let texts = items.iter().map(|item| self.string(key, item).map(|item| item.text));
        Ok(texts.collect::<Result<Vec<_>, _>>()?.join(","))
    }

    fn string(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<Element, ConfigError> {
        let at = self.place(value.span().start);
        match value.get_ref() {
            DeValue::String(text) => Ok(Element { text: text.to_string(), at }),
            other => Err(wrong(&at, key, "text in quotes", kind(other))),
        }
    }

    fn place(&self, byte: usize) -> Place {
        self.positions.place(self.text, byte)
    }
}

fn wrong(at: &Place, key: &str, wanted: &'static str, found: &'static str) -> ConfigError {
    ConfigError::WrongShape { at: at.clone(), key: key.to_owned(), wanted, found }
}

fn decimal(number: &DeInteger<'_>) -> Option<String> {
    i128::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
