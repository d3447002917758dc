//! What is whole and does not belong where it is, what is missed though nothing of it is left, and what is not finished.

mod exchanged;
mod in_doubt;
mod missed;
mod said;
mod set_up;
mod unfinished;
