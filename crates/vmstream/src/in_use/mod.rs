//! Who else has an image open: asked before a copy of it is believed, and before anything replaces or overwrites it.
//!
//! Lives here: QEMU's locks on files (`locks`), open descriptors of this host's processes (`opened`), what the kernel
//! itself has a hold on (`device`), all of them asked (`ask`) for one `answer`. Only looks, and takes no lock of its own.
//! Must not live here: libvirt, and what follows from an answer.

mod answer;
mod ask;
mod device;
mod locks;
mod opened;

pub use answer::InUse;
pub use ask::{user_of, writer_of};
