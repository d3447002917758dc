//! The test lab: throw-away virtual machines on the real libvirt and QEMU of this machine.
//!
//! Lives here: VMs that never run guest code and are written through the monitor ([`Lab::paused_vm`]), one
//! booted Linux guest with a real agent ([`Lab::booted_vm`]), a shadow of every disk, and the tools whose
//! output the tests compare with ours (`virtnbdbackup`, `virtnbdrestore`, `qemu-img`).
//! Must not live here: anything the programs under test use, `vmbackup` itself (the lab knows its program, not its
//! library), or a stand-in for a tool that is missing.
//!
//! Needs root and what `scripts/install-deps.sh lab` installs; a missing tool fails the test. Helpers panic with the
//! command and its output: a test has no better answer.
//!
//! Every domain and directory is named `vmbt-PID-N-…`. The lab touches nothing named otherwise, removes its
//! own when it is dropped (also while a test panics), and removes those of test processes that died.
//! With `LAB_KEEP=1` the files of a panicking test stay, and their path is printed.
#![forbid(unsafe_code)]

mod bed;
mod binaries;
mod catalog;
mod command;
mod daemon;
mod domain_xml;
mod faulty_fs;
mod guest;
mod history;
mod interop;
mod lab_dir;
mod left_behind;
mod loop_device;
mod monitor;
mod mount;
mod nbd_server;
mod place;
mod played_agent;
mod points;
mod prefix;
mod proof;
mod run;
pub mod schema;
mod shadow;
mod stopped;
mod turn;
mod vm;
mod world;

pub use bed::Bed;
pub use binaries::LIB_DIR;
pub use command::{must, output_of, text, virsh_says as virsh};
pub use daemon::{go_on as continue_daemon, restart as restart_daemon, stand_still as stop_daemon};
pub use domain_xml::{Bus, DiskFormat, DiskSpec, VmSpec};
pub use faulty_fs::{FaultyFileSystem, Hang, Op};
pub use guest::{assert_clean, file_in, make_ext4};
pub use history::{Disks, History, extract, verify};
pub use interop::{Version, wait_for_the_clock};
pub use lab_dir::{Lab, domains};
pub use left_behind::{FREE_LIMIT, assert_tidy, sockets_of, wait_for_guard, wait_for_guard_below};
pub use loop_device::LoopDevice;
pub use monitor::{DiskOp, MonitorError};
pub use mount::SmallFileSystem;
pub use nbd_server::NbdServer;
pub use place::{program, repository};
pub use played_agent::{play_agents, play_next_agent};
pub use points::Point;
pub use proof::granules;
pub use run::{Ended, Run, chain_dir_below};
pub use shadow::{Difference, Shadow};
pub use stopped::{Stopped, children_of, exclude, is_alive, kill_both};
pub use vm::Vm;
pub use world::World;
