//! `DOMAIN.cpt`: the JSON array of a chain's checkpoints. A point exists once it stands there.

use super::ident::{CheckpointName, NameError};
use crate::regular;
use std::io::Read;
use std::path::Path;

/// The most bytes of a list that a reader accepts: room for more than a hundred thousand points.
const MAX_LIST_LEN: u64 = 4 << 20;

/// Why a checkpoint list could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CptError {
    /// The file could not be read.
    #[error("Cannot read the checkpoint list")]
    Read {
        /// What the system said.
        source: std::io::Error,
    },
    /// Longer than any chain.
    #[error("The checkpoint list has more than {MAX_LIST_LEN} bytes")]
    TooLong,
    /// Not a JSON array of strings.
    #[error("The checkpoint list is not a JSON array of names")]
    NotAList {
        /// Where it stops being one.
        source: serde_json::Error,
    },
    /// A name of somebody else.
    #[error("The checkpoint list has a foreign entry")]
    Foreign {
        /// Which one.
        source: NameError,
    },
    /// A list that no chain can have.
    #[error("The checkpoint list has {name} after {before}")]
    Order {
        /// The name out of order.
        name: CheckpointName,
        /// The one before it.
        before: CheckpointName,
    },
}

/// Reads a list from its file.
///
/// # Errors
/// [`CptError`]; gaps are allowed here, names twice or out of order are not.
pub fn read(path: &Path) -> Result<Vec<CheckpointName>, CptError> {
    let mut bytes = Vec::new();
    regular::open(path)
        .and_then(|file| file.take(MAX_LIST_LEN + 1).read_to_end(&mut bytes))
        .map_err(|source| CptError::Read { source })?;
    if bytes.len() as u64 > MAX_LIST_LEN {
        return Err(CptError::TooLong);
    }
    parse(&bytes)
}

/// Reads a list from its text.
///
/// # Errors
/// As [`read`].
pub fn parse(json: &[u8]) -> Result<Vec<CheckpointName>, CptError> {
    let names: Vec<String> = serde_json::from_slice(json).map_err(|source| CptError::NotAList { source })?;
    let mut list: Vec<CheckpointName> = Vec::with_capacity(names.len());
    for name in names {
        let name: CheckpointName = name.parse().map_err(|source| CptError::Foreign { source })?;
        if let Some(&before) = list.last().filter(|before| **before >= name) {
            return Err(CptError::Order { name, before });
        }
        list.push(name);
    }
    Ok(list)
}

/// The text as Python's `json.dumps` prints it, without a line end.
pub fn encode(names: &[CheckpointName]) -> Vec<u8> {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    format!("[{}]", quoted.join(", ")).into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn prints_and_reads_what_python_prints() {
        for (count, json) in
            [(0, "[]"), (1, r#"["virtnbdbackup.0"]"#), (2, r#"["virtnbdbackup.0", "virtnbdbackup.1"]"#)]
        {
            let names: Vec<_> = (0..count).map(CheckpointName::new).collect();
            assert_eq!(String::from_utf8(encode(&names)).unwrap(), json);
            assert_eq!(parse(json.as_bytes()).unwrap(), names);
        }
    }

    #[test]
    fn refuses_other_texts() {
        let cases = [
            "",
            "[",
            "{}",
            "[1]",
            r#"["foreign"]"#,
            r#"["virtnbdbackup.0", "virtnbdbackup.0"]"#,
            r#"["virtnbdbackup.1", "virtnbdbackup.0"]"#,
        ];
        for json in cases {
            assert!(parse(json.as_bytes()).is_err(), "{json}");
        }
    }
}
