//! Which files a point has beside those of its disks.
//!
//! Must not live here: writing them (`commit::point`).

use std::path::Path;
use std::time::SystemTime;

use vmstream::chain::{CheckpointName, PointDisk, PointId, SetFile, StreamKind};

use super::names::{partial_name, stream_file};
use super::point_identity::PointIdentity;
use crate::engine::VmTarget;
use crate::engine::domain::boot_file::{BootFile, BootRole};
use crate::engine::look::image_state::STATE_FILE;
use crate::engine::look::observe::Observed;
use vmstore::portable_name;

/// The partial names of everything but the disks' own files of this point, for the journal.
pub(crate) fn partial_names(vm: &VmTarget, observed: &Observed, point: &PointIdentity) -> Vec<String> {
    let mut names = vec![SetFile::VmConfig(point.id).to_string(), STATE_FILE.to_owned()];
    if let Some(name) = point.checkpoint() {
        names.extend([checkpoint_file(name), cpt_file(vm)]);
    }
    names.extend(side_files(observed, &point.id.ident()));
    for disk in &observed.disks {
        for (kind, _) in missing_points(observed, point, &disk.target) {
            let stream = stream_file(&disk.target, kind, point.suffix);
            names.push(format!("{stream}.chksum"));
            names.push(stream);
        }
    }
    names.iter().map(|name| partial_name(name)).collect()
}

pub(crate) fn side_files(observed: &Observed, ident: &str) -> Vec<String> {
    let boot = boot_files(observed, ident).into_iter().map(|(_, name)| name);
    let qcow = observed.disks.iter().map(|d| format!("{}.{ident}.qcow.json", d.target));
    boot.chain(qcow).chain([format!("autostart.{ident}")]).collect()
}

/// The boot files, each with its name in the set. Where two have the same base name the later ones get a number before
/// it: `2.vmlinuz`.
pub(crate) fn boot_files<'a>(observed: &'a Observed, ident: &str) -> Vec<(&'a Path, String)> {
    let mut named: Vec<(&Path, String)> = Vec::new();
    for BootFile { path, role } in &observed.facts.boot_files {
        let Some(name) = boot_file_name(path, *role, ident) else { continue };
        if named.iter().any(|(known, _)| known == path) {
            continue;
        }
        let numbered = (2_u32..).map(|n| format!("{n}.{name}"));
        let free = |name: &String| named.iter().all(|(_, taken)| taken != name);
        if let Some(name) = std::iter::once(name.clone()).chain(numbered).find(free) {
            named.push((path, name));
        }
    }
    named
}

/// A copy has no IDENT there. The template has a name of its own: `virtnbdrestore` takes any file in whose name it finds
/// that of the NVRAM.
fn boot_file_name(path: &Path, role: BootRole, ident: &str) -> Option<String> {
    let base = match role {
        BootRole::NvramTemplate => "varstore-template",
        BootRole::Nvram | BootRole::Fixed => path.file_name()?.to_str()?,
    };
    Some(if ident == "copy" { base.to_owned() } else { format!("{base}.{ident}") })
}

pub(crate) fn checkpoint_file(name: CheckpointName) -> String {
    format!("checkpoints/{name}.xml")
}

/// The list has the domain's name, as virtnbdbackup has it; that of its folder where the file system refuses the other. The
/// chain's folder is there already.
pub(crate) fn cpt_file(vm: &VmTarget) -> String {
    let name = vm.domain.name();
    // As long as the name while it is written: `NAME.cpt.partial`.
    let takes = || {
        let mut probe = tempfile::Builder::new();
        probe.prefix(&format!(".{name}.")).suffix(".cpt").tempfile_in(&vm.chain_dir).is_ok()
    };
    let raw = portable_name(name).is_none() || takes();
    format!("{}.cpt", if raw { name } else { &vm.folder })
}

/// The earlier points of the chain at which a disk has no stream, each with the time of that point's files.
pub(crate) fn missing_points(
    observed: &Observed,
    point: &PointIdentity,
    target: &str,
) -> Vec<(StreamKind, (CheckpointName, SystemTime))> {
    let Some(set) = observed.set.as_ref().filter(|_| point.parent.is_some()) else { return vec![] };
    let mut missing = Vec::new();
    for earlier in &set.points {
        let PointId::Checkpoint(name) = earlier.id else { continue };
        if earlier.disks.keys().any(|disk| disk.as_str() == target) {
            continue;
        }
        let kind = if name == CheckpointName::FIRST { StreamKind::Full } else { StreamKind::Inc(name) };
        let time = earlier.disks.values().map(PointDisk::modified).max();
        missing.push((kind, (name, time.unwrap_or(SystemTime::UNIX_EPOCH))));
    }
    missing
}
