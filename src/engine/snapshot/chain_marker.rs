//! Chain markers: a bitmap with a name of its own, `vmbackup-chain-ID.TARGET`, in each image of a chain.
//!
//! libvirt and QEMU know the bitmap of a point by its name, and each chain uses the same names. An image that was put back
//! from the time of an earlier chain may keep one of the right name, with the changes of other days. It does not keep the
//! chain's marker. And an image that has changed places with that of another disk, or block devices that changed names,
//! keep the chain marker of the other disk. In chains that versions before 0.6 began it is `vmbackup-chain-ID`, of any disk.
//!
//! A chain marker is made as a checkpoint of libvirt's, of which libvirt at once forgets all but the bitmaps; it is removed by
//! way of the same checkpoint given back. So libvirt takes it along with the others to the overlay of a snapshot, to
//! another host and into a block copy, and the domain is not tainted by commands to its monitor. It records like the
//! others, because libvirt leaves behind what does not; nobody reads what it recorded. It is made before the chain's first
//! checkpoint, so that no image has a bitmap of the chain and not its chain marker.

use std::collections::BTreeSet;

use super::SnapshotError;
use crate::engine::claims::claimed::Claims;
use crate::engine::claims::journal::Journal;
use crate::engine::domain::facts::parse_domain;
use crate::engine::domain::marker_name::{PREFIX, Testimony, bitmap_name, id_in, of_any_disk, testimony};
use crate::engine::domain::xml;
use crate::engine::fail_point::{FailPoint, FailPoints};
use crate::engine::image::qemu_img;
use crate::engine::look::observe::Observed;
use crate::engine::plan::job::JobPlan;
use crate::engine::plan::role::Role;
use vmhost::libvirt::{CheckpointDelete, CheckpointInfo, Domain, ErrorKind, LibvirtError, Said};

/// The images of a domain that runs, about to be marked for a chain.
pub(crate) struct Images<'a> {
    pub(crate) domain: &'a Domain,
    pub(crate) observed: &'a Observed,
    /// A new chain is about to begin.
    pub(crate) is_full: bool,
    pub(crate) fail_points: &'a FailPoints,
}

