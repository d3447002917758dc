//! The state of an emulated TPM, as swtpm keeps it on the host.
//!
//! Layout (libvirt): `SWTPM_STATE_DIR/UUID/tpm2/tpm2-00.permall`, for TPM 1.2 `tpm1.2/tpm-00.permall`; a definition may
//! name another folder. swtpm replaces the file as a whole, so each file is always complete.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use roxmltree::Document;
use zeroize::Zeroizing;

/// A TPM keeps some ten to some hundred kilobytes.
const MAX_BYTES: u64 = 16 << 20;

/// How soon a state that changed while it was read is read again.
const PAUSE: Duration = Duration::from_millis(50);

/// Why a TPM's state could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// A file could not be read.
    #[error("Cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// More than any TPM keeps.
    #[error("{} holds more than {} MiB; that is no TPM state", path.display(), MAX_BYTES >> 20)]
    TooLarge { path: PathBuf },
    /// Nothing there.
    #[error("{} holds no TPM state (neither tpm2 nor tpm1.2); was the VM ever started?", path.display())]
    Missing { path: PathBuf },
    /// It never held still.
    #[error("{} kept changing for {} s", path.display(), limit.as_secs())]
    Changing {
        path: PathBuf,
        /// How long it was tried.
        limit: Duration,
    },
}

/// The files of a TPM, by path below its folder, sorted. Overwritten when dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TpmState {
    /// For example `tpm2/tpm2-00.permall` and its content.
    pub files: Vec<(String, Zeroizing<Vec<u8>>)>,
}

/// What tells one state of a file from another without reading it.
type Stamp = (String, u64, u64, i64, i64);

/// Where the emulated TPM of a domain keeps its state; `None` when it has none. Hardware that is passed through keeps its
/// state to itself.
pub fn state_dir(xml: &str, uuid: &str, swtpm_dir: &Path) -> Option<PathBuf> {
    let document = Document::parse(xml).ok()?;
    let devices = document.root_element().children().find(|n| n.has_tag_name("devices"))?;
    let tpm = devices.children().find(|n| n.has_tag_name("tpm"))?;
    let backend = tpm.children().find(|n| n.has_tag_name("backend"))?;
    if backend.attribute("type") != Some("emulator") {
        return None;
    }
    let source = backend.children().find(|n| n.has_tag_name("source"));
    match source.and_then(|source| source.attribute("path")) {
        Some(path) => Some(PathBuf::from(path)),
        None => Some(swtpm_dir.join(uuid)),
    }
}

/// The files of the state in such a folder.
///
/// # Errors
/// When they cannot be listed. None is no error.
pub fn state_files(dir: &Path) -> Result<Vec<PathBuf>, TpmError> {
    Ok(stamps(dir)?.into_iter().map(|(name, ..)| dir.join(name)).collect())
}

impl TpmState {
    /// Reads the state, again until it did not change meanwhile.
    pub fn read(dir: &Path, limit: Duration) -> Result<Self, TpmError> {
        let until = Instant::now() + limit;
        loop {
            let before = stamps(dir)?;
            if before.is_empty() {
                return Err(TpmError::Missing { path: dir.to_owned() });
            }
            let state = Self::read_files(dir, &before);
            if stamps(dir)? == before {
                return state;
            }
            if Instant::now() >= until {
                return Err(TpmError::Changing { path: dir.to_owned(), limit });
            }
            thread::sleep(PAUSE);
        }
    }

    /// The names of the files, as far as they can be listed.
    pub(super) fn file_names(dir: &Path) -> Vec<String> {
        stamps(dir).unwrap_or_default().into_iter().map(|(name, ..)| name).collect()
    }

    fn read_files(dir: &Path, stamps: &[Stamp]) -> Result<Self, TpmError> {
        let total: u64 = stamps.iter().map(|(_, size, ..)| size).sum();
        if total > MAX_BYTES {
            return Err(TpmError::TooLarge { path: dir.to_owned() });
        }
        let read = |(name, size, ..): &Stamp| {
            let path = dir.join(name);
            let mut content = Zeroizing::new(Vec::with_capacity(*size as usize + 1));
            let file = File::open(&path).and_then(|file| file.take(*size).read_to_end(&mut content));
            file.map(|_| (name.clone(), content)).map_err(|source| TpmError::Read { path, source })
        };
        Ok(Self { files: stamps.iter().map(read).collect::<Result<_, _>>()? })
    }
}

/// The files of a state, without its lock.
fn stamps(dir: &Path) -> Result<Vec<Stamp>, TpmError> {
    let failed = |path: &Path, source| TpmError::Read { path: path.to_owned(), source };
    let mut found = Vec::new();
    for version in ["tpm1.2", "tpm2"] {
        let folder = dir.join(version);
        let entries = match fs::read_dir(&folder) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            other => other.map_err(|e| failed(&folder, e))?,
        };
        for entry in entries {
            let entry = entry.map_err(|e| failed(&folder, e))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // Replaced by a rename between listing and looking: the second look sees the difference.
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_file() && !name.starts_with('.') {
                let name = format!("{version}/{name}");
                found.push((name, meta.size(), meta.ino(), meta.mtime(), meta.mtime_nsec()));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_says_where_the_state_is() {
        let xml = |tpm: &str| format!("<domain><devices>{tpm}</devices></domain>");
        let dir = |tpm: &str| state_dir(&xml(tpm), "u-1", Path::new("/swtpm"));
        let emulated = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>";
        assert_eq!(dir(emulated), Some("/swtpm/u-1".into()));
        let placed = "<tpm><backend type='emulator'><source type='dir' path='/srv/t'/></backend></tpm>";
        assert_eq!(dir(placed), Some("/srv/t".into()));
        assert_eq!(dir("<tpm><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>"), None);
        assert_eq!(dir(""), None);
    }

    #[test]
    fn reads_every_file_but_the_lock_and_says_when_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let limit = Duration::from_secs(1);
        assert!(matches!(TpmState::read(dir.path(), limit), Err(TpmError::Missing { .. })));
        fs::create_dir(dir.path().join("tpm2")).unwrap();
        fs::write(dir.path().join("tpm2/.lock"), "").unwrap();
        fs::write(dir.path().join("tpm2/tpm2-00.permall"), "state").unwrap();
        let state = TpmState::read(dir.path(), limit).unwrap();
        let files: Vec<_> =
            state.files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
        assert_eq!(files, [("tpm2/tpm2-00.permall", &b"state"[..])]);
    }

    #[test]
    fn a_state_that_is_replaced_all_the_time_is_taken_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, stop) = (dir.path().join("tpm2"), std::sync::atomic::AtomicBool::new(false));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("tpm2-00.permall"), [0; 9000]).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0_u8.. {
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        return;
                    }
                    fs::write(folder.join(".new"), vec![n; 9000]).unwrap();
                    fs::rename(folder.join(".new"), folder.join("tpm2-00.permall")).unwrap();
                    thread::sleep(Duration::from_micros(u64::from(n) * 20));
                }
            });
            for _ in 0..200 {
                if let Ok(state) = TpmState::read(dir.path(), Duration::from_secs(1)) {
                    let content = &state.files[0].1;
                    assert_eq!(content.len(), 9000);
                    assert!(content.iter().all(|byte| *byte == content[0]), "of two states");
                }
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}
