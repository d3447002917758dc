//! What the programs draw on a terminal while they work: lines at its end that are drawn anew, and go.
//!
//! Lives here: `screen` (the last lines), `drawing` (the thread that draws them), `bar` (a line that tells how far something has come),
//! `one_bar` (such a line for one thing at a time), `pace` (how fast). Must not live here: what is told, and whether anybody looks.

mod bar;
mod drawing;
mod one_bar;
mod pace;
mod screen;

pub use bar::{Bar, MARGIN, fitted, rate_text};
pub use drawing::Drawing;
pub use one_bar::{Come, OneBar};
pub use pace::Pace;
pub use screen::Screen;

use crate::text;

/// Rows of a terminal that does not tell.
const ROWS: usize = 24;

/// Columns and rows of the terminal that standard error is.
pub fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok();
    let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    size.map_or((text::WIDTH, ROWS), |size| (size.ws_col.into(), size.ws_row.into()))
}
