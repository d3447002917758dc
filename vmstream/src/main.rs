//! `vmstream`: inspects, verifies and extracts virtnbdbackup-compatible backup sets, without libvirt.
#![forbid(unsafe_code)]

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
