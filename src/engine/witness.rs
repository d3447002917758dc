//! Witnesses: a bitmap with a name of its own, `vmbackup-chain-ID`, in each image of a chain.
//!
//! libvirt and QEMU know the bitmap of a point by its name, and each chain uses the same names. An image that was put back
//! from the time of an earlier chain may keep one of the right name, with the changes of other days. It does not keep the
//! chain's witness.
//!
//! A witness is made as a checkpoint of libvirt's, of which libvirt at once forgets all but the bitmaps; it is removed by
//! way of the same checkpoint given back. So libvirt takes it along with the others to the overlay of a snapshot, to
//! another host and into a block copy, and the domain is not tainted by commands to its monitor. It records like the
//! others, because libvirt leaves behind what does not; nobody reads what it recorded. It is made before the chain's first
//! checkpoint, so that no image has a bitmap of the chain and not its witness.

use std::collections::BTreeSet;

use super::disk::parse_domain;
use super::job::{JobPlan, Role};
use super::journal::Journal;
use super::live::Live;
use super::owned::Owned;
use super::recover::is_bitmap_missing;
use super::report::Report;
use super::xml::{self, Owner};
use super::{BackupError, qemu_img};
use crate::libvirt::{CheckpointDelete, CheckpointInfo, Domain, ErrorKind, LibvirtError};
use crate::policy::Decision;

const PREFIX: &str = "vmbackup-chain-";

/// What the witness of a chain is called.
pub(super) fn bitmap_name(chain_id: &str) -> String {
    format!("{PREFIX}{chain_id}")
}

/// The id of the chain that a checkpoint belongs to. `None` where its images bear no witness: chains of virtnbdbackup and of
/// versions before there were any.
pub(super) fn chain_of(checkpoint_xml: &str) -> Option<String> {
    Owner::of(checkpoint_xml)?.chain
}

/// The witnesses of earlier chains that the images of a domain may bear, when a new chain is about to begin. To be asked
/// before the checkpoints that name them are deleted: while QEMU runs, an image does not tell what it will keep.
pub(super) fn earlier(live: &Live<'_>) -> Result<BTreeSet<String>, BackupError> {
    if !matches!(live.plan.decision, Decision::Full { .. }) {
        return Ok(BTreeSet::new());
    }
    let known = live.vm.domain.checkpoints()?;
    let chains = known.iter().filter_map(|checkpoint| chain_of(&checkpoint.xml));
    let mut names: BTreeSet<String> =
        chains.chain(live.observed.chain_id.clone()).map(|id| bitmap_name(&id)).collect();
    let kept = live.observed.disks.iter().flat_map(|disk| &disk.info.bitmaps);
    names.extend(kept.filter(|name| name.starts_with(PREFIX)).cloned());
    Ok(names)
}

/// Sees to it that the images bear the witness of the chain and none of earlier ones. Returns the id of the chain, unless
/// it has no witness.
pub(super) fn settle(
    live: &Live<'_>,
    plan: &JobPlan<'_>,
    earlier: BTreeSet<String>,
    owned: &mut Owned<'_>,
    report: &mut Report,
) -> Result<Option<String>, BackupError> {
    let domain = &live.vm.domain;
    let run_id = owned.journal().id.clone();
    let is_stream = |role: Role| matches!(role, Role::Stream { .. });
    let streams = plan.disks.iter().filter(|(_, role)| is_stream(*role)).map(|(disk, _)| *disk);
    if matches!(live.plan.decision, Decision::Full { .. }) {
        let targets: Vec<&str> = streams.map(|disk| disk.target.as_str()).collect();
        let name = bitmap_name(&run_id);
        owned.set_witnesses(earlier.iter().cloned().chain([name.clone()]).collect())?;
        let skipped = plan.skipped.iter().map(String::as_str);
        for target in targets.iter().copied().chain(skipped) {
            for name in &earlier {
                remove(domain, name, &run_id, target)?;
            }
        }
        let placed = place(live, &name, &run_id, &targets, report)?;
        return Ok(placed.then_some(run_id));
    }
    let Some(chain) = &live.observed.chain_id else { return Ok(None) };
    let name = bitmap_name(chain);
    let was_added = |role: Role| is_stream(role) && role.since().is_none();
    let added = plan.disks.iter().filter(|(_, role)| was_added(*role)).map(|(disk, _)| *disk);
    for disk in added.filter(|disk| !disk.info.bitmaps.contains(&name)) {
        owned.set_witnesses(vec![name.clone()])?;
        place(live, &name, &run_id, &[&disk.target], report)?;
    }
    Ok(Some(chain.clone()))
}

