//! vmbackup library
#![deny(unsafe_code)]

pub mod nbd;
