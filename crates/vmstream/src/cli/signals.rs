//! What happens when somebody ends the program: nothing unfinished is left, and it is said.

use super::output::tell;
use vmstream::signals;

/// Begins to listen.
pub(super) fn listen() {
    if let Err(error) = signals::listen(end) {
        tell(&format!("error: Cannot start a thread: {error}\n"));
        std::process::exit(super::exit::Exit::CannotTell as i32);
    }
}

fn end(signal: i32) {
    let taken = vmstream::unfinished::take_away();
    super::progress::leave();
    let mut text = format!("\nerror: Ended by {}\n", signals::name(signal));
    taken.iter().for_each(|taken| text.push_str(&format!("  {taken}\n")));
    tell(&text);
    std::process::exit(signals::exit_code(signal))
}
