//! Finds the C library. 1.14 is what Debian 12 packages.
fn main() {
    if let Err(e) = pkg_config::Config::new().atleast_version("1.14").probe("libnbd") {
        eprintln!(
            "libnbd >= 1.14 is needed to build (Debian and Ubuntu: apt install libnbd-dev pkg-config): {e}"
        );
        std::process::exit(1);
    }
}
