//! The content of a raw image put into a target.

use super::error::ExtractError;
use super::extracted::Watch;
use super::target::Target;
use crate::blob::next_data;
use crate::chain::RawImage;
use crate::sidecar::Ledger;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a file copied at once.
pub(crate) const COPY_LEN: usize = 4 << 20;

/// Copies what is not a hole. Returns the bytes written.
pub(super) fn copy_content(
    (source, input): (&RawImage, &File),
    ledger: Option<&Ledger>,
    (image, target): (&dyn Target, &Path),
    watch: &dyn Watch,
) -> Result<u64, ExtractError> {
    let failed = |error| ExtractError::ReadRaw { path: source.path.clone(), source: error };
    let write_failed = |source| ExtractError::Write { path: target.to_owned(), source };
    let mut buffer = vec![0; COPY_LEN];
    let (mut at, mut written) = (0, 0);
    while at < source.len {
        let next = next_data(input, at, source.len).min(source.len);
        if next > at {
            if image.has_old_content() {
                image.clear(at..next).map_err(write_failed)?;
            }
            at = next;
            continue;
        }
        let len = COPY_LEN.min(usize::try_from(source.len - at).unwrap_or(COPY_LEN));
        input.read_exact_at(&mut buffer[..len], at).map_err(failed)?;
        if let Some(ledger) = ledger {
            ledger.note(at, &buffer[..len]);
        }
        written += image.write(at, &buffer[..len]).map_err(write_failed)?;
        at += len as u64;
        watch.progress(at, source.len);
    }
    Ok(written)
}
