//! The checksum file beside a stream, as a number or a finding.

use super::finding::{Finding, Level};
use crate::stream::checksum;
use std::path::Path;

/// The decimal number in a checksum file.
pub(crate) fn recorded(path: &Path) -> Result<u32, Finding> {
    match checksum::read_file(path) {
        Err(error) => Err(Finding::about(Level::Unreadable, path, error.to_string())),
        Ok(Some(recorded)) => Ok(recorded),
        Ok(None) => {
            let message = "the checksum file does not hold a number".to_owned();
            Err(Finding::about(Level::Damage, path, message))
        }
    }
}
