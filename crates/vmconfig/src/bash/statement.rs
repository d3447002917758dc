//! Statements: assignments, alone or behind `declare` and its like. Everything else is refused by name.

use std::path::Path;

use super::assign::{Assigned, Assignment, Declared, List, ListItem, Target};
use super::construct::Construct;
use super::cursor::{Cursor, ends_word};
use super::variables::{Element, Variables};
use super::word::{self, Part, Word};
use crate::error::ConfigError;

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

/// Where in its statement an assignment stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Position {
    /// At the beginning, where blanks around `=` can be told from a command's arguments.
    First,
    /// Behind another assignment.
    Later,
    /// Behind `declare` and its like, where Bash expands braces.
    Declared,
}

/// What the options of a declaration ask for.
struct Options {
    declared: Declared,
    read_only: bool,
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
            let position = if assigned == 0 { Position::First } else { Position::Later };
            let assignment =
                if name.is_empty() { None } else { self.assignment(&name, word_start, position)? };
            let assignment = assignment.ok_or_else(|| self.refuse_command(word_start))?;
            self.variables.apply(assignment)?;
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

    /// `[subscript]=value` or `+=value` behind a name, expanded. `None` if it is no assignment.
    fn assignment(
        &mut self,
        name: &str,
        start: usize,
        position: Position,
    ) -> Result<Option<Assignment>, ConfigError> {
        let key = if self.cursor.peek() == Some(b'[') { Some(self.subscript(position)?) } else { None };
        let blanks_before = position == Position::First && self.blanks_before_equals();
        let append = self.cursor.starts_with(b"+=");
        if !self.cursor.take(b"+=") && !self.cursor.take(b"=") {
            return Ok(None);
        }
        let target = Target { name: name.to_owned(), append, at: self.cursor.place(start) };
        if self.cursor.peek() == Some(b'(') {
            let list_start = self.cursor.at;
            let value = Assigned::List(self.list()?);
            if key.is_some() {
                return Err(self.cursor.refuse(list_start, Construct::NestedList));
            }
            self.require_word_end()?;
            return Ok(Some(Assignment { target, value }));
        }
        let mut word = word::word(&mut self.cursor)?;
        let blanks_after = position == Position::First && word.is_absent() && self.lone_word_follows();
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
        self.require_word_end()?;
        if position == Position::Declared {
            word.refuse_braces()?;
        }
        let value = Assigned::One { key, value: self.element(&word)? };
        Ok(Some(Assignment { target, value }))
    }

    /// Goes past the blanks of `NAME = value`, which Bash would take for a command.
    fn blanks_before_equals(&mut self) -> bool {
        let start = self.cursor.at;
        let blanks = self.cursor.take_while(|byte| byte == b' ' || byte == b'\t').len();
        let comparison = matches!(self.cursor.peek_ahead(1), Some(b'=' | b'~'));
        if blanks > 0 && self.cursor.peek() == Some(b'=') && !comparison {
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

    fn require_word_end(&mut self) -> Result<(), ConfigError> {
        self.cursor.skip_continuations();
        match self.cursor.peek() {
            Some(byte) if !matches!(byte, b' ' | b'\t' | b'\n' | b';') => {
                let operator = char::from(byte);
                Err(self.cursor.refuse(self.cursor.at, Construct::Operator { operator }))
            }
            _ => Ok(()),
        }
    }

    fn subscript(&mut self, position: Position) -> Result<String, ConfigError> {
        self.cursor.at += 1;
        let word = word::subscript(&mut self.cursor)?;
        if position == Position::Declared {
            word.refuse_braces()?;
        }
        self.variables.expand(&word)
    }

    fn element(&mut self, word: &Word) -> Result<Element, ConfigError> {
        Ok(Element { text: self.variables.expand(word)?, at: word.at.clone() })
    }

    /// `(…)` with its elements.
    fn list(&mut self) -> Result<List, ConfigError> {
        let start = self.cursor.at;
        self.cursor.at += 1;
        let mut list = List::default();
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
                Some(_) => self.list_items(&mut list)?,
            }
        }
        self.cursor.at += 1;
        Ok(list)
    }

    /// One written element, which unquoted expansions may turn into none or several.
    fn list_items(&mut self, list: &mut List) -> Result<(), ConfigError> {
        if let Some((key, append)) = self.list_key()? {
            if self.cursor.peek() == Some(b'(') {
                return Err(self.cursor.refuse(self.cursor.at, Construct::NestedList));
            }
            let key = Some(self.variables.expand(&key)?);
            let word = word::word(&mut self.cursor)?;
            if let Some(Part::Home { at }) = word.parts.first() {
                // Bash expands it in a list and leaves it alone in a table.
                return Err(ConfigError::Bash { at: at.clone(), construct: Construct::Tilde });
            }
            list.items.push(ListItem { key, append, value: self.element(&word)? });
            return Ok(());
        }
        let word = word::word(&mut self.cursor)?;
        word.refuse_braces()?;
        list.has_unnamed = true;
        for text in self.variables.expand_split(&word)? {
            let value = Element { text, at: word.at.clone() };
            list.items.push(ListItem { key: None, append: false, value });
        }
        Ok(())
    }

