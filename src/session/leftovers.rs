//! What runs that died have left of VMs that this run does not back up.

use super::open::Session;
use crate::engine::{BackupError, Engine};
use vmhost::libvirt::Domain;
use vmstore::folder_name;

impl Session {
    /// Sets free what a dead run left of domains that this run does not back up: not named, excluded, without a folder.
    pub(super) fn recover_others(&self, engine: &Engine) {
        let is_backed_up =
            |domain: &&Domain| matches!(self.place(domain, self.policies.of(domain.name()).0), Ok(Some(_)));
        let backed_up: Vec<String> =
            self.chosen.iter().filter(is_backed_up).map(|d| folder_name(d.name())).collect();
        let left = engine.journals.left_behind().unwrap_or_else(|error| {
            tracing::warn!("{error}");
            vec![]
        });
        for folder in left {
            if backed_up.contains(&folder) {
                continue;
            }
            match engine.recover(&folder) {
                Ok(done) => done.iter().for_each(|what| tracing::warn!(vm = folder, "{what}")),
                // Another run is at it.
                Err(BackupError::Lock(_)) => {}
                Err(error) => tracing::warn!(vm = folder, "{error}"),
            }
        }
    }
}
