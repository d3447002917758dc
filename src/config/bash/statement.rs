//! Statements: assignments, alone or behind `declare` and its like. Everything else is refused by name.

use std::path::Path;

use super::assign::{Declared, ListItem, Target};
use super::construct::Construct;
use super::cursor::{Cursor, ends_word};
use super::variables::{Element, Variables};
use super::word::{self, Part, Word};
use crate::config::error::ConfigError;

const DECLARATIONS: &[&str] = &["declare", "export", "readonly", "typeset"];
const CONTROL_FLOW: &[&str] = &[
    "!", "[", "[[", "break", "case", "continue", "coproc", "do", "done", "elif", "else", "esac", "exit",
    "fi", "for", "if", "in", "return", "select", "test", "then", "time", "until", "while", "{", "}",
];
/// Longest part of an unknown command that an error repeats.
const SHOWN_WORD_BYTES: usize = 40;

/// Reads the statements of one file into the variables.
pub(super) struct Reader<'t, 'v, 'e> {
    cursor: Cursor<'t>,
    variables: &'v mut Variables<'e>,
}

impl<'t, 'v, 'e> Reader<'t, 'v, 'e> {
    pub(super) fn new(file: &Path, text: &'t [u8], variables: &'v mut Variables<'e>) -> Self {
        Self { cursor: Cursor::new(file, text), variables }
    }

    pub(super) fn run(mut self) -> Result<(), ConfigError> {
        loop {
            self.cursor.skip_lines();
            if self.cursor.peek().is_none() {
                return Ok(());
            }
            self.statement()?;
            self.cursor.take(b";");
        }
    }

    /// One statement, up to its `;` or line end.
    fn statement(&mut self) -> Result<(), ConfigError> {
        let start = self.cursor.at;
        let name = self.cursor.take_name();
        if DECLARATIONS.contains(&name.as_str()) && self.cursor.peek().is_none_or(ends_word) {
            return self.declaration(&name);
        }
        self.cursor.at = start;
        let mut assigned = 0;
        while !self.at_statement_end() {
            let word_start = self.cursor.at;
            let name = self.cursor.take_name();
            let first = assigned == 0;
            if name.is_empty() || !self.assignment(&name, word_start, first)? {
                return Err(self.refuse_command(word_start));
            }
            assigned += 1;
        }
        if assigned == 0 { Err(self.refuse_command(start)) } else { Ok(()) }
    }

    /// Goes past blanks and a comment. A word must end before either, which the callers have seen to.
    fn at_statement_end(&mut self) -> bool {
        self.cursor.skip_blanks();
        self.cursor.skip_comment();
        matches!(self.cursor.peek(), None | Some(b'\n' | b';'))
    }

    /// `[subscript]=value` or `+=value` behind a name. False if it is no assignment.
    fn assignment(&mut self, name: &str, start: usize, first: bool) -> Result<bool, ConfigError> {
        let key = if self.cursor.peek() == Some(b'[') { Some(self.subscript()?) } else { None };
        let blanks_before = self.blanks_before_equals(first);
        let append = self.cursor.starts_with(b"+=");
        if !self.cursor.take(b"+=") && !self.cursor.take(b"=") {
            return Ok(false);
        }
        let target = Target { name: name.to_owned(), append, at: self.cursor.place(start) };
        if self.cursor.peek() == Some(b'(') {
            let list_start = self.cursor.at;
            let items = self.list()?;
            if key.is_some() {
                return Err(self.cursor.refuse(list_start, Construct::NestedList));
            }
            self.variables.assign_list(&target, items)?;
            return self.require_word_end();
        }
        let mut word = word::word(&mut self.cursor)?;
        let blanks_after = first && word.is_absent() && self.lone_word_follows();
        if blanks_after {
            self.cursor.skip_blanks();
            word = word::word(&mut self.cursor)?;
        }
        if blanks_before || blanks_after {
            let at = &target.at;
            self.variables
                .warnings
                .push(format!("{at}: Bash knows no blanks around =; read as {name}=value"));
        }
        let value = self.element(&word)?;
        match key {
            Some(key) => self.variables.assign_element(&target, key, value)?,
            None => self.variables.assign(&target, value)?,
        }
        self.require_word_end()
    }

