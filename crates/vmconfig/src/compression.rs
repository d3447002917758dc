//! The three keys about compression, put together: which of them count, and which contradict each other.

use std::collections::BTreeMap;

use super::error::ConfigError;
use super::place::Source;
use super::table::Settings;
use super::value::{CompressionChoice, CompressionMethod};

const METHOD: &str = "COMPRESSION";
const LEVEL: &str = "COMPRESSION_LEVEL";
const OLD_LEVEL: &str = "VIRTNBD_COMPRESS_LEVEL";

/// LZ4 levels above this one are accepted by some programs, and are the same.
const MAX_LZ4_LEVEL: u32 = 12;

const DEFAULT_LZ4_LEVEL: u32 = 1;
/// zstd's own default.
const DEFAULT_ZSTD_LEVEL: u32 = 3;

/// Decides what the keys come to. A set level of the older key is obeyed when no file sets the method; a file wins over
/// the environment here too.
pub(super) fn choose(
    settings: &Settings,
    sources: &BTreeMap<String, Source>,
) -> Result<CompressionChoice, ConfigError> {
    let source = |key: &str| sources.get(key).cloned().unwrap_or(Source::Default);
    let refuse = |key: &str, why: String| {
        let value = settings.text(key).unwrap_or_default().to_owned();
        ConfigError::Contradiction { key: key.to_owned(), value, source_of_value: source(key), why }
    };
    let chosen = source(METHOD) != Source::Default;
    let (level, old_level) = (settings.compression_level.get(), settings.old_compress_level.get());
    let old_level = old_level.filter(|_| !(chosen && source(OLD_LEVEL) == Source::Environment));
    let method = match old_level {
        Some(_) if !chosen => CompressionMethod::Lz4,
        _ => settings.compression_method,
    };
    let word = settings.text(METHOD).unwrap_or_default();
    if old_level.is_some() && method != CompressionMethod::Lz4 {
        let why = format!(
            "it is a level of lz4, and {METHOD} is {word} ({}); remove one of the two",
            source(METHOD)
        );
        return Err(refuse(OLD_LEVEL, why));
    }
    if let Some(level) = level.filter(|level| old_level.is_some_and(|old| old != *level)) {
        let why = format!("{LEVEL} says {level} ({}); remove {OLD_LEVEL}", source(LEVEL));
        return Err(refuse(OLD_LEVEL, why));
    }
    let level = match (method, level) {
        (CompressionMethod::Lz4, Some(level)) if level > MAX_LZ4_LEVEL => {
            return Err(refuse(LEVEL, format!("levels of lz4 end at {MAX_LZ4_LEVEL}")));
        }
        (CompressionMethod::Lz4, level) => level.or(old_level).unwrap_or(DEFAULT_LZ4_LEVEL),
        (CompressionMethod::Zstd, level) => level.unwrap_or(DEFAULT_ZSTD_LEVEL),
        (CompressionMethod::Auto | CompressionMethod::None, Some(_)) => {
            let why =
                format!("{METHOD} is {word}, which has no level; set {METHOD} to lz4 or zstd, or remove it");
            return Err(refuse(LEVEL, why));
        }
        (CompressionMethod::Auto | CompressionMethod::None, None) => 0,
    };
    Ok(CompressionChoice { method, level })
}
