//! Has a guest's agent thaw its file systems.
//!
//! Must not live here: when that is due (`hold`, `recovery`).

use std::time::{Duration, Instant};

use vmhost::guest::{Agent, FreezeStatus};
use vmhost::libvirt::{Domain, DomainState};

/// How often the guest is asked.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Asks the guest to thaw until it confirms. False when it did not in time, or is not there any more.
pub(crate) fn thaw(domain: &Domain, patience: Duration) -> bool {
    let agent = Agent::of(domain);
    let deadline = Instant::now() + patience;
    loop {
        let _ = agent.thaw();
        if matches!(agent.freeze_status(), Ok(FreezeStatus::Thawed)) {
            return true;
        }
        let alive = domain.state().is_ok_and(DomainState::is_active);
        if !alive || Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(ASK_EVERY);
    }
}
