//! The state of a TPM at each point, held against what the point's `.identity` file says of it.
//!
//! Sidecars do not list it: whoever may not read it must be able to check everything else.

use super::finding::{Finding, Level};
use super::sidecar::of_listed;
use crate::chain::{BackupSet, PointId, SetFile};
use crate::sidecar::{FileIdentity, HeadError};
use serde_json::Value;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Checks the folders of all points. Those that only root may read are named once, as a warning.
pub(crate) fn check(set: &BackupSet) -> Vec<Finding> {
    let (mut findings, mut closed) = (Vec::new(), Vec::new());
    for point in &set.points {
        let identity = set.dir.join(SetFile::Identity(point.id).to_string());
        // One that no sidecar of the point lists is of another chain, or of an earlier program; one that differs from what
        // is listed is found as any file is.
        let written = match set.identity_of(point) {
            Ok(Some(written)) => written,
            Ok(None) => continue,
            Err(error) => {
                findings.push(Finding::about(Level::Unreadable, &identity, error.to_string()));
                continue;
            }
        };
        let files = match listed(&written) {
            None => continue,
            Some(Err(error)) => {
                findings.push(Finding::about(Level::Damage, &identity, error.to_string()));
                continue;
            }
            Some(Ok(files)) => files,
        };
        let folder = folder_of(&set.dir, point.id);
        for file in files {
            let path = folder.join(&file.name);
            match file.is_at(&path) {
                Err(error) if error.kind() == ErrorKind::PermissionDenied => closed.push(folder.clone()),
                same => findings.extend(of_listed(&path, same)),
            }
        }
    }
    closed.dedup();
    if let [first, ..] = &closed[..] {
        let message = format!(
            "only root may read the state of the TPM: it is not checked here, nor in {} more folders",
            closed.len() - 1
        );
        findings.push(Finding::about(Level::Warning, first, message));
    }
    findings
}

fn folder_of(dir: &Path, point: PointId) -> PathBuf {
    dir.join(format!(".tpm-state.{}", point.ident()))
}

/// What an identity file lists. `None` where it lists nothing, as those of earlier programs.
fn listed(identity: &[u8]) -> Option<Result<Vec<FileIdentity>, HeadError>> {
    let value: Value = serde_json::from_slice(identity).ok()?;
    let files = value.get("tpm_state")?.as_array()?;
    Some(files.iter().map(FileIdentity::from_json).collect())
}
