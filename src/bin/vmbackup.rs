//! vmbackup command
fn main() {}
