//! One zstd frame (RFC 8878) with content size and content checksum.

use std::cell::RefCell;
use std::io;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, find_frame_compressed_size, get_error_name, get_frame_content_size};

use super::compression::CodecError;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What a frame adds to its content at most, beside a 256th of it: header, block headers, checksum.
const OVERHEAD: usize = 1024;

thread_local! {
    /// A context has megabytes of tables. Each thread keeps its own: a fresh one for each frame costs page faults.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// Appends one frame.
pub(super) fn compress(plain: &[u8], level: u32, out: &mut Vec<u8>) -> io::Result<()> {
    let level = i32::try_from(level).map_err(io::Error::other)?;
    COMPRESSOR.with_borrow_mut(|kept| {
        let compressor = match kept {
            Some(compressor) => compressor,
            none => {
                let mut compressor = Compressor::new(level)?;
                compressor.set_parameter(CParameter::ChecksumFlag(true))?;
                none.insert(compressor)
            }
        };
        compressor.set_compression_level(level)?;
        let before = out.len() as u64;
        out.reserve(plain.len() + plain.len() / 256 + OVERHEAD);
        let mut room = io::Cursor::new(out);
        room.set_position(before);
        compressor.compress_to_buffer(plain, &mut room).map(|_| ())
    })
}

/// Fills `out`, whose length is that of the content, from the one frame in `stored`.
///
/// One call decodes it all straight into `out`: no window is allocated, whatever the frame claims.
pub(crate) fn decompress(stored: &[u8], out: &mut [u8]) -> Result<(), CodecError> {
    let stored_len = stored.len();
    let damaged = |what: &str| CodecError::Damaged { stored_len, source: io::Error::other(what.to_owned()) };
    let common = stored_len.min(MAGIC.len());
    if stored[..common] != MAGIC[..common] {
        return Err(damaged("it does not begin as a zstd frame"));
    }
    let frame_len = match find_frame_compressed_size(stored) {
        Ok(frame_len) => frame_len,
        // Its blocks' sizes lead past the end.
        Err(code) if get_error_name(code) == "Src size is incorrect" => {
            return Err(CodecError::CutOff { stored_len });
        }
        Err(code) => return Err(damaged(get_error_name(code))),
    };
    if frame_len < stored_len {
        return Err(CodecError::TrailingBytes { extra: stored_len - frame_len });
    }
    let want = out.len();
    let wrong_length = |found| CodecError::WrongLength { want, found };
    match get_frame_content_size(stored) {
        Ok(Some(claimed)) if claimed != want as u64 => return Err(wrong_length(claimed.to_string())),
        Ok(_) => {}
        Err(_) => return Err(damaged("its content size cannot be read")),
    }
    let mut decompressor =
        Decompressor::new().map_err(|source| CodecError::Damaged { stored_len, source })?;
    match decompressor.decompress_to_buffer(stored, out) {
        Ok(found) if found == want => Ok(()),
        Ok(found) => Err(wrong_length(found.to_string())),
        Err(source) if source.to_string() == "Destination buffer is too small" => {
            Err(wrong_length(format!("more than {want}")))
        }
        Err(source) => Err(CodecError::Damaged { stored_len, source }),
    }
}
