//! What a restore point holds besides disks, and when it is taken.
//!
//! The guest is asked before it is held still; the TPM's state is read while it is, so that it is that of the point;
//! both become files of the point and are published with it. Nothing here fails a backup: it warns.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{Timestamp, Zoned};
use serde_json::json;
use vmstream::chain::PointId;
use vmstream::sidecar::{FileIdentity, LeftOut};
use zeroize::Zeroizing;

use crate::engine::VmTarget;
use crate::engine::cancel::Cancel;
use crate::engine::domain::boot_file::BootRole;
use crate::engine::look::chain_files::IDENTITY_PREFIX;
use crate::engine::look::observe::Observed;
use crate::engine::plan::names::partial_name;
use crate::engine::settings::EngineSettings;
use vmhost::guest::{self, Guest};
use vmhost::identity::{self, Owner, TpmFolder, TpmState};
use vmreport::{FileSystem, KeptFile, OsInfo, TpmKept};

/// How long a TPM may change while the guest is held still; then it is read again afterwards.
const HELD_LIMIT: Duration = Duration::from_millis(200);

/// What is taken of one domain besides its disks.
pub(crate) struct Identity {
    /// Where its emulated TPM keeps its state.
    tpm_dir: Option<PathBuf>,
    tpm: Option<TpmState>,
    /// The folder of the newest point so far, if it is that point's own.
    before: Option<String>,
    /// Where its UEFI variables are.
    nvram_file: Option<PathBuf>,
    nvram: Option<HeldFile>,
    keys: Option<Zeroizing<Vec<u8>>>,
    os: Option<OsInfo>,
    file_systems: Vec<FileSystem>,
}

/// What a point keeps besides disks.
#[derive(Debug, Default)]
pub(crate) struct IdentityKept {
    /// What became of the state of the domain's TPM, and where that was read from. `None` when it has none, or it was not
    /// saved.
    pub(crate) tpm: Option<(TpmKept, PathBuf)>,
}

/// Firmware variables are far smaller; what is larger does not keep a guest waiting.
const MAX_HELD_BYTES: u64 = 64 << 20;

/// A file as it was while the guest was held still.
pub(crate) struct HeldFile {
    pub(crate) path: PathBuf,
    pub(crate) content: Vec<u8>,
}

impl HeldFile {
    /// Reads a file, again when it changed meanwhile: a guest that is frozen still has its firmware.
    fn read(path: &Path) -> Option<Self> {
        const TRIES: usize = 3;
        let modified = || fs::metadata(path).and_then(|about| about.modified()).ok();
        let about = fs::metadata(path).ok()?;
        if !about.is_file() || about.len() > MAX_HELD_BYTES {
            return None;
        }
        let once = |_| {
            let before = modified();
            let content = fs::read(path).ok()?;
            (modified() == before).then(|| Self { path: path.to_owned(), content })
        };
        (0..TRIES).find_map(once)
    }
}

impl Identity {
    /// Finds the TPM, and asks the guest for its recovery keys, if it answers. Returns a warning when they cannot be had.
    pub(crate) fn ask(
        settings: &EngineSettings,
        vm: &VmTarget,
        observed: &Observed,
        cancel: &Cancel,
        guest: Option<&Guest<'_>>,
    ) -> (Self, Option<String>) {
        let tpm = settings.tpm.as_ref();
        let tpm_dir =
            tpm.and_then(|tpm| identity::state_dir(&observed.config_xml, vm.domain.uuid(), &tpm.state_dir));
        let nvram = observed.facts.boot_files.iter().find(|file| file.role == BootRole::Nvram);
        let nvram_file = nvram.map(|file| file.path.clone());
        let before = folder_before(vm, observed).unwrap_or_else(|error| {
            tracing::debug!(
                vm = vm.domain.name(),
                "what was kept of the TPM before is not compared: {error}"
            );
            None
        });
        let mut found = Self {
            tpm_dir,
            tpm: None,
            before,
            nvram_file,
            nvram: None,
            keys: None,
            os: guest.and_then(|guest| guest.os.clone()),
            file_systems: guest.map_or_else(Vec::new, |guest| guest.file_systems.clone()),
        };
        let (Some(guest), Some(limit)) = (guest, settings.recovery_keys) else { return (found, None) };
        match guest::recovery_keys(guest, limit, &|| cancel.stopped().is_some()) {
            Ok(keys) => {
                found.keys = keys;
                (found, None)
            }
            Err(error) => {
                (found, Some(format!("the BitLocker recovery keys could not be asked for: {error}")))
            }
        }
    }