    /// `[key]=` or `[key]+=`. Anything else that begins with `[` is an ordinary element: a pattern.
    ///
    /// A bracket that is open at the end of that element is refused: Bash would read on to find its end.
    fn list_key(&mut self) -> Result<Option<(Word, bool)>, ConfigError> {
        let start = self.cursor.at;
        if !self.cursor.take(b"[") {
            return Ok(None);
        }
        let key = word::subscript(&mut self.cursor)?;
        let append = self.cursor.starts_with(b"+=");
        if self.cursor.take(b"+=") || self.cursor.take(b"=") {
            return Ok(Some((key, append)));
        }
        let bracket_end = self.cursor.at;
        self.cursor.at = start;
        word::word(&mut self.cursor)?;
        if self.cursor.at < bracket_end {
            return Err(self.cursor.refuse(start, Construct::Unclosed { opening: "Bracket [" }));
        }
        self.cursor.at = start;
        Ok(None)
    }

    /// `declare`, `export`, `readonly` or `typeset`, from behind that word on.
    ///
    /// As in Bash, all values are expanded before the first one is assigned.
    fn declaration(&mut self, command: &str) -> Result<(), ConfigError> {
        let mut options = Options { declared: Declared::Plain, read_only: command == "readonly" };
        let mut options_end = false;
        let mut arguments = Vec::new();
        while !self.at_statement_end() {
            let start = self.cursor.at;
            if !options_end && matches!(self.cursor.peek(), Some(b'-' | b'+')) {
                let option = self.cursor.take_while(|byte| !ends_word(byte));
                options_end = option == b"--";
                if !options_end {
                    self.option(command, start, option, &mut options)?;
                }
                continue;
            }
            arguments.push(self.declared_name(command, start)?);
        }
        // Bash assigns lists before single values, which shows when a name comes twice.
        let is_list = |assignment: &Assignment| matches!(assignment.value, Assigned::List(_));
        arguments.sort_by_key(|(_, assignment)| !assignment.as_ref().is_some_and(is_list));
        for (target, assignment) in arguments {
            self.variables.declare(&target, options.declared)?;
            if let Some(assignment) = assignment {
                self.variables.apply(assignment)?;
            }
            if options.read_only {
                self.variables.make_read_only(&target.name);
            }
        }
        Ok(())
    }

    /// `NAME` or `NAME=value` as an argument of a declaration.
    fn declared_name(
        &mut self,
        command: &str,
        start: usize,
    ) -> Result<(Target, Option<Assignment>), ConfigError> {
        let name = self.cursor.take_name();
        if name.is_empty() {
            return Err(self.refuse_command(start));
        }
        if self.cursor.peek() == Some(b'[') && matches!(command, "export" | "readonly") {
            return Err(self.cursor.refuse(self.cursor.at, Construct::Operator { operator: '[' }));
        }
        let assignment = self.assignment(&name, start, Position::Declared)?;
        if assignment.is_none() {
            self.require_word_end()?;
        }
        Ok((Target { name, append: false, at: self.cursor.place(start) }, assignment))
    }

    fn option(
        &self,
        command: &str,
        start: usize,
        option: &[u8],
        options: &mut Options,
    ) -> Result<(), ConfigError> {
        let shown = || String::from_utf8_lossy(&option[..option.len().min(SHOWN_WORD_BYTES)]).into_owned();
        let unknown = || {
            let construct = Construct::DeclareOption { word: command.to_owned(), option: shown() };
            self.cursor.refuse(start, construct)
        };
        let letters = option.strip_prefix(b"-").filter(|letters| !letters.is_empty()).ok_or_else(unknown)?;
        for letter in letters {
            match letter {
                b'a' if command != "export" => options.declared = Declared::List,
                b'A' if command != "export" => options.declared = Declared::Table,
                b'r' if command != "export" && command != "readonly" => options.read_only = true,
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
            ("$", Some(b'(')) => Construct::CommandSubstitution { text: "$(…)" },
            ("function", _) => {
                let name = self.cursor.take_while(|byte| !ends_word(byte));
                let name = &name[..name.len().min(SHOWN_WORD_BYTES)];
                Construct::Function { name: String::from_utf8_lossy(name).into_owned() }
            }
            (_, Some(b'(')) => Construct::Function { name: shown },
            ("source" | ".", _) => Construct::SourceFile { word: shown },
            (word, _) if CONTROL_FLOW.contains(&word) => Construct::ControlFlow { word: shown },
            _ if word.starts_with(b"`") => Construct::CommandSubstitution { text: "`…`" },
            _ => Construct::Command { word: shown },
        };
        self.cursor.refuse(start, construct)
    }
}