impl Images<'_> {
    /// The ids of earlier chains whose chain markers the images may bear, when a new chain is about to begin. To be asked
    /// before the checkpoints that name them are deleted: while QEMU runs, an image does not tell what it will keep.
    pub(crate) fn earlier(&self) -> Result<BTreeSet<String>, LibvirtError> {
        if !self.is_full {
            return Ok(BTreeSet::new());
        }
        let known = self.domain.checkpoints()?;
        let chains = known.iter().filter_map(|checkpoint| xml::chain_of(&checkpoint.xml));
        let mut ids: BTreeSet<String> = chains.chain(self.observed.chain_id.clone()).collect();
        let kept = self.observed.disks.iter().flat_map(|disk| &disk.info.bitmaps);
        ids.extend(kept.filter_map(|name| id_in(name)).map(str::to_owned));
        Ok(ids)
    }

    /// Sees to it that the images bear the marker of the chain and none of earlier ones. Returns the id of the chain,
    /// unless it has no chain marker.
    pub(crate) fn settle(
        &self,
        plan: &JobPlan<'_>,
        earlier: &BTreeSet<String>,
        claims: &mut Claims<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<String>, SnapshotError> {
        let run_id = claims.journal().id.clone();
        let chain = if self.is_full { Some(&run_id) } else { self.observed.chain_id.as_ref() };
        let Some(chain) = chain.cloned() else { return Ok(None) };
        let marked = plan.disks.iter().filter(|(_, role)| role.is_marked()).map(|(disk, _)| *disk);
        let (to_place, to_remove): (Vec<&str>, Vec<Mark<'_>>) = if self.is_full {
            let targets: Vec<&str> = marked.map(|disk| disk.target.as_str()).collect();
            let skipped = plan.skipped.iter().map(String::as_str);
            let all = targets.iter().copied().chain(skipped);
            let marks = all.flat_map(|target| marks_of(target, earlier, self.bitmaps_of(target))).collect();
            (targets, marks)
        } else {
            // A disk that was detached for a while and comes back has its own.
            let was_added = |role: Role| role.is_marked() && role.since().is_none();
            let added = plan.disks.iter().filter(|(_, role)| was_added(*role)).map(|(disk, _)| *disk);
            let added =
                added.filter(|disk| testimony(&chain, &disk.target, &disk.info.bitmaps) != Testimony::Own);
            let added: Vec<&str> = added.map(|disk| disk.target.as_str()).collect();
            // What it was before, under another name.
            let of_chain = BTreeSet::new();
            let marks = added.iter().flat_map(|target| marks_of(target, &of_chain, self.bitmaps_of(target)));
            let marks = marks.filter(|mark| id_in(&mark.name) == Some(chain.as_str())).collect();
            (added, marks)
        };
        if to_place.is_empty() {
            return Ok(Some(chain));
        }
        let removed = to_remove.iter().map(|mark| mark.name.clone()).collect::<BTreeSet<_>>();
        let placed = to_place.iter().map(|target| bitmap_name(&chain, target));
        claims.set_markers(removed.into_iter().chain(placed).collect())?;
        for mark in &to_remove {
            remove(self.domain, &mark.name, &run_id, mark.target)?;
        }
        let placed = self.place(&chain, &run_id, &to_place, warnings)?;
        Ok((placed || !self.is_full).then_some(chain))
    }

    fn bitmaps_of(&self, target: &str) -> &[String] {
        let disk = self.observed.disks.iter().find(|disk| disk.target == target);
        disk.map_or(&[], |disk| &disk.info.bitmaps)
    }

    /// Gives these disks their chain markers. False, with a warning, when they cannot have them: they guard against a rare
    /// mistake, and are not worth a backup.
    fn place(
        &self,
        chain: &str,
        run_id: &str,
        targets: &[&str],
        warnings: &mut Vec<String>,
    ) -> Result<bool, LibvirtError> {
        let domain = self.domain;
        for (number, target) in targets.iter().enumerate() {
            // One by one: libvirt gives all bitmaps of a checkpoint its name.
            let name = bitmap_name(chain, target);
            let xml = xml::bitmaps_alone(&name, run_id, &[target]);
            match domain.create_checkpoint(&CheckpointInfo { name: name.clone(), xml }) {
                Ok(()) => {
                    self.fail_points.at(FailPoint::MarkerCreated);
                    domain.delete_checkpoint(&name, CheckpointDelete::MetadataOnly)?;
                }
                // A disk that was detached for a while and comes back has it.
                Err(e) if e.said() == Said::BitmapExists => {}
                Err(e) if e.is_connection_lost() => return Err(e),
                Err(e) => {
                    warnings.push(format!(
                        "the image of {target} could not be marked ({e}): should it be put back from an earlier time, that might not be \
                         noticed"
                    ));
                    for target in &targets[..number] {
                        remove(domain, &bitmap_name(chain, target), run_id, target)?;
                    }
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// A chain marker in the image of a disk.
struct Mark<'a> {
    target: &'a str,
    name: String,
}

/// The chain markers that the image of a disk may bear: those of these chains, and what it kept when QEMU opened it.
fn marks_of<'a>(target: &'a str, chains: &BTreeSet<String>, kept: &[String]) -> Vec<Mark<'a>> {
    let names = chains.iter().flat_map(|id| [of_any_disk(id), bitmap_name(id, target)]);
    let kept = kept.iter().filter(|name| name.starts_with(PREFIX)).cloned();
    let names: BTreeSet<String> = names.chain(kept).collect();
    names.into_iter().map(|name| Mark { target, name }).collect()
}

/// Removes a chain marker from a disk of a domain that runs. False when it has none.
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

/// Takes back what a run did that is given up. The chain marker that it made goes; that of a chain that goes on stays, also on
/// a disk that was to be added. False when there was nothing to do.
pub(crate) fn undo(domain: &Domain, journal: &Journal) -> Result<bool, LibvirtError> {
    if journal.markers.is_empty() {
        return Ok(false);
    }
    let active = domain.state()?.is_active();
    let known = domain.checkpoints()?;
    let mut done = false;
    for name in &journal.markers {
        let is_own = id_in(name) == Some(journal.id.as_str());
        if known.iter().any(|checkpoint| checkpoint.name == *name) {
            forget(domain, name, active)?;
            done = true;
        } else if is_own && active {
            done |= remove_own(domain, name, &journal.id)?;
        }
        if is_own && !active {
            for image in &journal.images {
                // Fails in the images of other disks, and where QEMU was killed before it wrote it, which is as good.
                done |= qemu_img::remove_bitmap(image, name).is_ok();
            }
        }
    }
    Ok(done)
}

/// Deletes the checkpoint, and where that can be its bitmaps. False when it had none.
fn forget(domain: &Domain, name: &str, active: bool) -> Result<bool, LibvirtError> {
    let how = if active { CheckpointDelete::WithBitmaps } else { CheckpointDelete::MetadataOnly };
    match domain.delete_checkpoint(name, how) {
        Err(e) if e.is_bitmap_missing() => {
            domain.delete_checkpoint(name, CheckpointDelete::MetadataOnly).map(|()| false)
        }
        other => other.map(|()| active),
    }
}

fn remove_own(domain: &Domain, name: &str, run_id: &str) -> Result<bool, LibvirtError> {
    // A definition that cannot be read is what the run was given up for.
    let Ok(facts) = parse_domain(&domain.xml(false)?) else { return Ok(false) };
    let of_disk = name.strip_prefix(&of_any_disk(run_id)).and_then(|rest| rest.strip_prefix('.'));
    let mut removed = false;
    for disk in facts.disks.readable.iter().filter(|disk| of_disk.is_none_or(|of| of == disk.target)) {
        removed |= remove(domain, name, run_id, &disk.target)?;
    }
    Ok(removed)
}
