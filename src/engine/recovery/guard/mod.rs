//! The guard's own process: sets guests free, and ends jobs, of a run that died or stands still.
//!
//! Must not live here: the run's end of it, and why there is a guard at all (`claims::guard`).

mod life;
mod next;
mod process;
mod scope;
mod stand_in;
mod ward;
mod work;

pub use self::process::run_guard;
