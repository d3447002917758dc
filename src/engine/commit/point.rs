//! The files that make up one restore point, beside the streams' content.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use vmstream::chain::{CheckpointName, PointId, SetFile, cpt};
use vmstream::new_point::{OpenSidecar, PointWriter, SealedPoint};
use vmstream::sidecar::{Granules, Head, LeftOut, StreamIdentity};
use vmstream::stream::Compression;
use vmstream::stream::writer::StreamWriter;

use super::CommitError;
use crate::engine::VmTarget;
use crate::engine::copy::{Copied, CopiedDisk, SidecarPlan};
use crate::engine::domain::image_format::ImageFormat;
use crate::engine::failure::Changed;
use crate::engine::failure::FileError;
use crate::engine::look::image_state::{STATE_FILE, StillImages, TakenOf};
use crate::engine::look::observe::Observed;
use crate::engine::plan::meta::{Origin, meta};
use crate::engine::plan::names::stream_file;
use crate::engine::plan::point_files::{boot_files, checkpoint_file, cpt_file, missing_points};
use crate::engine::plan::point_identity::PointIdentity;
use crate::engine::snapshot::identity::{HeldFile, IdentityFiles};
use vmhost::identity::TpmFolder;
use vmprogram::{NEVER, ProgramError};
use vmreport::DiskReport;

/// No kernel, initrd or firmware is larger.
const MAX_BOOT_BYTES: u64 = 4 << 30;

/// How long a look at all of them may take.
const BOOT_FILE_LIMIT: Duration = Duration::from_secs(60);

/// Writes what a point has beside its streams, the marker with it. `nvram` is the NVRAM of the point's moment; without it
/// the file is read now.
pub(crate) fn write_files(
    vm: &VmTarget,
    observed: &Observed,
    point: &PointIdentity,
    nvram: Option<&HeldFile>,
    files: &mut PointWriter<'_>,
) -> Result<(), CommitError> {
    let config = SetFile::VmConfig(point.id).to_string();
    match point.checkpoint() {
        Some(name) => {
            write_checkpoint(vm, name, files)?;
            files.add_small(&config, observed.config_xml.as_bytes())?;
            write_side_files(vm, observed, &name.to_string(), nvram, files)?;
            let before = if point.parent.is_some() { observed.seen.chain.points.as_slice() } else { &[] };
            let names: Vec<CheckpointName> = before.iter().copied().chain([name]).collect();
            files.set_list(&cpt_file(vm), &cpt::encode(&names))?;
        }
        None => {
            write_side_files(vm, observed, &point.id.ident(), nvram, files)?;
            files.set_list(&config, observed.config_xml.as_bytes())?;
        }
    }
    Ok(())
}

/// Writes a checkpoint as libvirt describes it.
fn write_checkpoint(
    vm: &VmTarget,
    name: CheckpointName,
    files: &mut PointWriter<'_>,
) -> Result<(), CommitError> {
    let known = vm.domain.checkpoints()?;
    let Some(checkpoint) = known.into_iter().find(|c| c.name == name.to_string()) else {
        let what = format!("checkpoint {name} is gone");
        return Err(Changed { domain: vm.domain.name().to_owned(), what }.into());
    };
    Ok(files.add_small(&checkpoint_file(name), checkpoint.xml.as_bytes())?)
}

/// Writes what the point was taken of: disks that hold still, in this state.
pub(crate) fn write_state(
    observed: &Observed,
    point: &PointIdentity,
    raw_disks: bool,
    still: StillImages,
    files: &mut PointWriter<'_>,
) -> Result<(), CommitError> {
    let Observed { disks, beside, config_xml, .. } = observed;
    let taken_of = TakenOf::new(point.id, disks, raw_disks, still, beside.clone(), config_xml);
    Ok(match point.id {
        PointId::Copy => files.add_small(STATE_FILE, &taken_of.to_json()),
        // The next point replaces it, so no sidecar may name it.
        _ => files.add_earlier(STATE_FILE, &taken_of.to_json(), point.time),
    }?)
}