    /// The partial names of the files it may write, for the journal.
    pub(crate) fn partial_names(&self, ident: &str) -> Vec<String> {
        let tpm = self.tpm_dir.iter().flat_map(|dir| TpmFolder::file_names(ident, dir));
        tpm.chain([file_name(ident)]).map(|name| partial_name(&name)).collect()
    }

    /// Reads NVRAM and TPM while the guest is held still. A TPM that keeps changing all the same is left to
    /// [`Identity::into_files`].
    pub(crate) fn read_held(&mut self) {
        self.nvram = self.nvram_file.as_deref().and_then(HeldFile::read);
        self.tpm = self.tpm_dir.as_ref().and_then(|dir| TpmState::read(dir, HELD_LIMIT).ok());
    }

    /// The NVRAM as [`Identity::read_held`] found it.
    pub(crate) fn nvram(&self) -> Option<&HeldFile> {
        self.nvram.as_ref()
    }

    /// Its files of the point `ident`; `parent` is the point it follows. What cannot be had is a warning.
    pub(crate) fn into_files(
        self,
        settings: &EngineSettings,
        vm: &VmTarget,
        (ident, parent): (&str, Option<&str>),
        disks: &PointDisks,
        now: Timestamp,
    ) -> IdentityFiles {
        let (os, file_systems) = (self.os.clone(), self.file_systems.clone());
        let limit = settings.tpm.as_ref().map_or(HELD_LIMIT, |tpm| tpm.limit);
        let (tpm, warnings) = self.tpm_folder(vm, (ident, parent), limit, now);
        let (folder, kept) = tpm.map(|tpm| (tpm.folder, tpm.kept)).unzip();
        let facts = facts(vm, disks, os.as_ref(), &file_systems, folder.as_ref());
        IdentityFiles { name: file_name(ident), facts, folder, kept: IdentityKept { tpm: kept }, warnings }
    }

    /// The folder of the TPM's state and of recovery keys, with room made for it, and what becomes of the state. What cannot
    /// be had is a warning.
    fn tpm_folder(
        self,
        vm: &VmTarget,
        (ident, parent): (&str, Option<&str>),
        limit: Duration,
        now: Timestamp,
    ) -> (Option<SavedTpm>, Vec<String>) {
        let warned = |error: &dyn std::fmt::Display| format!("the TPM's state is not saved: {error}");
        let mut warnings = vec![];
        let tpm = match (self.tpm, &self.tpm_dir) {
            (None, Some(dir)) => TpmState::read(dir, limit).map_err(|e| warnings.push(warned(&e))).ok(),
            (read, _) => read,
        };
        // Recovery keys without a TPM have a folder too, but none that a restore script would take for a TPM's state.
        let (tpm, source) = match (tpm, self.tpm_dir) {
            (Some(tpm), Some(dir)) => (tpm, dir),
            _ if self.keys.is_some() => {
                (TpmState::default(), PathBuf::from("none: this VM has no emulated TPM"))
            }
            _ => return (None, warnings),
        };
        let owner = Owner { domain: vm.domain.name(), uuid: vm.domain.uuid(), source: &source, now };
        let folder =
            TpmFolder::new(&vm.chain_dir, ident, (parent.is_some(), self.before), tpm, self.keys, &owner);
        if let Err(error) = folder.prepare(&vm.chain_dir) {
            warnings.push(warned(&error));
            return (None, warnings);
        }
        let kept = (folder.kind(), source);
        (Some(SavedTpm { folder, kept }), warnings)
    }
}

/// The state of a TPM, about to become files of a point.
struct SavedTpm {
    folder: TpmFolder,
    /// What becomes of the state, and where it was read from.
    kept: (TpmKept, PathBuf),
}

