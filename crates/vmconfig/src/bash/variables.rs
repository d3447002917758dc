//! The variables a file leaves behind, and the expansion of words with them.

use std::collections::{BTreeMap, BTreeSet};

use super::construct::Construct;
use super::word::{Part, Word};
use crate::error::ConfigError;
use crate::place::Place;

/// Names Bash gives a value by itself, so that "unset" would be wrong when the environment lacks them.
const MADE_BY_SHELL: &[&str] = &[
    "DIRSTACK",
    "EPOCHREALTIME",
    "EPOCHSECONDS",
    "EUID",
    "FUNCNAME",
    "GROUPS",
    "HOSTNAME",
    "HOSTTYPE",
    "IFS",
    "LINENO",
    "MACHTYPE",
    "OPTERR",
    "OPTIND",
    "OSTYPE",
    "PATH",
    "PIPESTATUS",
    "PPID",
    "PS4",
    "PWD",
    "RANDOM",
    "SECONDS",
    "SHELL",
    "SHELLOPTS",
    "SHLVL",
    "SRANDOM",
    "TERM",
    "UID",
];

/// Longest value after expansion.
const MAX_VALUE_BYTES: usize = 64 * 1024;
/// Most text that all words together expand to: as much as a file may have. Each list element of one letter takes a
/// hundred times its text in memory.
const MAX_EXPANDED_BYTES: usize = 1024 * 1024;

/// One value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) text: String,
    pub(crate) at: Place,
}

/// What a variable holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Declared without a value.
    Empty,
    /// One value.
    One(Element),
    /// An indexed array.
    List(BTreeMap<u32, Element>),
    /// An associative array.
    Table(BTreeMap<String, Element>),
}

/// A variable and its attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) shape: Shape,
    /// The last assignment or declaration.
    pub(crate) at: Place,
    pub(super) read_only: bool,
}

/// All variables so far, on top of a fixed environment.
pub(crate) struct Variables<'e> {
    environment: &'e BTreeMap<String, String>,
    tables: &'e [&'e str],
    pub(crate) all: BTreeMap<String, Variable>,
    /// Names that some expansion used.
    pub(crate) used: BTreeSet<String>,
    /// What was read but deserves a look.
    pub(crate) warnings: Vec<String>,
    expanded_bytes: usize,
}

/// Text after expansion; only what came from outside quotes may be split.
struct Piece {
    text: String,
    splits: bool,
}

impl<'e> Variables<'e> {
    /// Starts with nothing but the environment. The names in `tables` are associative without a declaration.
    pub(crate) fn new(environment: &'e BTreeMap<String, String>, tables: &'e [&'e str]) -> Self {
        let (all, used, warnings) = Default::default();
        Self { environment, tables, all, used, warnings, expanded_bytes: 0 }
    }

    pub(super) fn in_environment(&self, name: &str) -> Option<String> {
        self.environment.get(name).cloned()
    }

    pub(super) fn is_table_by_name(&self, name: &str) -> bool {
        self.tables.contains(&name)
    }

    /// Expands a word where nothing is split: the right side of an assignment.
    pub(super) fn expand(&mut self, word: &Word) -> Result<String, ConfigError> {
        Ok(self.pieces(word, false)?.into_iter().map(|piece| piece.text).collect())
    }

    /// Expands a list element, which becomes any number of elements.
    pub(super) fn expand_split(&mut self, word: &Word) -> Result<Vec<String>, ConfigError> {
        let mut fields = Vec::new();
        let mut field: Option<String> = None;
        for piece in self.pieces(word, false)? {
            if !piece.splits {
                field.get_or_insert_default().push_str(&piece.text);
                continue;
            }
            for character in piece.text.chars() {
                match character {
                    ' ' | '\t' | '\n' => fields.extend(field.take()),
                    _ => field.get_or_insert_default().push(character),
                }
            }
        }
        fields.extend(field);
        Ok(fields)
    }

    /// Expands each part. `text_splits`: unquoted literal text can be split too, as in an unquoted `${A:-a b}`.
    fn pieces(&mut self, word: &Word, text_splits: bool) -> Result<Vec<Piece>, ConfigError> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut total_bytes = 0;
        for part in &word.parts {
            let known = pieces.len();
            match part {
                Part::Text { text, quoted } => {
                    let text =
                        String::from_utf8(text.clone()).map_err(|_| refuse(&word.at, Construct::NotUtf8))?;
                    pieces.push(Piece { text, splits: text_splits && !quoted });
                }
                Part::Home { at } => pieces.push(Piece { text: self.home(at)?, splits: false }),
                Part::Variable { name, fallback, quoted, at } => {
                    let value = self.value(name);
                    let replaced = fallback.as_ref().filter(|fallback| match &value {
                        None => true,
                        Some(text) => fallback.when_empty && text.is_empty(),
                    });
                    match replaced {
                        Some(fallback) => pieces.extend(self.pieces(&fallback.word, !quoted)?),
                        None => {
                            let text = value.map_or_else(|| self.unset(name, at), Ok)?;
                            pieces.push(Piece { text, splits: !quoted });
                        }
                    }
                }
            }
            let added_bytes = pieces[known..].iter().map(|piece| piece.text.len()).sum::<usize>();
            total_bytes += added_bytes;
            check_length(total_bytes, &word.at)?;
            self.expanded_bytes += added_bytes;
            if self.expanded_bytes > MAX_EXPANDED_BYTES {
                return Err(refuse(&word.at, Construct::TooMuch));
            }
        }
        Ok(pieces)
    }

    /// The value `$name` stands for: of a list, its element 0.
    fn value(&mut self, name: &str) -> Option<String> {
        self.used.insert(name.to_owned());
        let element = match self.all.get(name).map(|variable| &variable.shape) {
            None | Some(Shape::Empty) => return self.in_environment(name),
            Some(Shape::One(element)) => Some(element),
            Some(Shape::List(list)) => list.get(&0),
            Some(Shape::Table(table)) => table.get("0"),
        };
        element.map(|element| element.text.clone())
    }

    fn unset(&mut self, name: &str, at: &Place) -> Result<String, ConfigError> {
        if MADE_BY_SHELL.contains(&name) || name.starts_with("BASH") {
            return Err(refuse(at, Construct::ShellVariable { name: name.to_owned() }));
        }
        self.warnings.push(format!("{at}: ${name} is not set and stands for nothing"));
        Ok(String::new())
    }

    fn home(&self, at: &Place) -> Result<String, ConfigError> {
        let home = self.environment.get("HOME").filter(|home| !home.is_empty());
        home.cloned().ok_or_else(|| refuse(at, Construct::HomeUnknown))
    }
}

/// Keeps `A=$A$A` in many lines from filling the memory.
pub(super) fn check_length(bytes: usize, at: &Place) -> Result<(), ConfigError> {
    if bytes > MAX_VALUE_BYTES { Err(refuse(at, Construct::TooLong)) } else { Ok(()) }
}

pub(super) fn refuse(at: &Place, construct: Construct) -> ConfigError {
    ConfigError::Bash { at: at.clone(), construct }
}