/// Writes what every point has: image facts, boot files, the autostart flag.
fn write_side_files(
    vm: &VmTarget,
    observed: &Observed,
    ident: &str,
    nvram: Option<&HeldFile>,
    files: &mut PointWriter<'_>,
) -> Result<(), CommitError> {
    for disk in observed.disks.iter().filter(|d| d.format == ImageFormat::Qcow2) {
        files.add_small(&format!("{}.{ident}.qcow.json", disk.target), disk.info.json.as_bytes())?;
    }
    let boot = boot_files(observed, ident);
    let failed = |path: &Path, source| FileError { doing: "read boot file", path: path.to_owned(), source };
    let paths: Vec<PathBuf> = boot.iter().map(|(path, _)| (*path).to_owned()).collect();
    // Storage that hangs is met by a process that can be left behind.
    if let Err(error @ ProgramError::TimedOut { .. }) = vmprogram::look(&paths, BOOT_FILE_LIMIT, NEVER) {
        let path = paths.first().map_or(Path::new(""), PathBuf::as_path);
        return Err(failed(path, io::Error::other(format!("a look at the boot files {error}"))).into());
    }
    for (path, name) in boot {
        if let Some(held) = nvram.filter(|held| held.path == path) {
            files.add_small(&name, &held.content)?;
            continue;
        }
        match open_boot_file(path) {
            // The NVRAM of a VM that was never started is not there yet.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                tracing::warn!(vm = vm.domain.name(), "{} does not exist and is not saved", path.display());
            }
            opened => files.add_copy(&name, &mut opened.map_err(|source| failed(path, source))?)?,
        }
    }
    if vm.domain.autostart().unwrap_or(false) {
        files.add_small(&format!("autostart.{ident}"), b"True")?;
    }
    Ok(())
}

/// Opens a boot file: nothing that has no end, and no more than it has now.
fn open_boot_file(path: &Path) -> io::Result<io::Take<File>> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let about = file.metadata()?;
    let is_device = about.file_type().is_block_device();
    if !(about.is_file() || is_device) || about.len() > MAX_BOOT_BYTES {
        let gib = MAX_BOOT_BYTES >> 30;
        return Err(io::Error::other(format!("it is no file of at most {gib} GiB")));
    }
    Ok(file.take(if is_device { MAX_BOOT_BYTES } else { about.len() }))
}

/// Writes what a point keeps besides disks and what they need.
pub(crate) fn add_identity(files: &mut PointWriter<'_>, identity: &IdentityFiles) -> Result<(), CommitError> {
    files.add_small(&identity.name, &identity.facts)?;
    for (name, content) in identity.folder.iter().flat_map(TpmFolder::files) {
        files.add_secret(&name, content)?;
    }
    Ok(())
}

/// Takes the copied disks into the point, each stream with its checksum file and its sidecar, and tells what they are.
pub(crate) fn add_disks(
    files: &mut PointWriter<'_>,
    copied: Vec<CopiedDisk>,
    ident: &str,
) -> Result<Vec<DiskReport>, CommitError> {
    let mut disks = Vec::new();
    for CopiedDisk { target, file: name, sidecar: plan, copied, stages } in copied {
        let (file_bytes, data_bytes, identity, writer) = match copied {
            Copied::Stream { stream, sidecar } => {
                files.add_stream(&name, &stream.file)?;
                files.add_small(&format!("{name}.chksum"), stream.adler32.to_string().as_bytes())?;
                let (adler32, digest) = (Some(stream.adler32), Some(stream.digest));
                let identity = StreamIdentity { name: name.clone(), size: stream.size, adler32, digest };
                (stream.size, stream.data_size, identity, sidecar)
            }
            Copied::RawImage { file, data_bytes, sidecar } => {
                files.add_stream(&name, &file)?;
                let size = sidecar.granules().disk_size();
                let identity = StreamIdentity { name: name.clone(), size, adler32: None, digest: None };
                (data_bytes, data_bytes, identity, sidecar)
            }
        };
        let head = head(&plan, (&target, identity), ident, files, writer.granules());
        files.add_sidecar(OpenSidecar { name: plan.file, writer: *writer, head });
        disks.push(DiskReport { target, file: name, file_bytes, data_bytes, stages });
    }
    Ok(disks)
}

