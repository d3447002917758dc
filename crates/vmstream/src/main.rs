//! `vmstream`: inspects, verifies and extracts virtnbdbackup-compatible backup sets, without libvirt.
#![forbid(unsafe_code)]

mod cli;

fn main() -> std::process::ExitCode {
    raise_open_files();
    cli::run()
}

/// Takes as many open files as the system gives anybody, for long chains. Where it gives none more, fewer are kept open.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit });
}
