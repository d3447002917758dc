//! Sets written again: the same content at every point, or an error that names the damage and leaves nothing.

mod any_chain;
mod content;
mod damage;
mod killed;
mod set_up;
mod told;
mod tpm;
