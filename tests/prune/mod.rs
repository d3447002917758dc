//! What is kept and what goes: rules after a backup, and `--prune`, on trees of real streams.

mod book;
mod cli;

mod crash;
mod hostile;
mod many;
mod property;
mod tpm;
mod tree;
