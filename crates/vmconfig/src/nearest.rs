//! Finds the known key that an unknown one was probably meant to be.

use super::keys::VM_TABLES;
use super::table::KEYS;

/// Longer names are no typing mistakes.
const MAX_NAME_BYTES: usize = 64;

/// The known name nearest to `name`, if it is near: at most a third of its letters differ. Case does not count.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > MAX_NAME_BYTES {
        return None;
    }
    let upper = name.to_ascii_uppercase();
    let known = KEYS.iter().map(|key| key.name).chain(VM_TABLES).chain(["EXCLUDE_PATTERNS"]);
    let (distance, found) = known.map(|known| (strsim::levenshtein(&upper, known), known)).min()?;
    (distance <= found.len() / 3).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_nearest_name_or_none() {
        let cases = [
            ("BACKUP_PTAH", Some("BACKUP_PATH")),
            ("log_level", Some("LOG_LEVEL")),
            ("LOG_CSV_KEEP_DAYS", Some("LOG_KEEP_DAYS")),
            ("VM_POLICIES", Some("VM_POLICY")),
            ("RETENTION_DAY", Some("RETENTION_DAYS")),
            ("HELLO", None),
            ("", None),
            (&"X".repeat(5000), None),
        ];
        for (name, want) in cases {
            assert_eq!(nearest(name), want, "{name}");
        }
    }
}
