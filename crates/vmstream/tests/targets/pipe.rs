//! Standard output gets every byte, in order.

use super::set_up::{recorded, sha256};
use crate::golden::Golden;
use crate::program::{VMSTREAM, text, vmstream};
use std::process::Command;

#[test]
fn standard_output_gets_every_byte_in_order() {
    let golden = Golden::extract();
    for (point, disk, want) in recorded(&golden) {
        let args = ["extract", ".", "--disk", &disk, "--until", &point, "-o", "-", "--workers", "3"];
        let done = vmstream(&golden.lz4(), &args);
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        // Increments of virtnbdbackup may lack changes: that is said, and nothing else.
        let doubt = "warning: this point is made of increments by virtnbdbackup that may lack changes: vmstream doctor says \
                     more\n";
        assert_eq!(text(&done.stderr), if point.ends_with(".0") { "" } else { doubt });
        let out = golden.root().join("out");
        std::fs::write(&out, done.stdout).unwrap();
        assert_eq!(sha256(&out), want, "{disk} at {point}");
    }
}

#[test]
fn a_raw_disk_goes_to_standard_output_too() {
    let golden = Golden::extract();
    let done = vmstream(&golden.plain(), &["extract", ".", "--disk", "vdb", "-o", "-"]);
    assert_eq!(done.status.code(), Some(0));
    assert!(done.stdout == std::fs::read(golden.plain().join("vdb.copy.data")).unwrap());
    assert!(text(&done.stderr).contains("its content is that of virtnbdbackup.0"));
}

#[test]
fn a_reader_that_goes_away_is_an_error() {
    let golden = Golden::extract();
    let shell =
        format!("{} extract . --disk vda -o - | head -c 1000 >/dev/null; exit ${{PIPESTATUS[0]}}", VMSTREAM);
    let done = Command::new("bash").args(["-c", &shell]).current_dir(golden.lz4()).output().unwrap();
    assert_eq!(done.status.code(), Some(2), "{}", text(&done.stderr));
    assert!(text(&done.stderr).contains("Cannot write to the output"));
}
