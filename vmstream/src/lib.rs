//! vmstream library
