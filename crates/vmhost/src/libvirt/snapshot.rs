//! Snapshots of a domain, as the daemon remembers them.

use serde::Serialize;

use super::{Domain, LibvirtError};

/// A snapshot as the daemon knows it. An undefined domain loses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotInfo {
    pub name: String,
    /// The full snapshot XML, from which it can be defined again (`virsh snapshot-create --redefine`).
    pub xml: String,
}

impl Domain {
    /// All snapshots, parents first.
    pub fn snapshots(&self) -> Result<Vec<SnapshotInfo>, LibvirtError> {
        self.with("list the snapshots", |domain| {
            let all = domain.list_all_snapshots(virt_sys::VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL)?;
            let info = |snapshot: &virt::domain_snapshot::DomainSnapshot| {
                Ok(SnapshotInfo { name: snapshot.name()?, xml: snapshot.xml_desc(0)? })
            };
            all.iter().map(info).collect()
        })
    }
}
