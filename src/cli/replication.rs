//! What the configuration asks for besides backups: replications and mail, none of which this version can do.
//!
//! Must not live here: doing them (`replicate`).

use vmconfig::{Feature, Unserved};
use vmreport::{Replication, ReplicationState};

/// The replications that are configured.
pub(super) fn replication(unserved: &[Unserved]) -> Replication {
    Replication {
        local: state(unserved, Feature::LocalReplication),
        cloud: state(unserved, Feature::CloudReplication),
    }
}

/// The mail that is configured.
pub(super) fn mail(unserved: &[Unserved]) -> ReplicationState {
    state(unserved, Feature::Mail)
}

fn state(unserved: &[Unserved], feature: Feature) -> ReplicationState {
    match unserved.iter().any(|of| of.feature == feature) {
        true => ReplicationState::NotServed,
        false => ReplicationState::NotConfigured,
    }
}
