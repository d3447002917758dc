//! The command `vmrestore`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    vmrestore::cli::main()
}
