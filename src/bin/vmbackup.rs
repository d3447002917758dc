//! The command `vmbackup`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    vmbackup::cli::main()
}
