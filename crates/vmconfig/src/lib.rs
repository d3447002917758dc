//! Configuration: the files of one instance, the environment and the defaults as one checked [`Settings`].
//!
//! Lives here: reading `vmbackup.conf` (Bash assignments) and `vmbackup.toml`, the table of keys, what values may be, the
//! samples that are shipped.
//! Must not live here: whether what a setting names exists, what a setting leads to (`vmplan` and the engine say that), reading
//! the process environment (the caller passes it).
//! Layer: above `vmplan`, whose terms settings are read into.
#![forbid(unsafe_code)]

mod bash;
mod compression;
mod error;
mod files;
mod keys;
mod load;
mod merge;
mod migrate;
mod nearest;
mod place;
mod sample;
mod stated;
mod table;
mod toml_file;
mod unserved;
pub mod value;
mod without_effect;

#[cfg(test)]
mod load_tests;
#[cfg(test)]
mod sample_tests;
#[cfg(test)]
mod toml_tests;

pub use bash::Construct;
pub use error::{ConfigError, Difference, InvalidValue};
pub use keys::{Key, Marks};
pub use load::{Loaded, Warning, load};
pub use migrate::{MigrateError, Migration};
pub use place::{Place, Source};
pub use sample::{Sample, render};
pub use table::{KEYS, Settings};
pub use unserved::{Feature, Unserved};
pub use value::CompressionChoice;
pub use without_effect::HostNames;