    /// Goes past the blanks of `NAME = value`, which Bash would take for a command.
    fn blanks_before_equals(&mut self, first: bool) -> bool {
        let start = self.cursor.at;
        let blanks = self.cursor.take_while(|byte| byte == b' ' || byte == b'\t').len();
        let comparison = matches!(self.cursor.peek_ahead(1), Some(b'=' | b'~'));
        if first && blanks > 0 && self.cursor.peek() == Some(b'=') && !comparison {
            return true;
        }
        self.cursor.at = start;
        false
    }

    /// Whether `NAME=` is followed by blanks and exactly one word that is no assignment. Moves nothing.
    fn lone_word_follows(&mut self) -> bool {
        let start = self.cursor.at;
        let follows = !self.at_statement_end() && {
            let is_assignment = !self.cursor.take_name().is_empty()
                && (self.cursor.starts_with(b"=")
                    || self.cursor.starts_with(b"+=")
                    || self.cursor.starts_with(b"["));
            !is_assignment && word::word(&mut self.cursor).is_ok() && self.at_statement_end()
        };
        self.cursor.at = start;
        follows
    }

    fn require_word_end(&mut self) -> Result<bool, ConfigError> {
        match self.cursor.peek() {
            Some(byte)
                if !matches!(byte, b' ' | b'\t' | b'\n' | b';') && !self.cursor.starts_with(b"\\\n") =>
            {
                let operator = char::from(byte);
                Err(self.cursor.refuse(self.cursor.at, Construct::Operator { operator }))
            }
            _ => Ok(true),
        }
    }

    fn subscript(&mut self) -> Result<String, ConfigError> {
        self.cursor.at += 1;
        let word = word::subscript(&mut self.cursor)?;
        self.variables.expand(&word)
    }

    fn element(&mut self, word: &Word) -> Result<Element, ConfigError> {
        Ok(Element { text: self.variables.expand(word)?, at: word.at.clone() })
    }

    /// `(…)` with its elements.
    fn list(&mut self) -> Result<Vec<ListItem>, ConfigError> {
        let start = self.cursor.at;
        self.cursor.at += 1;
        let mut items = Vec::new();
        loop {
            self.cursor.skip_lines();
            match self.cursor.peek() {
                None => {
                    return Err(self.cursor.refuse(start, Construct::Unclosed { opening: "List (" }));
                }
                Some(b')') => break,
                Some(b';') => {
                    return Err(self.cursor.refuse(self.cursor.at, Construct::Operator { operator: ';' }));
                }
                Some(_) => self.list_items(&mut items)?,
            }
        }
        self.cursor.at += 1;
        Ok(items)
    }

    /// One written element, which unquoted expansions may turn into none or several.
    fn list_items(&mut self, items: &mut Vec<ListItem>) -> Result<(), ConfigError> {
        if let Some((key, append)) = self.list_key() {
            if self.cursor.peek() == Some(b'(') {
                return Err(self.cursor.refuse(self.cursor.at, Construct::NestedList));
            }
            let key = Some(self.variables.expand(&key)?);
            let word = word::word(&mut self.cursor)?;
            items.push(ListItem { key, append, value: self.element(&word)? });
            return Ok(());
        }
        let word = word::word(&mut self.cursor)?;
        if word.parts.iter().any(is_brace_expansion) {
            return Err(ConfigError::Bash { at: word.at, construct: Construct::BraceExpansion });
        }
        for text in self.variables.expand_split(&word)? {
            let value = Element { text, at: word.at.clone() };
            items.push(ListItem { key: None, append: false, value });
        }
        Ok(())
    }

    /// `[key]=` or `[key]+=`. Anything else that begins with `[` is an ordinary element: a pattern.
    fn list_key(&mut self) -> Option<(Word, bool)> {
        let start = self.cursor.at;
        if self.cursor.take(b"[") {
            if let Ok(key) = word::subscript(&mut self.cursor) {
                let append = self.cursor.starts_with(b"+=");
                if self.cursor.take(b"+=") || self.cursor.take(b"=") {
                    return Some((key, append));
                }
            }
        }
        self.cursor.at = start;
        None
    }

