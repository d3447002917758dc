//! The trailer of a compressed stream: the stored length of every data frame, in order, as a JSON array.
//!
//! A big stream has millions of entries, so the parser reads them one by one and keeps none.

use super::codec::MAX_PIECE_LEN;
use std::io::BufRead;

/// The least a full piece can shrink to: LZ4 spends one byte per 255 bytes of the longest run.
const MIN_STORED_FULL_PIECE: u64 = MAX_PIECE_LEN / 256;

/// How one data frame is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrailerEntry {
    /// One compressed frame of so many bytes: data frames shorter than [`MAX_PIECE_LEN`].
    Plain(u64),
    /// One LZ4 frame per [`MAX_PIECE_LEN`] of content: data frames of that length and longer.
    Pieces(Vec<u64>),
}

impl TrailerEntry {
    /// Stored bytes of the whole data frame, `None` past `u64::MAX`.
    pub fn stored_len(&self) -> Option<u64> {
        match self {
            Self::Plain(len) => Some(*len),
            Self::Pieces(lens) => lens.iter().try_fold(0u64, |sum, len| sum.checked_add(*len)),
        }
    }
}

/// Why a trailer was refused.
#[derive(Debug, thiserror::Error)]
pub enum TrailerError {
    /// Another byte than the form allows.
    #[error("The trailer is not a list of lengths: found {found} at its byte {at}, expected {want}")]
    Unexpected {
        /// Bytes from the start of the trailer.
        at: u64,
        /// The byte found, made printable, or `the end`.
        found: String,
        /// What may stand there.
        want: &'static str,
    },
    /// A number that cannot be a length inside this file.
    #[error("The trailer names a length larger than the file ({limit} bytes) at its byte {at}")]
    TooLarge {
        /// Bytes from the start of the trailer.
        at: u64,
        /// Bytes of the file.
        limit: u64,
    },
    /// A full piece shorter than LZ4 can make it.
    #[error(
        "The trailer names a stored piece of {len} bytes at its byte {at}, too short for {MAX_PIECE_LEN}"
    )]
    TooSmall {
        /// Bytes from the start of the trailer.
        at: u64,
        /// The length it names.
        len: u64,
    },
    /// The sum that stands before the pieces is not their sum.
    #[error("The trailer names a total of {total} bytes for pieces that sum to {sum}, at its byte {at}")]
    WrongTotal {
        /// Bytes from the start of the trailer.
        at: u64,
        /// The total it names.
        total: u64,
        /// The sum of the pieces.
        sum: u64,
    },
    /// The file could not be read.
    #[error("Cannot read the trailer at its byte {at}")]
    Read {
        /// Bytes from the start of the trailer.
        at: u64,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The array as Python's `json.dumps` prints it.
pub fn encode(entries: &[TrailerEntry]) -> Vec<u8> {
    let list = |lens: &[u64]| lens.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let mut out = Vec::with_capacity(2 + entries.len() * 9);
    out.push(b'[');
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        match entry {
            TrailerEntry::Plain(len) => out.extend_from_slice(len.to_string().as_bytes()),
            TrailerEntry::Pieces(lens) => {
                let total: u64 = lens.iter().sum();
                out.extend_from_slice(format!("{{\"{total}\": [{}]}}", list(lens)).as_bytes());
            }
        }
    }
    out.push(b']');
    out
}

/// Reads a whole trailer. For small ones; [`TrailerParser`] needs no memory for the list.
///
/// # Errors
/// [`TrailerError`] at the first byte that does not fit.
pub fn parse(json: &[u8], limit: u64) -> Result<Vec<TrailerEntry>, TrailerError> {
    let mut parser = TrailerParser::new(json, limit);
    let mut entries = Vec::new();
    while let Some(entry) = parser.next_entry()? {
        entries.push(entry);
    }
    Ok(entries)
}

/// Reads entries one by one from exactly the trailer's bytes.
///
/// `limit` is the file's length: no entry may claim more, and that also caps the memory of one entry's list.
#[derive(Debug)]
pub struct TrailerParser<R> {
    input: R,
    at: u64,
    limit: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    AfterEntry,
    End,
}

impl<R: BufRead> TrailerParser<R> {
    /// Starts before the opening bracket.
    pub fn new(input: R, limit: u64) -> Self {
        Self { input, at: 0, limit, state: State::Start }
    }

    /// The next entry, `None` after the last one. At the end it checks that nothing but blanks follows.
    ///
    /// # Errors
    /// [`TrailerError`] at the first byte that does not fit. Calling on after an error means nothing.
    pub fn next_entry(&mut self) -> Result<Option<TrailerEntry>, TrailerError> {
        match self.state {
            State::End => return Ok(None),
            State::Start => {
                self.expect(b'[', "an opening bracket")?;
                if self.skip_blanks()? == Some(b']') {
                    return self.close();
                }
            }
            State::AfterEntry => match self.skip_blanks()? {
                Some(b']') => return self.close(),
                _ => self.expect(b',', "a comma or a closing bracket")?,
            },
        }
        self.state = State::AfterEntry;
        match self.skip_blanks()? {
            Some(b'{') => self.pieces().map(Some),
            _ => self.number().map(|len| Some(TrailerEntry::Plain(len))),
        }
    }

