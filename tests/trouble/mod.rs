//! What goes wrong around a backup: full file systems, VMs that stop or start, other programs at the same VM.

mod others;
mod power;
mod remedies;
mod set_up;
mod space;
