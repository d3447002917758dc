//! What happens when somebody ends the program: nothing unfinished is left, and it is said.

use vmreport::Exit;
use vmstream::signals;

use super::progress;
use super::say::complain;

/// Begins to listen.
pub(super) fn listen() {
    if let Err(error) = signals::listen(end) {
        complain(&format!("Cannot start a thread: {error}"));
        std::process::exit(Exit::General.code().into());
    }
}

fn end(signal: i32) {
    let taken = vmstream::unfinished::take_away();
    progress::leave();
    let lines: String = taken.iter().map(|taken| format!("\n  {taken}")).collect();
    complain(&format!("Ended by {}{lines}", signals::name(signal)));
    std::process::exit(signals::exit_code(signal))
}
