//! A backup set written again in a new folder: in another compression, or a chain put together as one new full.
//!
//! Lives here: what is asked for (`options`) and told (`converted`); what the new set is made of (`contents`, decided by `plan`
//! from the files of the old one, `listing` and `tpm`); streams read and proven (`source`) and written again (`recompress`,
//! `squash`, both through `encode`), or copied (`copying`); the folder that appears at once (`new_set`), filled point by point (`point`); all of it in
//! order (`run`).
//! Must not live here: which stream supplies which byte (`restore`), frames (`stream`), printing.

mod contents;
mod converted;
mod copying;
mod encode;
mod error;
mod listing;
mod new_set;
mod options;
mod plan;
mod point;
mod recompress;
mod run;
mod source;
mod squash;
mod tpm;
mod written;

pub use converted::{Converted, ConvertedStream, RawCopy};
pub use error::ConvertError;
pub use options::{Compression, ConvertOptions, Shape};
pub use run::{convert, total_bytes};
