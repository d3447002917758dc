//! Words: text with its quotes taken off and its expansions recognised, not yet expanded.

use super::construct::Construct;
use super::cursor::{Cursor, ends_word};
use crate::error::ConfigError;
use crate::place::Place;

/// How deep `${A:-${B:-…}}` may nest.
const MAX_DEPTH: u32 = 16;
/// Longest subscript; a longer one is a bracket that is never closed.
const MAX_SUBSCRIPT_BYTES: usize = 4096;

/// One piece of a word.
#[derive(Debug)]
pub(super) enum Part {
    /// Literal text. Text in quotes, or escaped, is never split.
    Text { text: Vec<u8>, quoted: bool },
    /// `$NAME` and its braced forms.
    Variable { name: String, fallback: Option<Fallback>, quoted: bool, at: Place },
    /// An unquoted `~` at the beginning.
    Home { at: Place },
}

/// What stands in for a variable that is unset.
#[derive(Debug)]
pub(super) struct Fallback {
    /// `:-` also replaces an empty value; `-` only a missing one.
    pub(super) when_empty: bool,
    pub(super) word: Word,
}

/// A word in pieces.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) parts: Vec<Part>,
    pub(super) at: Place,
}

impl Word {
    /// Whether the word was written as nothing at all, not even as empty quotes.
    pub(super) fn is_absent(&self) -> bool {
        self.parts.is_empty()
    }

    /// Refuses `{a,b}` and `{1..3}` outside quotes, for words where Bash makes several of one.
    pub(super) fn refuse_braces(&self) -> Result<(), ConfigError> {
        let unquoted = self.parts.iter().map(|part| match part {
            Part::Text { text, quoted: false } => text.as_slice(),
            _ => b"",
        });
        let text = unquoted.collect::<Vec<_>>().concat();
        let inner = text.iter().position(|byte| *byte == b'{').map_or(&[][..], |open| &text[open..]);
        if inner.contains(&b',') || inner.windows(2).any(|two| two == b"..") {
            return Err(ConfigError::Bash { at: self.at.clone(), construct: Construct::BraceExpansion });
        }
        Ok(())
    }
}

/// What ends a word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// A blank, a line end or an operator.
    Blank,
    /// The `]` of a subscript.
    Bracket,
    /// The `}` of an expansion outside double quotes.
    Brace,
    /// The `}` of an expansion inside double quotes, where `'` is an ordinary character.
    QuotedBrace,
}

/// Reads a value or list element.
pub(super) fn word(cursor: &mut Cursor<'_>) -> Result<Word, ConfigError> {
    Lexer { cursor, depth: 0 }.word(End::Blank)
}

/// Reads a subscript after its `[`, and the `]`.
pub(super) fn subscript(cursor: &mut Cursor<'_>) -> Result<Word, ConfigError> {
    let start = cursor.at;
    let word = Lexer { cursor: &mut *cursor, depth: 0 }.word(End::Bracket)?;
    if cursor.take(b"]") {
        return Ok(word);
    }
    Err(cursor.refuse(start.saturating_sub(1), Construct::Unclosed { opening: "Bracket [" }))
}

struct Lexer<'c, 't> {
    cursor: &'c mut Cursor<'t>,
    depth: u32,
}

impl Lexer<'_, '_> {
    fn word(&mut self, end: End) -> Result<Word, ConfigError> {
        self.cursor.skip_continuations();
        let start = self.cursor.at;
        let mut parts = Vec::new();
        if matches!(end, End::Blank | End::Brace) && self.cursor.peek() == Some(b'~') {
            parts.push(self.tilde(end)?);
        }
        let mut open_brackets = 0_u32;
        while let Some(byte) = self.cursor.peek() {
            let ends = match end {
                End::Blank => ends_word(byte),
                End::Bracket => {
                    (byte == b']' && open_brackets == 0)
                        || byte == b'\n'
                        || self.cursor.at - start > MAX_SUBSCRIPT_BYTES
                }
                End::Brace | End::QuotedBrace => byte == b'}',
            };
            if ends {
                break;
            }
            match byte {
                b'[' => open_brackets = open_brackets.saturating_add(1),
                b']' => open_brackets = open_brackets.saturating_sub(1),
                _ => {}
            }
            self.part(byte, end, &mut parts)?;
        }
        self.refuse_operator(end)?;
        Ok(Word { parts, at: self.cursor.place(start) })
    }

