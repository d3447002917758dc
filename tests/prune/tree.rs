//! Backup trees as a run leaves them, without a VM: small streams whose meta text tells the date.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::civil::DateTime;
use tempfile::TempDir;
use vmbackup::retention::{OrphanRule, PeriodId, Rules, Scope};
use vmconfig::value::RotationPolicy;
use vmstore::Store;
use vmstream::chain::{CheckpointName, cpt};
use vmstream::sidecar::{FileIdentity, Granules, Head, PlainSums, SidecarWriter, StreamIdentity};
use vmstream::stream::StreamMeta;
use vmstream::stream::writer::{FinishedStream, StreamWriter};

/// A backup path with somebody else's files beside it.
pub(crate) struct Tree {
    dir: TempDir,
}

impl Tree {
    pub(crate) fn new() -> Self {
        // In memory: every removal is synced, and what a disk takes for that is not what is tested.
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let dir = tempfile::tempdir_in(base).expect("a temporary directory");
        fs::create_dir_all(dir.path().join("backups/_state")).expect("a folder");
        fs::create_dir_all(dir.path().join("outside")).expect("a folder");
        fs::write(dir.path().join("outside/precious"), "theirs").expect("a file");
        Self { dir }
    }

    /// The backup path.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("backups")
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.path())
    }

    /// A folder that nothing may touch.
    pub(crate) fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.path().join(path)
    }

    /// A chain with a point at each of these dates in a folder below the backup path.
    pub(crate) fn chain(&self, path: &str, dates: &[DateTime]) -> PathBuf {
        let dir = self.at(path);
        let vm = path.split('/').next().expect("a VM");
        write_chain(&dir, vm, dates);
        dir
    }

    /// Everything in the backup path and outside: what it is, and what is in it.
    pub(crate) fn snapshot(&self) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        look(self.dir.path(), self.dir.path(), &mut found);
        found.retain(|path, _| !path.starts_with("backups/_state"));
        found
    }
}

fn look(root: &Path, dir: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(dir).expect("a folder can be listed").flatten() {
        let path = entry.path();
        let about = path.symlink_metadata().expect("it is there");
        let text = if about.is_symlink() {
            format!("link to {}", fs::read_link(&path).expect("a link").display())
        } else if about.is_dir() {
            look(root, &path, found);
            "folder".to_owned()
        } else {
            format!("{:?}", fs::read(&path).expect("a file").len())
        };
        found.insert(path.strip_prefix(root).expect("below the root").to_owned(), text);
    }
}

/// What libvirt tells of each checkpoint.
const CHECKPOINT: &str = "<domaincheckpoint><creationTime>1795000000</creationTime></domaincheckpoint>";

/// A full and increments of one disk of 1 KiB.
pub(crate) fn write_chain(dir: &Path, vm: &str, dates: &[DateTime]) {
    fs::create_dir_all(dir.join("checkpoints")).expect("a folder");
    let names: Vec<CheckpointName> = (0_u32..).zip(dates).map(|(n, _)| CheckpointName::new(n)).collect();
    for (name, date) in names.iter().zip(dates) {
        let parent = name.number().checked_sub(1).map(CheckpointName::new);
        let file = parent.map_or("vda.full.data".to_owned(), |_| format!("vda.inc.{name}.data"));
        write_stream(&dir.join(file), "vda", *name, parent, &date.to_string());
        fs::write(dir.join(format!("checkpoints/{name}.xml")), CHECKPOINT).expect("a file");
        fs::write(dir.join(format!("vmconfig.{name}.xml")), "<domain/>").expect("a file");
    }
    fs::write(dir.join(format!("{vm}.cpt")), cpt::encode(&names)).expect("a file");
}

/// A full of two disks whose sidecars list different files of one point: one of the two is of another backup, and nothing
/// tells which.
pub(crate) fn write_doubtful(dir: &Path, vm: &str, date: DateTime) {
    write_chain(dir, vm, &[date]);
    let disks = ["vda", "vdb"];
    for disk in disks {
        let file = format!("{disk}.full.data");
        let stream = write_stream(&dir.join(&file), disk, CheckpointName::FIRST, None, &date.to_string());
        let (checksum, sum) = (format!("{file}.chksum"), stream.adler32.to_string());
        fs::write(dir.join(&checksum), &sum).expect("a file");
        let granules = Granules::of_disk(1024);
        let mut writer =
            SidecarWriter::create(&dir.join(format!("{disk}.full.idx")), granules).expect("a sidecar");
        writer.data(0, 1024, &PlainSums::of(0, &[7; 1024], granules)).expect("a granule");
        let head = Head {
            writer: "test".to_owned(),
            stream: StreamIdentity {
                name: file,
                size: stream.size,
                adler32: Some(stream.adler32),
                digest: Some(stream.digest),
            },
            target: disk.to_owned(),
            point: CheckpointName::FIRST.to_string(),
            parent: None,
            parent_sidecar: None,
            taken_seconds: 1_795_000_000,
            granules,
            disks: Some(disks.map(str::to_owned).to_vec()),
            left_out: Vec::new(),
            files: vec![FileIdentity::of(&checksum, sum.as_bytes())],
        };
        writer.finish(&head).expect("the end of a sidecar");
    }
}

fn write_stream(
    path: &Path,
    disk: &str,
    name: CheckpointName,
    parent: Option<CheckpointName>,
    date: &str,
) -> FinishedStream {
    let meta = StreamMeta {
        virtual_size: 1024,
        data_size: 0,
        date: date.to_owned(),
        disk_name: disk.to_owned(),
        disk_format: "qcow2".to_owned(),
        checkpoint_name: name.to_string(),
        compression: None,
        parent_checkpoint: parent.map(|p| p.to_string()).unwrap_or_default(),
        incremental: parent.is_some(),
        stream_version: 2,
    };
    let mut writer = StreamWriter::create(path, meta).expect("a stream");
    writer.data(0, 1024, &[7; 1024]).expect("a frame");
    writer.finish().expect("the end of a stream")
}

/// The moment of these tests.
pub(crate) fn now() -> DateTime {
    "2026-11-22T01:00:00".parse().expect("a date")
}

pub(crate) fn days_ago(days: i64) -> DateTime {
    now() - jiff::Span::new().days(days)
}

pub(crate) fn period(name: &str) -> PeriodId {
    PeriodId::parse(name).expect("a period")
}

pub(crate) fn rules() -> Rules {
    let orphans = OrphanRule { enabled: true, max_age_days: 90, min_age_days: 7, dry_run: false };
    Rules { days: 3, weeks: 3, months: 3, orphans, require_replica: false }
}

/// The VM `web` after a backup.
pub(crate) fn scope<'a>(path: &'a Path, current: &'a PeriodId, rules: &'a Rules) -> Scope<'a> {
    let policy = match current.kind().policy() {
        RotationPolicy::Never => unreachable!("no period is of that policy"),
        policy => policy,
    };
    Scope { backup_path: path, vm_name: "web", folder: "web", policy, current, rules, now: now() }
}
