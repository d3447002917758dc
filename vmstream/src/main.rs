//! vmstream command
fn main() {}
