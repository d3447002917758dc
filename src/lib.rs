//! vmbackup library

pub mod config;