    /// Reads the piece that begins with `byte`.
    fn part(&mut self, byte: u8, end: End, parts: &mut Vec<Part>) -> Result<(), ConfigError> {
        match byte {
            0 => return Err(self.cursor.refuse(self.cursor.at, Construct::NulByte)),
            b'\\' if end == End::QuotedBrace => self.escape(b"$`\"\\}", parts),
            b'\\' => self.escape(&[], parts),
            b'\'' if end != End::QuotedBrace => self.single_quotes(parts)?,
            b'"' => self.double_quotes(parts)?,
            b'$' => self.dollar(end == End::QuotedBrace, parts)?,
            b'`' => {
                let construct = Construct::CommandSubstitution { text: "`…`" };
                return Err(self.cursor.refuse(self.cursor.at, construct));
            }
            b'~' if end == End::Blank && ends_with_colon(parts) => {
                return Err(self.cursor.refuse(self.cursor.at, Construct::Tilde));
            }
            _ => {
                self.cursor.at += 1;
                push_text(parts, byte, end == End::QuotedBrace);
            }
        }
        Ok(())
    }

    /// `(` and the other operators are never part of a word; `)` ends a list, `;` a statement.
    fn refuse_operator(&self, end: End) -> Result<(), ConfigError> {
        match self.cursor.peek() {
            Some(byte @ (b'&' | b'|' | b'<' | b'>' | b'(')) if end == End::Blank => {
                let operator = char::from(byte);
                Err(self.cursor.refuse(self.cursor.at, Construct::Operator { operator }))
            }
            _ => Ok(()),
        }
    }

    fn tilde(&mut self, end: End) -> Result<Part, ConfigError> {
        let at = self.cursor.at;
        self.cursor.at += 1;
        let home = match self.cursor.peek() {
            None | Some(b'/') => true,
            Some(byte) if end == End::Brace => byte == b'}',
            Some(byte) => ends_word(byte),
        };
        let construct = Construct::Tilde;
        if home {
            Ok(Part::Home { at: self.cursor.place(at) })
        } else {
            Err(self.cursor.refuse(at, construct))
        }
    }

    /// A backslash. It escapes `special` characters, or any if that is empty, and joins lines.
    fn escape(&mut self, special: &[u8], parts: &mut Vec<Part>) {
        self.cursor.at += 1;
        match self.cursor.peek() {
            Some(b'\n') => self.cursor.at += 1,
            // Left for the caller, who refuses it.
            Some(0) => {}
            Some(next) if special.is_empty() || special.contains(&next) => {
                self.cursor.at += 1;
                push_text(parts, next, true);
            }
            _ => push_text(parts, b'\\', true),
        }
    }

    fn single_quotes(&mut self, parts: &mut Vec<Part>) -> Result<(), ConfigError> {
        let start = self.cursor.at;
        self.cursor.at += 1;
        let text = self.cursor.take_while(|byte| byte != b'\'').to_vec();
        if !self.cursor.take(b"'") {
            return Err(self.cursor.refuse(start, Construct::Unclosed { opening: "Quote '" }));
        }
        if text.contains(&0) {
            return Err(self.cursor.refuse(start, Construct::NulByte));
        }
        parts.push(Part::Text { text, quoted: true });
        Ok(())
    }

    fn double_quotes(&mut self, parts: &mut Vec<Part>) -> Result<(), ConfigError> {
        let start = self.cursor.at;
        self.cursor.at += 1;
        parts.push(Part::Text { text: Vec::new(), quoted: true });
        loop {
            match self.cursor.peek() {
                None => {
                    return Err(self.cursor.refuse(start, Construct::Unclosed { opening: "Quote \"" }));
                }
                Some(b'"') => break,
                Some(b'\\') => self.escape(b"$`\"\\", parts),
                Some(b'$') => self.dollar(true, parts)?,
                Some(b'`') => {
                    let construct = Construct::CommandSubstitution { text: "`…`" };
                    return Err(self.cursor.refuse(self.cursor.at, construct));
                }
                Some(0) => return Err(self.cursor.refuse(self.cursor.at, Construct::NulByte)),
                Some(byte) => {
                    self.cursor.at += 1;
                    push_text(parts, byte, true);
                }
            }
        }
        self.cursor.at += 1;
        Ok(())
    }

