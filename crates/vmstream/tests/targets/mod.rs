//! Where a disk can go (standard output, qcow2, a block device), and how it compares with an image.

mod compared;
mod device;
mod file;
mod in_use;
mod pipe;
mod qcow2;
mod set_up;