/// The disks of a point, and what proves the rest of one that has none.
pub(crate) struct PointDisks {
    /// When it is taken: local time, as streams have it.
    pub(crate) taken: String,
    /// Targets of those in it.
    pub(crate) copied: Vec<String>,
    pub(crate) left_out: Vec<LeftOut>,
    /// What else is in it, where no sidecar lists that.
    pub(crate) files: Vec<FileIdentity>,
}

/// What a point keeps besides disks, as its files.
pub(crate) struct IdentityFiles {
    /// The file of what libvirt would lose with the domain, and what is in it.
    pub(crate) name: String,
    pub(crate) facts: Vec<u8>,
    /// To be settled once the point is published.
    pub(crate) folder: Option<TpmFolder>,
    pub(crate) kept: IdentityKept,
    pub(crate) warnings: Vec<String>,
}

/// What is left to do once the point is published. Returns the file that the definition was kept in, where it changed, and
/// warnings.
pub(crate) fn settle(
    vm: &VmTarget,
    config_xml: &str,
    folder: Option<TpmFolder>,
    parent: Option<&str>,
    now: &Zoned,
) -> (Option<KeptFile>, Vec<String>) {
    let mut warnings = vec![];
    let settled = match folder {
        Some(folder) => folder.settle(&vm.chain_dir, parent, now),
        None => identity::renew(&vm.chain_dir, None).map(drop),
    };
    if let Err(error) = settled {
        let newest = vm.chain_dir.join("tpm-state");
        warnings.push(format!("{} is not the newest TPM state: {error}", newest.display()));
    }
    let (dir, name, period) = (&vm.chain_dir, vm.domain.name(), &vm.placement.period);
    match identity::keep_definition(dir, name, period, config_xml, now) {
        Ok(kept) => (kept.map(kept_file), warnings),
        Err(error) => {
            warnings.push(error.to_string());
            (None, warnings)
        }
    }
}

fn kept_file(path: PathBuf) -> KeptFile {
    let about = fs::metadata(&path).ok();
    KeptFile { bytes_and_mtime: about.map(|about| (about.len(), about.mtime())), path }
}

/// Names prove nothing: a program that archives a chain without these files leaves them beside the next one.
fn folder_before(vm: &VmTarget, observed: &Observed) -> std::io::Result<Option<String>> {
    let Some(set) = &observed.set else { return Ok(None) };
    let Some(newest) = set.newest() else { return Ok(None) };
    let counts = |ident: &str| {
        let id = ident.parse().map(PointId::Checkpoint);
        id.is_ok_and(|id| set.has_identity(id))
    };
    identity::folder_of(&vm.chain_dir, &newest.id.ident(), counts)
}

fn file_name(ident: &str) -> String {
    format!("{IDENTITY_PREFIX}{ident}.json")
}

/// What libvirt would lose with the domain, which disks the point has, what the guest says it is, and the checksums of what only root may read.
fn facts(
    vm: &VmTarget,
    disks: &PointDisks,
    os: Option<&OsInfo>,
    file_systems: &[FileSystem],
    tpm: Option<&TpmFolder>,
) -> Vec<u8> {
    let listed = |tpm: &TpmFolder| tpm.identities().iter().map(FileIdentity::to_json).collect::<Vec<_>>();
    let domain = &vm.domain;
    let names =
        |known: Vec<vmhost::libvirt::CheckpointInfo>| known.into_iter().map(|c| c.name).collect::<Vec<_>>();
    let checkpoints = domain.checkpoints().ok().map(names);
    let mut facts = json!({
        "name": domain.name(),
        "uuid": domain.uuid(),
        "autostart": domain.autostart().ok(),
        "taken": disks.taken,
        "disks": disks.copied,
        "left_out": disks.left_out.iter().map(LeftOut::to_json).collect::<Vec<_>>(),
        "os": os,
        "file_systems": file_systems,
        "live_xml": domain.xml(false).ok(),
        "inactive_xml": domain.xml(true).ok(),
        "snapshots": domain.snapshots().ok(),
        "checkpoints": checkpoints,
        "tpm_state": tpm.map(listed),
    });
    if disks.copied.is_empty() {
        facts["files"] = disks.files.iter().map(FileIdentity::to_json).collect();
    }
    serde_json::to_vec_pretty(&facts).unwrap_or_default()
}
