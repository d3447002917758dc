//! The program on sets of other programs, without libvirt, a configuration or a database.

mod listed;
mod points;
mod sample;
mod verified;
