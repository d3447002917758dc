//! The command `vmbackup`.

fn main() -> std::process::ExitCode {
    vmbackup::cli::main()
}
