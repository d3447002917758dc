//! Two small files beside a chain that the Bash program has there: with them it goes on with the chain, should it get it back.
//! Where the period is another than today's, or its file is not there, that program archives the chain and takes a full.
//!
//! Must not live here: whose the files are (their owner is set with that of the VM's folder).

use std::fs;
use std::io;
use std::path::Path;

use jiff::civil::Date;

use vmplan::RotationPolicy;
use vmplan::rotation::Period;
use vmstore::durable;
use vmstore::layout::{AGENT_STATUS, FULL_BACKUP_MONTH};

/// Group may read, others nothing: what the tree has everywhere.
const FILE_MODE: u32 = 0o640;

/// The name of a day's period as the Bash program writes it down. `None` where it writes none.
pub(super) fn period_id(default: RotationPolicy, day: Date) -> Option<String> {
    match default {
        RotationPolicy::Accumulate => Some(default.as_str().to_owned()),
        policy => Period::of(policy, day).map(|period| period.to_string()),
    }
}

/// Writes both, where they do not say so already. `None` leaves what is there.
pub(super) fn keep(chain_dir: &Path, period: Option<&str>, agent: Option<bool>) -> io::Result<()> {
    let agent = agent.map(|answered| if answered { "yes" } else { "no" });
    for (name, word) in [(FULL_BACKUP_MONTH, period), (AGENT_STATUS, agent)] {
        let Some(line) = word.map(|word| format!("{word}\n")) else { continue };
        let path = chain_dir.join(name);
        let is_file = fs::symlink_metadata(&path).is_ok_and(|about| about.is_file());
        if !is_file || fs::read(&path)? != line.as_bytes() {
            durable::replace(&path, FILE_MODE, line.as_bytes())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn the_period_is_that_of_the_default_policy() {
        use RotationPolicy::{Accumulate, Daily, Monthly, Never, Weekly};
        let day = date(2026, 12, 2);
        let ids = [Daily, Weekly, Monthly, Accumulate, Never].map(|policy| period_id(policy, day));
        let want = [Some("20261202"), Some("2026-W49"), Some("202612"), Some("accumulate"), None];
        assert_eq!(ids, want.map(|id| id.map(str::to_owned)));
    }

    #[test]
    fn what_is_not_known_stays_and_a_link_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).ok();
        keep(dir.path(), Some("202611"), None).unwrap();
        assert_eq!((read(FULL_BACKUP_MONTH).as_deref(), read(AGENT_STATUS)), (Some("202611\n"), None));
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, "not ours").unwrap();
        std::os::unix::fs::symlink(&elsewhere, dir.path().join(AGENT_STATUS)).unwrap();
        keep(dir.path(), None, Some(true)).unwrap();
        assert_eq!(read(AGENT_STATUS).as_deref(), Some("yes\n"));
        keep(dir.path(), Some("202612"), Some(false)).unwrap();
        assert_eq!(read(AGENT_STATUS).as_deref(), Some("no\n"));
        assert_eq!(read(FULL_BACKUP_MONTH).as_deref(), Some("202612\n"));
        assert_eq!(fs::read_to_string(elsewhere).unwrap(), "not ours");
    }
}