/// Gives these disks a witness. False, with a warning, when they cannot have one: it guards against a rare mistake, and is
/// not worth a backup.
fn place(
    live: &Live<'_>,
    name: &str,
    run_id: &str,
    targets: &[&str],
    report: &mut Report,
) -> Result<bool, BackupError> {
    let domain = &live.vm.domain;
    let xml = xml::bitmaps_alone(name, run_id, targets);
    match domain.create_checkpoint(&CheckpointInfo { name: name.to_owned(), xml }) {
        Ok(()) => {
            live.engine.fail_points.at("witness-created");
            domain.delete_checkpoint(name, CheckpointDelete::MetadataOnly)?;
            Ok(true)
        }
        // A disk that was detached for a while and comes back has it.
        Err(e) if e.message.contains("Bitmap already exists") => Ok(true),
        Err(e) if e.is_connection_lost() => Err(e.into()),
        Err(e) => {
            report.warnings.push(format!(
                "the image of {} could not be marked ({e}): should it be put back from an earlier time, that might not be noticed",
                targets.join(", ")
            ));
            Ok(false)
        }
    }
}

/// Removes a witness from a disk of a domain that runs. False when it has none.
///
/// Also one that is of no use since QEMU was killed: no image with such a bitmap can be resized (QEMU, `block_resize`).
fn remove(domain: &Domain, name: &str, run_id: &str, target: &str) -> Result<bool, LibvirtError> {
    let xml = xml::bitmaps_alone(name, run_id, &[target]);
    match domain.redefine_checkpoint(&CheckpointInfo { name: name.to_owned(), xml }) {
        Ok(()) => forget(domain, name, true),
        Err(e) if e.kind == ErrorKind::Unsupported => Ok(false),
        Err(e) => Err(e),
    }
}

/// Takes back what a run did that is given up. The witness that it made goes; that of a chain that goes on stays, also on
/// a disk that was to be added. False when there was nothing to do.
pub(super) fn undo(domain: &Domain, journal: &Journal) -> Result<bool, LibvirtError> {
    if journal.witnesses.is_empty() {
        return Ok(false);
    }
    let own = bitmap_name(&journal.id);
    let active = domain.state()?.is_active();
    let known = domain.checkpoints()?;
    let mut done = false;
    for name in &journal.witnesses {
        done |= if known.iter().any(|checkpoint| checkpoint.name == *name) {
            forget(domain, name, active)?;
            true
        } else if active && *name == own {
            remove_own(domain, name, &journal.id)?
        } else {
            false
        };
    }
    if !active && journal.witnesses.contains(&own) {
        for image in &journal.images {
            // Fails where QEMU was killed before it wrote it, which is as good.
            done |= qemu_img::remove_bitmap(image, &own).is_ok();
        }
    }
    Ok(done)
}

/// Deletes the checkpoint, and where that can be its bitmaps. False when it had none.
fn forget(domain: &Domain, name: &str, active: bool) -> Result<bool, LibvirtError> {
    let how = if active { CheckpointDelete::WithBitmaps } else { CheckpointDelete::MetadataOnly };
    match domain.delete_checkpoint(name, how) {
        Err(e) if is_bitmap_missing(&e) => {
            domain.delete_checkpoint(name, CheckpointDelete::MetadataOnly).map(|()| false)
        }
        other => other.map(|()| active),
    }
}

fn remove_own(domain: &Domain, name: &str, run_id: &str) -> Result<bool, LibvirtError> {
    // A definition that cannot be read is what the run was given up for.
    let Ok(facts) = parse_domain(&domain.xml(false)?) else { return Ok(false) };
    let mut removed = false;
    for disk in &facts.disks.readable {
        removed |= remove(domain, name, run_id, &disk.target)?;
    }
    Ok(removed)
}
