//! Input bytes as numbers and texts, for targets that build something out of them.

/// What is left of an input. An empty one gives zeros and empty texts.
pub(crate) struct Structured<'a>(pub(crate) &'a [u8]);

impl<'a> Structured<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    /// Up to so many bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// From 0 to `most`.
    pub(crate) fn number(&mut self, most: u64) -> u64 {
        let value = self.bytes(8).iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        if most == u64::MAX { value } else { value % (most + 1) }
    }

    /// Up to 31 bytes, what is no UTF-8 replaced.
    pub(crate) fn text(&mut self) -> String {
        let len = self.byte() % 32;
        String::from_utf8_lossy(self.bytes(len.into())).into_owned()
    }
}
