//! What sidecars say that binds the files of a set to each other: which sidecar each goes on from, which disks the point
//! has, and which files lie beside it.
//!
//! Must not live here: what follows from bonds that contradict each other (`exchanged`), content (`verify`).

use super::ident::DiskTarget;
use super::names::{SetFile, StreamKind};
use crate::sidecar::{Digest, FileIdentity, Head, Sidecar};
use std::collections::BTreeSet;

/// What the head of a sidecar, which fits the file beside it, says of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bond {
    /// Its own digest.
    pub(super) digest: Digest,
    /// The sidecar that it goes on from.
    pub(super) parent: Option<Digest>,
    /// The disks of its point, and whether those are all: earlier programs tell of streams alone.
    pub(super) disks: BTreeSet<DiskTarget>,
    pub(super) says_all: bool,
    pub(super) left_out: BTreeSet<DiskTarget>,
    /// The list of the files beside it, in short. `None` for an empty list.
    pub(super) files: Option<Digest>,
}

impl Bond {
    pub(super) fn of(sidecar: &Sidecar, kind: StreamKind) -> Self {
        let head = sidecar.head();
        let named =
            head.disks.as_ref().map(|disks| disks.iter().filter_map(|disk| disk.parse().ok()).collect());
        let left_out = head.left_out.iter().filter_map(|one| one.disk.parse().ok()).collect();
        Self {
            digest: *sidecar.digest(),
            parent: head.parent_sidecar,
            says_all: named.is_some(),
            disks: named.unwrap_or_else(|| with_checksums(head, kind)),
            left_out,
            files: (!head.files.is_empty()).then(|| list_digest(&head.files)),
        }
    }
}

/// The disks whose checksum files are listed with this run.
fn with_checksums(head: &Head, run: StreamKind) -> BTreeSet<DiskTarget> {
    let of_run = |file: &FileIdentity| match SetFile::parse(&file.name) {
        Some(SetFile::Checksum { disk, kind, .. }) if kind == run => Some(disk),
        _ => None,
    };
    head.files.iter().filter_map(of_run).collect()
}

fn list_digest(files: &[FileIdentity]) -> Digest {
    let mut lines: Vec<String> = files.iter().map(|file| file.to_json().to_string()).collect();
    lines.sort();
    blake3::hash(lines.join("\n").as_bytes()).into()
}
