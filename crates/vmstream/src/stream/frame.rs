//! The 40-byte ASCII header that opens every frame: `KIND SP START SP LENGTH CR LF`.
//!
//! START and LENGTH are 16 lower-case hex digits and count bytes of the virtual disk, never stored bytes
//! (except in `meta` and `comp`, whose LENGTH counts their JSON).

/// Bytes of every frame header.
pub const FRAME_HEADER_LEN: usize = 40;

/// The line end that closes headers, payloads and JSON texts.
pub const CRLF: &[u8; 2] = b"\r\n";

/// [`FRAME_HEADER_LEN`], to count with in a file.
pub(super) const HEADER: u64 = FRAME_HEADER_LEN as u64;

/// Bytes of a [`CRLF`], to count with in a file.
pub(super) const LINE_END: u64 = CRLF.len() as u64;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// JSON that describes the stream. Always the first frame.
    Meta,
    /// Content of a disk range.
    Data,
    /// A disk range that reads as zeros. Nothing follows the header.
    Zero,
    /// The end of the frames.
    Stop,
    /// Closes the trailer of a compressed stream: the last bytes of the file.
    Comp,
}

impl FrameKind {
    /// The four letters that name the kind in a header.
    pub fn tag(self) -> &'static [u8; 4] {
        match self {
            Self::Meta => b"meta",
            Self::Data => b"data",
            Self::Zero => b"zero",
            Self::Stop => b"stop",
            Self::Comp => b"comp",
        }
    }

    fn from_tag(tag: &[u8]) -> Option<Self> {
        [Self::Meta, Self::Data, Self::Zero, Self::Stop, Self::Comp]
            .into_iter()
            .find(|kind| kind.tag() == tag)
    }
}

/// One frame header. `start + len` may pass `u64::MAX` in a hostile file: use [`FrameHeader::end`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameHeader {
    /// What follows.
    pub kind: FrameKind,
    /// Offset in the disk; 0 for `meta`, `stop` and `comp`.
    pub start: u64,
    /// Bytes of disk content; of JSON for `meta` and `comp`; 0 for `stop`.
    pub len: u64,
}

/// Why 40 bytes are not a frame header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameHeaderError {
    /// The separators, line end or hex digits are not in their places.
    #[error("No frame header here: {found:?} does not read as KIND START LENGTH")]
    Malformed {
        /// The bytes that were read, made printable.
        found: String,
    },
    /// The form is right, the kind is none that this version knows.
    #[error("Unknown frame kind {found:?}: the stream is damaged or newer than this program")]
    UnknownKind {
        /// The four letters that were read, made printable.
        found: String,
    },
}

impl FrameHeader {
    /// The first byte after the range, `None` when that passes `u64::MAX`.
    pub fn end(&self) -> Option<u64> {
        self.start.checked_add(self.len)
    }

    /// The header as it stands in a stream.
    pub fn encode(&self) -> [u8; FRAME_HEADER_LEN] {
        let mut bytes = [b' '; FRAME_HEADER_LEN];
        bytes[..4].copy_from_slice(self.kind.tag());
        put_hex(&mut bytes[5..21], self.start);
        put_hex(&mut bytes[22..38], self.len);
        bytes[38..].copy_from_slice(CRLF);
        bytes
    }

    /// Reads a header. Accepts exactly what [`FrameHeader::encode`] writes.
    ///
    /// # Errors
    /// [`FrameHeaderError`] with the bytes found, for anything else.
    pub fn parse(bytes: &[u8; FRAME_HEADER_LEN]) -> Result<Self, FrameHeaderError> {
        let malformed = || FrameHeaderError::Malformed { found: bytes.escape_ascii().to_string() };
        if bytes[4] != b' ' || bytes[21] != b' ' || &bytes[38..] != CRLF {
            return Err(malformed());
        }
        let start = hex(&bytes[5..21]).ok_or_else(malformed)?;
        let len = hex(&bytes[22..38]).ok_or_else(malformed)?;
        let kind = FrameKind::from_tag(&bytes[..4])
            .ok_or_else(|| FrameHeaderError::UnknownKind { found: bytes[..4].escape_ascii().to_string() })?;
        Ok(Self { kind, start, len })
    }
}

fn put_hex(digits: &mut [u8], value: u64) {
    for (place, digit) in digits.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(value >> (4 * place) & 0xf) as usize];
    }
}

fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_as_the_format_says() {
        let header = FrameHeader { kind: FrameKind::Data, start: 0xa2_0000, len: 0x1de_0000 };
        assert_eq!(&header.encode(), b"data 0000000000a20000 0000000001de0000\r\n");
        let stop = FrameHeader { kind: FrameKind::Stop, start: 0, len: 0 };
        assert_eq!(&stop.encode(), b"stop 0000000000000000 0000000000000000\r\n");
    }

    #[test]
    fn every_kind_and_extreme_value_survives_a_round_trip() {
        for kind in [FrameKind::Meta, FrameKind::Data, FrameKind::Zero, FrameKind::Stop, FrameKind::Comp] {
            for (start, len) in [(0, 0), (1, u64::MAX), (u64::MAX, 0x0123_4567_89ab_cdef)] {
                let header = FrameHeader { kind, start, len };
                assert_eq!(FrameHeader::parse(&header.encode()), Ok(header));
            }
        }
    }

    #[test]
    fn any_changed_byte_is_refused_or_changes_the_meaning() {
        let header = FrameHeader { kind: FrameKind::Zero, start: 0x1000, len: 0x2000 };
        for place in 0..FRAME_HEADER_LEN {
            for value in 0..=255u8 {
                let mut bytes = header.encode();
                if bytes[place] == value {
                    continue;
                }
                bytes[place] = value;
                assert_ne!(FrameHeader::parse(&bytes), Ok(header), "byte {place} as {value}");
            }
        }
    }

    #[test]
    fn refuses_what_python_would_not_write() {
        let cases: [(&str, &[u8; 40]); 4] = [
            ("upper-case hex", b"data 0000000000A20000 0000000001de0000\r\n"),
            ("no line end", b"data 0000000000a20000 0000000001de0000\n\n"),
            ("a sign", b"data +000000000a20000 0000000001de0000\r\n"),
            ("unknown kind", b"dato 0000000000a20000 0000000001de0000\r\n"),
        ];
        for (name, bytes) in cases {
            assert!(FrameHeader::parse(bytes).is_err(), "{name}");
        }
    }
}