    fn close(&mut self) -> Result<Option<TrailerEntry>, TrailerError> {
        self.expect(b']', "a closing bracket")?;
        match self.skip_blanks()? {
            None => self.state = State::End,
            Some(_) => return Err(self.unexpected("the end of the trailer")?),
        }
        Ok(None)
    }

    /// `{"TOTAL": [len, len, …]}`
    fn pieces(&mut self) -> Result<TrailerEntry, TrailerError> {
        self.expect(b'{', "an opening brace")?;
        self.expect(b'"', "a quoted total")?;
        let total = self.number()?;
        if self.peek()? != Some(b'"') {
            return Err(self.unexpected("a closing quote")?);
        }
        self.bump();
        self.expect(b':', "a colon")?;
        self.expect(b'[', "an opening bracket")?;
        let (mut lens, mut sum) = (Vec::new(), 0u64);
        loop {
            self.skip_blanks()?;
            let len = self.number()?;
            sum = sum
                .checked_add(len)
                .filter(|sum| *sum <= self.limit)
                .ok_or(TrailerError::TooLarge { at: self.at, limit: self.limit })?;
            lens.push(len);
            if self.skip_blanks()? == Some(b']') {
                break;
            }
            if len < MIN_STORED_FULL_PIECE {
                return Err(TrailerError::TooSmall { at: self.at, len });
            }
            self.expect(b',', "a comma or a closing bracket")?;
        }
        self.expect(b']', "a closing bracket")?;
        self.expect(b'}', "a closing brace")?;
        if sum != total {
            return Err(TrailerError::WrongTotal { at: self.at, total, sum });
        }
        Ok(TrailerEntry::Pieces(lens))
    }

    fn number(&mut self) -> Result<u64, TrailerError> {
        let Some(mut digit @ b'0'..=b'9') = self.peek()? else {
            return Err(self.unexpected("a length")?);
        };
        let mut value = 0u64;
        loop {
            value = value
                .checked_mul(10)
                .and_then(|value| value.checked_add(u64::from(digit - b'0')))
                .filter(|value| *value <= self.limit)
                .ok_or(TrailerError::TooLarge { at: self.at, limit: self.limit })?;
            self.bump();
            match self.peek()? {
                Some(next @ b'0'..=b'9') if value > 0 => digit = next,
                Some(b'0'..=b'9') => return Err(self.unexpected("a length without leading zero")?),
                _ => return Ok(value),
            }
        }
    }

    fn expect(&mut self, byte: u8, want: &'static str) -> Result<(), TrailerError> {
        if self.skip_blanks()? != Some(byte) {
            return Err(self.unexpected(want)?);
        }
        self.bump();
        Ok(())
    }

    fn skip_blanks(&mut self) -> Result<Option<u8>, TrailerError> {
        loop {
            match self.peek()? {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.bump(),
                other => return Ok(other),
            }
        }
    }

    fn peek(&mut self) -> Result<Option<u8>, TrailerError> {
        match self.input.fill_buf() {
            Ok(bytes) => Ok(bytes.first().copied()),
            Err(source) => Err(TrailerError::Read { at: self.at, source }),
        }
    }

    /// Only after `peek` returned a byte.
    fn bump(&mut self) {
        self.input.consume(1);
        self.at += 1;
    }

    fn unexpected(&mut self, want: &'static str) -> Result<TrailerError, TrailerError> {
        let found = match self.peek()? {
            None => "the end".to_owned(),
            Some(byte) => format!("{:?}", [byte].escape_ascii().to_string()),
        };
        Ok(TrailerError::Unexpected { at: self.at, found, want })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn prints_and_reads_what_python_prints() {
        let cases: [(&str, Vec<TrailerEntry>); 3] = [
            ("[]", vec![]),
            ("[8792, 43]", vec![TrailerEntry::Plain(8792), TrailerEntry::Plain(43)]),
            (
                "[17560, 307531, {\"157872\": [140312, 17560]}]",
                vec![
                    TrailerEntry::Plain(17560),
                    TrailerEntry::Plain(307_531),
                    TrailerEntry::Pieces(vec![140_312, 17560]),
                ],
            ),
        ];
        for (json, entries) in cases {
            assert_eq!(String::from_utf8(encode(&entries)).unwrap(), json);
            assert_eq!(parse(json.as_bytes(), 1 << 20).unwrap(), entries, "{json}");
        }
    }

    #[test]
    fn other_blanks_are_read() {
        let want = vec![TrailerEntry::Plain(1), TrailerEntry::Pieces(vec![131_072, 3])];
        assert_eq!(parse(b" [1,\n{ \"131075\" :[131072 ,3] }\t]\r\n", 1 << 20).unwrap(), want);
    }

    #[test]
    fn refuses_every_other_form() {
        let cases = [
            "",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1]]",
            "[1]x",
            "{}",
            "[01]",
            "[-1]",
            "[1.0]",
            "[1e3]",
            "[\"1\"]",
            "[[1]]",
            "[null]",
            "[{}]",
            "[{\"0\": []}]",
            "[{\"5\": [4]}]",
            "[{\"4\": [4]",
            "[{5: [5]}]",
            "[{\"4\": [4], \"5\": [5]}]",
            "[{\"3\": [1, 2]}]",
            "[1048577]",
            "[99999999999999999999999999]",
            "[{\"1200000\": [600000, 600000]}]",
        ];
        for json in cases {
            assert!(parse(json.as_bytes(), 1 << 20).is_err(), "{json}");
        }
    }
}
