//! vmbackup library
