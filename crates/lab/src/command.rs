//! Runs the outside tools of the lab and turns a failure into a message that shows the whole command.

use std::process::{Command, Output, Stdio};

/// Runs a command to its end with no input.
///
/// Panics when the program cannot be started: a missing tool is a failed test.
#[track_caller]
pub fn output_of(command: &mut Command) -> Output {
    match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) => panic!(
            "Cannot run {:?}: {error}. `scripts/install-deps.sh lab` installs what the lab needs",
            command.get_program()
        ),
    }
}

/// Runs a command that has to succeed and returns its standard output.
#[track_caller]
pub fn must(command: &mut Command) -> String {
    let output = output_of(command);
    assert!(output.status.success(), "{command:?} ended with {}:\n{}", output.status, text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Both outputs of a command as one text, for messages and for `contains` checks.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What `virsh` prints, on the lab's daemon. It has to succeed.
#[track_caller]
pub fn virsh_says(arguments: &[&str]) -> String {
    must(virsh([]).args(arguments))
}

/// `virsh` on the lab's daemon, without its decoration. A daemon that does not answer for two minutes fails the test.
pub(super) fn virsh<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--foreground", "120", "virsh", "-q", "-c", "qemu:///system"]);
    command.args(arguments).env("LC_ALL", "C");
    command
}
