//! Which replications the configuration asks for.
//!
//! Must not live here: doing them (`replicate`).

use vmconfig::{Feature, Unserved};
use vmreport::{Replication, ReplicationState};

/// The replications that are configured, none of which this version can do.
pub(super) fn replication(unserved: &[Unserved]) -> Replication {
    let of = |feature| match unserved.iter().any(|of| of.feature == feature) {
        true => ReplicationState::NotServed,
        false => ReplicationState::NotConfigured,
    };
    Replication { local: of(Feature::LocalReplication), cloud: of(Feature::CloudReplication) }
}
