//! The tests that need the host for themselves: what they stop, hang or restart is everybody's.

mod daemon_hangs;
mod daemon_restart;
mod guest_leaves;
mod hangs;
mod held_guest;
