//! The command `verify` as people and programs use it.

mod deep;
mod judged;
mod places;
mod quick;
mod set_up;