    fn dollar(&mut self, quoted: bool, parts: &mut Vec<Part>) -> Result<(), ConfigError> {
        let start = self.cursor.at;
        self.cursor.at += 1;
        self.cursor.skip_continuations();
        let refused = match self.cursor.peek() {
            Some(b'(') if self.cursor.starts_with(b"((") => Construct::Arithmetic { text: "$((…))" },
            Some(b'(') => Construct::CommandSubstitution { text: "$(…)" },
            Some(b'[') => Construct::Arithmetic { text: "$[…]" },
            Some(quote @ (b'\'' | b'"')) if !quoted => Construct::DollarQuote { quote: char::from(quote) },
            Some(byte) if byte.is_ascii_digit() || b"@*#?$!-".contains(&byte) => {
                Construct::ShellVariable { name: char::from(byte).to_string() }
            }
            Some(b'{') => return self.braced(start, quoted, parts),
            Some(byte) if byte.is_ascii_alphabetic() || byte == b'_' => {
                let name = self.cursor.take_expanded_name();
                if name != "_" {
                    let at = self.cursor.place(start);
                    parts.push(Part::Variable { name, fallback: None, quoted, at });
                    return Ok(());
                }
                Construct::ShellVariable { name }
            }
            _ => {
                push_text(parts, b'$', quoted);
                return Ok(());
            }
        };
        Err(self.cursor.refuse(start, refused))
    }

    /// `${…}`, from its brace on.
    fn braced(&mut self, start: usize, quoted: bool, parts: &mut Vec<Part>) -> Result<(), ConfigError> {
        self.cursor.at += 1;
        let name = self.cursor.take_expanded_name();
        let fallback = if name.is_empty() || name == "_" {
            return Err(self.unknown_expansion(start, name));
        } else if self.cursor.peek() == Some(b'}') {
            None
        } else if self.cursor.take(b":-") {
            Some(Fallback { when_empty: true, word: self.fallback_word(start, quoted)? })
        } else if self.cursor.take(b"-") {
            Some(Fallback { when_empty: false, word: self.fallback_word(start, quoted)? })
        } else {
            return Err(self.unknown_expansion(start, name));
        };
        if !self.cursor.take(b"}") {
            return Err(self.cursor.refuse(start, Construct::Unclosed { opening: "Expansion ${" }));
        }
        parts.push(Part::Variable { name, fallback, quoted, at: self.cursor.place(start) });
        Ok(())
    }

    fn fallback_word(&mut self, start: usize, quoted: bool) -> Result<Word, ConfigError> {
        if self.depth >= MAX_DEPTH {
            return Err(self.cursor.refuse(start, Construct::TooDeep));
        }
        self.depth += 1;
        let word = self.word(if quoted { End::QuotedBrace } else { End::Brace });
        self.depth -= 1;
        word
    }

    fn unknown_expansion(&mut self, start: usize, name: String) -> ConfigError {
        let Some(byte) = self.cursor.peek() else {
            return self.cursor.refuse(start, Construct::Unclosed { opening: "Expansion ${" });
        };
        let operator = char::from(byte).escape_default().to_string();
        self.cursor.refuse(start, Construct::Expansion { name, operator })
    }
}

fn push_text(parts: &mut Vec<Part>, byte: u8, quoted: bool) {
    match parts.last_mut() {
        Some(Part::Text { text, quoted: last }) if *last == quoted => text.push(byte),
        _ => parts.push(Part::Text { text: vec![byte], quoted }),
    }
}

fn ends_with_colon(parts: &[Part]) -> bool {
    matches!(parts.last(), Some(Part::Text { text, quoted: false }) if text.ends_with(b":"))
}
