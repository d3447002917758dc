//! The domain's definition over time, in the folder `config` beside a chain: restore scripts fall back to it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Zoned;
use vmstore::durable;
use vmstore::presence::there;

/// The definition could not be kept.
#[derive(Debug, thiserror::Error)]
#[error("Cannot keep the definition in {}: {source}", path.display())]
pub struct DefinitionError {
    path: PathBuf,
    source: io::Error,
}

/// Keeps `xml` as `config/VM_config_YYYYMMDD_HHMMSS.xml` unless it is the one that was kept last; the first of a period
/// also as `VM_config_PERIOD_FIRST.xml`. Returns the file when one was written.
pub fn keep_definition(
    chain_dir: &Path,
    vm: &str,
    period: &str,
    xml: &str,
    now: &Zoned,
) -> Result<Option<PathBuf>, DefinitionError> {
    let folder = chain_dir.join("config");
    let failed = |path: &Path, source| DefinitionError { path: path.to_owned(), source };
    let prefix = format!("{vm}_config_");
    let first = folder.join(format!("{prefix}{period}_FIRST.xml"));
    let kept = folder.join(format!("{prefix}{}.xml", now.strftime("%Y%m%d_%H%M%S")));
    fs::create_dir_all(&folder).map_err(|e| failed(&folder, e))?;
    let has_first = there(&first).map_err(|e| failed(&first, e))?;
    if has_first && newest(&folder, &prefix).map_err(|e| failed(&folder, e))?.is_some_and(|last| last == xml)
    {
        return Ok(None);
    }
    durable::replace(&kept, 0o640, xml.as_bytes()).map_err(|e| failed(&kept, e))?;
    if !has_first {
        durable::replace(&first, 0o640, xml.as_bytes()).map_err(|e| failed(&first, e))?;
    }
    Ok(Some(kept))
}

/// The definition that was kept last, by the time in the name.
fn newest(folder: &Path, prefix: &str) -> io::Result<Option<String>> {
    let mut dated: Vec<String> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let date = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(".xml"));
        if date.is_some_and(|date| !date.is_empty() && date.bytes().all(|b| b.is_ascii_digit() || b == b'_'))
        {
            dated.push(name);
        }
    }
    dated.into_iter().max().map(|name| fs::read_to_string(folder.join(name))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_kept_when_it_is_another_than_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let at = |second: i8| {
            jiff::civil::date(2026, 11, 22).at(1, 2, second, 0).to_zoned(jiff::tz::TimeZone::UTC).unwrap()
        };
        let keep = |xml: &str, second: i8| {
            let kept = keep_definition(dir.path(), "web 1", "202611", xml, &at(second)).unwrap();
            kept.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        };
        assert_eq!(keep("<a/>", 1).as_deref(), Some("web 1_config_20261122_010201.xml"));
        assert_eq!(keep("<a/>", 2), None);
        assert_eq!(keep("<b/>", 3).as_deref(), Some("web 1_config_20261122_010203.xml"));
        assert_eq!(keep("<a/>", 4).as_deref(), Some("web 1_config_20261122_010204.xml"));
        let first = dir.path().join("config/web 1_config_202611_FIRST.xml");
        assert_eq!(fs::read_to_string(first).unwrap(), "<a/>");
        assert_eq!(fs::read_dir(dir.path().join("config")).unwrap().count(), 4);
    }
}