    /// `declare`, `export`, `readonly` or `typeset`, from behind that word on.
    fn declaration(&mut self, command: &str) -> Result<(), ConfigError> {
        let mut declared = Declared::Plain;
        let mut read_only = command == "readonly";
        let mut options_end = false;
        while !self.at_statement_end() {
            let start = self.cursor.at;
            if !options_end && matches!(self.cursor.peek(), Some(b'-' | b'+')) {
                let option = self.cursor.take_while(|byte| !ends_word(byte));
                options_end = option == b"--";
                if !options_end {
                    self.option(command, start, option, &mut declared, &mut read_only)?;
                }
                continue;
            }
            let name = self.cursor.take_name();
            if name.is_empty() {
                return Err(self.refuse_command(start));
            }
            let target = Target { name: name.clone(), append: false, at: self.cursor.place(start) };
            self.variables.declare(&target, declared)?;
            if !self.assignment(&name, start, false)? {
                self.require_word_end()?;
            }
            if read_only {
                self.variables.make_read_only(&name);
            }
        }
        Ok(())
    }

    fn option(
        &self,
        command: &str,
        start: usize,
        option: &[u8],
        declared: &mut Declared,
        read_only: &mut bool,
    ) -> Result<(), ConfigError> {
        let shown = || String::from_utf8_lossy(&option[..option.len().min(SHOWN_WORD_BYTES)]).into_owned();
        let unknown = || {
            let construct = Construct::DeclareOption { word: command.to_owned(), option: shown() };
            self.cursor.refuse(start, construct)
        };
        let letters = option.strip_prefix(b"-").filter(|letters| !letters.is_empty()).ok_or_else(unknown)?;
        for letter in letters {
            match letter {
                b'a' if command != "export" => *declared = Declared::List,
                b'A' if command != "export" => *declared = Declared::Table,
                b'r' if command != "export" && command != "readonly" => *read_only = true,
                b'g' | b'x' if command != "export" && command != "readonly" => {}
                b'i' if command != "export" && command != "readonly" => {
                    let construct = Construct::Arithmetic { text: "declare -i" };
                    return Err(self.cursor.refuse(start, construct));
                }
                _ => return Err(unknown()),
            }
        }
        Ok(())
    }

    /// Names what stands where an assignment should be.
    fn refuse_command(&mut self, start: usize) -> ConfigError {
        self.cursor.at = start;
        let word = self.cursor.take_while(|byte| !ends_word(byte));
        let shown = String::from_utf8_lossy(&word[..word.len().min(SHOWN_WORD_BYTES)]).into_owned();
        self.cursor.skip_blanks();
        let construct = match (shown.as_str(), self.cursor.peek()) {
            ("", Some(b'(')) if self.cursor.starts_with(b"((") => Construct::Arithmetic { text: "((…))" },
            ("", Some(byte)) => Construct::Operator { operator: char::from(byte) },
            ("", None) => Construct::Operator { operator: ' ' },
            ("function", _) => {
                let name = self.cursor.take_while(|byte| !ends_word(byte));
                let name = &name[..name.len().min(SHOWN_WORD_BYTES)];
                Construct::Function { name: String::from_utf8_lossy(name).into_owned() }
            }
            (_, Some(b'(')) => Construct::Function { name: shown },
            ("source" | ".", _) => Construct::SourceFile { word: shown },
            (word, _) if CONTROL_FLOW.contains(&word) => Construct::ControlFlow { word: shown },
            _ if word.starts_with(b"$(") => Construct::CommandSubstitution { text: "$(…)" },
            _ if word.starts_with(b"`") => Construct::CommandSubstitution { text: "`…`" },
            _ => Construct::Command { word: shown },
        };
        self.cursor.refuse(start, construct)
    }
}

fn is_brace_expansion(part: &Part) -> bool {
    let Part::Text { text, quoted: false } = part else { return false };
    let Some(open) = text.iter().position(|byte| *byte == b'{') else { return false };
    let inner = &text[open + 1..];
    inner.contains(&b',') || inner.windows(2).any(|two| two == b"..")
}