/// What a sidecar says of its own disk.
fn head(
    plan: &SidecarPlan,
    (target, stream): (&str, StreamIdentity),
    ident: &str,
    files: &PointWriter<'_>,
    granules: Granules,
) -> Head {
    let taken = files.time().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Head {
        writer: concat!("vmbackup ", env!("CARGO_PKG_VERSION")).to_owned(),
        stream,
        target: target.to_owned(),
        point: ident.to_owned(),
        parent: plan.parent.clone(),
        parent_sidecar: plan.parent_digest,
        taken_seconds: taken.as_secs(),
        granules,
        disks: None,
        left_out: Vec::new(),
        files: Vec::new(),
    }
}

/// Ends a point whose files are all written. Its sidecars list its disks, and those that are left out.
pub(crate) fn seal(files: PointWriter<'_>, left_out: &[LeftOut]) -> Result<SealedPoint, CommitError> {
    let (point, sidecars) = files.seal(left_out)?;
    for sidecar in sidecars.iter().filter(|sidecar| sidecar.without_files) {
        tracing::warn!(
            "{} proves its disk, not the point's other files: they are too many, or have names of another folder",
            sidecar.name
        );
    }
    Ok(point)
}

/// Gives a disk that was added an empty stream at each earlier point: old restore programs count a disk's streams to
/// find a point (`--until virtnbdbackup.N` takes the N-th).
pub(crate) fn add_placeholders(
    observed: &Observed,
    point: &PointIdentity,
    compression: Option<Compression>,
    files: &mut PointWriter<'_>,
) -> Result<(), CommitError> {
    let streamed = observed.disks.iter().filter(|d| d.format == ImageFormat::Qcow2);
    for disk in streamed {
        for (kind, (name, time)) in missing_points(observed, point, &disk.target) {
            // A stream that stands alone and has no frame: so readers know that the disk was not there. The size
            // must be the disk's: the oldest of them make the image by the first stream.
            let checkpoint = name.to_string();
            let origin = Origin { checkpoint, parent: String::new(), incremental: false, time };
            let file = stream_file(&disk.target, kind, point.suffix);
            let path: PathBuf = files.unfinished_path(&file);
            let meta = meta(&disk.target, disk.format, disk.info.virtual_size, compression, &origin);
            let finished = StreamWriter::create(&path, meta).and_then(StreamWriter::finish);
            let finished =
                finished.map_err(|source| FileError { doing: "write", path: path.clone(), source })?;
            files.add_stream_at(&file, &finished.file, time)?;
            files.add_earlier(&format!("{file}.chksum"), finished.adler32.to_string().as_bytes(), time)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_boot_file_has_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let kernel = dir.path().join("vmlinuz");
        std::fs::write(&kernel, b"a kernel").unwrap();
        let mut opened = open_boot_file(&kernel).unwrap();
        // What grows while it is read is taken as it was.
        File::options().append(true).open(&kernel).unwrap().write_all(b", and more").unwrap();
        let mut read = String::new();
        opened.read_to_string(&mut read).unwrap();
        assert_eq!(read, "a kernel");
        let (large, pipe) = (dir.path().join("large"), dir.path().join("pipe"));
        File::create(&large).unwrap().set_len(MAX_BOOT_BYTES + 1).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        for path in [&large, &pipe, &dir.path().to_owned(), &"/dev/zero".into()] {
            let refused = open_boot_file(path).unwrap_err();
            assert_eq!(refused.to_string(), "it is no file of at most 4 GiB", "{}", path.display());
        }
        File::create(&large).unwrap().set_len(MAX_BOOT_BYTES).unwrap();
        assert!(open_boot_file(&large).is_ok());
    }
}
