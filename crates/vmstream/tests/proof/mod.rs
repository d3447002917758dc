//! What verification makes of sets with sidecars: nothing that changed passes, and what is only stale is no damage.

mod beside;
mod given_out;
mod raw_image;
mod set_up;
mod uncommitted;
mod verified;
