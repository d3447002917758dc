//! Whose the checkpoints are that libvirt has, and which of the chain's it has lost though their bitmaps live.
//!
//! A name is not enough: other programs and instances use the same ones. The creation time that libvirt wrote into the
//! XML we keep tells. Where that file is lost, a checkpoint right above or below one of the chain's is the chain's too:
//! nobody else makes one in between. Of chains that retention or a person removed, `vmstore` has kept what told.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use roxmltree::Document;
use vmstream::chain::{BackupSet, CheckpointName, Point, PointId};

use super::{LookError, image_state};
use crate::engine::VmTarget;
use crate::engine::cancel::Cancel;
use crate::engine::domain::marker_name::{self, Testimony};
use crate::engine::domain::xml;
use crate::engine::image::bitmap::LiveBitmap;
use crate::engine::image::qcow2_header;
use crate::engine::image::readable_disk::ReadableDisk;
use vmhost::libvirt::{CheckpointInfo, LibvirtError};
use vmplan::{CheckpointFacts, ImageFacts, Origin};
use vmprogram::Look;
use vmstore::{Mark, VmDir, folder_name, inventory};

/// What is known of the checkpoints of a domain and of its chain.
pub(crate) struct CheckpointOrigin {
    /// Those that libvirt has.
    pub(crate) seen: Vec<CheckpointFacts>,
    /// Those of them that are the chain's, without their XML in its folder.
    pub(crate) lost_xml: Vec<String>,
    /// The chain's last: as libvirt has it, or else as the folder does.
    pub(crate) parent: Option<CheckpointInfo>,
    /// libvirt has it.
    pub(crate) parent_known: bool,
    /// The chain's id, if its images bear a chain marker.
    pub(crate) chain_id: Option<String>,
    /// The chain's, oldest first, that libvirt does not have and the folder does.
    forgotten: Vec<String>,
}

impl CheckpointOrigin {
    /// Compares what libvirt has with the folders of a domain. `points` are the chain's, oldest first; `removed` are
    /// those of chains that are gone.
    pub(crate) fn of(
        known: &[CheckpointInfo],
        vm: &VmTarget,
        points: &[CheckpointName],
        removed: &BTreeSet<Mark>,
    ) -> Self {
        let of_chain = |name: &str| name.parse().ok().filter(|name| points.contains(name));
        let file = |name: &str| xml_file(&vm.chain_dir, name);
        let mut seen: Vec<_> =
            known.iter().map(|c| by_creation_time(c, vm, of_chain(&c.name), removed)).collect();
        let mut lost_xml = Vec::new();
        while let Some(at) = (0..known.len()).find(|at| {
            let is_lost = seen[*at].origin == Origin::Foreign && !file(&known[*at].name).exists();
            is_lost && of_chain(&known[*at].name).is_some() && is_beside_chain(known, &seen, *at)
        }) {
            lost_xml.push(known[at].name.clone());
            seen[at].origin = of_chain(&known[at].name).map_or(Origin::Foreign, Origin::Chain);
        }
        let last = points.last().map(ToString::to_string);
        let is_of_chain = |c: &&CheckpointFacts| matches!(c.origin, Origin::Chain(_));
        let has = |name: &String| seen.iter().filter(is_of_chain).any(|c| c.name == *name);
        let parent_known = last.as_ref().is_some_and(has);
        let kept = |name: &String| {
            let xml = fs::read_to_string(file(name)).ok()?;
            Some(CheckpointInfo { name: name.clone(), xml })
        };
        let parent = match &last {
            Some(last) if parent_known => known.iter().find(|c| c.name == *last).cloned(),
            Some(last) => kept(last),
            None => None,
        };
        // The last is virtnbdbackup's where that went on with the chain.
        let of_parent = parent.as_ref().and_then(|parent| xml::chain_of(&parent.xml));
        let chain_id = of_parent.or_else(|| kept_chain_id(&vm.chain_dir, points));
        let names = points.iter().map(ToString::to_string);
        let forgotten =
            names.filter(|name| known.iter().all(|c| c.name != *name) && file(name).exists()).collect();
        Self { seen, lost_xml, parent, parent_known, chain_id, forgotten }
    }

    /// Whether the image of a disk, which keeps these bitmaps, is the one that the chain went on with.
    ///
    /// QEMU wrote a bitmap of the last checkpoint's name when it closed the image, and the chain marker, which is older, with
    /// it. Where it did not, both are in its memory: then the image is the one that the chain went on with.
    pub(crate) fn image_of(&self, target: &str, kept: &[String]) -> ImageFacts {
        let named_alike = self.parent.as_ref().is_some_and(|parent| kept.contains(&parent.name));
        let Some(id) = self.chain_id.as_deref().filter(|_| named_alike) else { return ImageFacts::Own };
        match marker_name::testimony(id, target, kept) {
            Testimony::Own => ImageFacts::Own,
            Testimony::Other(other) => ImageFacts::OfDisk(other),
            Testimony::None => ImageFacts::PutBack,
        }
    }

    /// The disks for which the chain's last checkpoint has a bitmap.
    ///
    /// Not one whose image was another disk's then. It has a bitmap of that name too, but what that tells are the
    /// changes of the other disk.
    pub(crate) fn disks_with_bitmap(&self, disks: &[ReadableDisk]) -> Vec<String> {
        let Some(parent) = &self.parent else { return vec![] };
        let then = xml::images(&parent.xml);
        let was =
            |target: &str, disk: &ReadableDisk| then.iter().any(|(t, i)| t == target && *i == disk.image);
        let is_exchanged =
            |disk: &ReadableDisk| !was(&disk.target, disk) && then.iter().any(|(other, _)| was(other, disk));
        let mut targets = xml::disks_with_bitmap(&parent.xml);
        targets.retain(|target| !disks.iter().any(|disk| disk.target == *target && is_exchanged(disk)));
        targets
    }

    /// The disks whose images were replaced since the chain's last checkpoint, which has bitmaps for them: no trace of any
    /// chain is in these, and the bitmaps of all others record. None where more than that is wrong.
    pub(crate) fn replaced(
        &self,
        recording: &dyn Fn() -> Result<Vec<LiveBitmap>, LibvirtError>,
        disks: &[ReadableDisk],
        with_bitmap: &[String],
        cancel: &Cancel,
    ) -> Result<Vec<String>, LookError> {
        let Some(parent) = self.parent.as_ref().filter(|_| self.parent_known) else { return Ok(vec![]) };
        let of_chain = |name: &String| name.parse::<CheckpointName>().is_ok() || marker_name::is_name(name);
        let is_new = |disk: &&ReadableDisk| disk.keeps_bitmaps() && !disk.info.bitmaps.iter().any(of_chain);
        let expected = || disks.iter().filter(|disk| with_bitmap.contains(&disk.target));
        if !expected().any(|disk| is_new(&disk)) {
            return Ok(vec![]);
        }
        let live = recording()?;
        let records = |disk: &&ReadableDisk| {
            live.iter().any(|bitmap| bitmap.image == disk.image && bitmap.name == parent.name)
        };
        let (sound, lost): (Vec<_>, Vec<_>) = expected().partition(records);
        let only_new = !sound.is_empty() && lost.iter().all(is_new) && !name_bitmaps(&lost, cancel);
        Ok(lost.into_iter().filter(|_| only_new).map(|disk| disk.target.clone()).collect())
    }

    /// The chain's checkpoints that libvirt has lost and can be given back, oldest first: those whose bitmaps still
    /// record in the running images of all their disks that are still there. None without the chain's last.
    pub(crate) fn redefinable(
        &self,
        recording: &dyn Fn() -> Result<Vec<LiveBitmap>, LibvirtError>,
        disks: &[ReadableDisk],
        with_bitmap: &[String],
    ) -> Result<Vec<String>, LookError> {
        let Some(parent) = self.parent.as_ref().filter(|_| !self.parent_known) else { return Ok(vec![]) };
        let live = recording()?;
        let images: Vec<&Path> = disks
            .iter()
            .filter(|disk| with_bitmap.contains(&disk.target))
            .map(|disk| disk.image.as_path())
            .collect();
        let lives = |name: &String| {
            let has = |image: &&Path| live.iter().any(|b| b.image == **image && b.name == *name);
            !images.is_empty() && images.iter().all(has)
        };
        if !lives(&parent.name) {
            return Ok(vec![]);
        }
        Ok(self.forgotten.iter().filter(|name| lives(name)).cloned().collect())
    }
}

/// Whether one of these images has bitmaps that count no more: then it is no new one. So when that cannot be told.
fn name_bitmaps(disks: &[&ReadableDisk], cancel: &Cancel) -> bool {
    let images: Vec<PathBuf> = disks.iter().map(|disk| disk.image.clone()).collect();
    let looks = vmprogram::look(&images, image_state::LOOK_LIMIT, &|| cancel.stopped().is_some());
    let names = |look: &Result<Look, String>| {
        look.as_ref().map_or(true, |look| qcow2_header::names_bitmaps(&look.head))
    };
    looks.map_or(true, |looks| looks.iter().any(names))
}

/// The checkpoints of a set, oldest first.
pub(crate) fn checkpoints_of(set: &BackupSet) -> Vec<CheckpointName> {
    let name = |point: &Point| match point.id {
        PointId::Checkpoint(name) => Some(name),
        PointId::Diff(_) | PointId::Copy => None,
    };
    set.points.iter().filter_map(name).collect()
}

/// The id of a chain with these points, oldest first, as its folder tells.
pub(crate) fn kept_chain_id(chain_dir: &Path, points: &[CheckpointName]) -> Option<String> {
    let of = |name: &CheckpointName| {
        let xml = fs::read_to_string(xml_file(chain_dir, &name.to_string())).ok()?;
        xml::chain_of(&xml)
    };
    points.last().and_then(of).or_else(|| points.first().and_then(of))
}

/// Where a chain keeps the XML of a checkpoint.
pub(crate) fn xml_file(chain_dir: &Path, name: &str) -> PathBuf {
    chain_dir.join(format!("checkpoints/{name}.xml"))
}

/// Whether a checkpoint is the parent or the child of one of the chain's.
fn is_beside_chain(known: &[CheckpointInfo], seen: &[CheckpointFacts], at: usize) -> bool {
    let parent_of = |checkpoint: &CheckpointInfo| xml::parent_name(&checkpoint.xml);
    let of_chain = known.iter().zip(seen).filter(|(_, c)| matches!(c.origin, Origin::Chain(_)));
    let own_parent = parent_of(&known[at]);
    of_chain.map(|(checkpoint, _)| checkpoint).any(|other| {
        own_parent.as_ref() == Some(&other.name) || parent_of(other).as_ref() == Some(&known[at].name)
    })
}

fn by_creation_time(
    checkpoint: &CheckpointInfo,
    vm: &VmTarget,
    of_chain: Option<CheckpointName>,
    removed: &BTreeSet<Mark>,
) -> CheckpointFacts {
    let name = checkpoint.name.clone();
    let born = xml::creation_time(&checkpoint.xml);
    let is_removed = || born.as_ref().is_some_and(|born| removed.contains(&(name.clone(), born.clone())));
    let same = |dir: &Path| {
        fs::read_to_string(xml_file(dir, &name))
            .is_ok_and(|xml| born.is_some() && xml::creation_time(&xml) == born)
    };
    let origin = match of_chain {
        Some(own_name) if same(&vm.chain_dir) => Origin::Chain(own_name),
        _ if name.parse::<CheckpointName>().is_err() => Origin::Foreign,
        _ if older_chains(&vm.vm_dir).iter().any(|dir| same(dir)) || is_removed() => Origin::OlderChain,
        _ if former_chains(checkpoint, vm).iter().any(|dir| same(dir)) => Origin::OlderChain,
        _ => Origin::Foreign,
    };
    CheckpointFacts { name, origin }
}

/// Every folder of a domain that may hold a chain: periods, archives, and the domain's folder itself.
fn older_chains(vm_dir: &Path) -> Vec<PathBuf> {
    VmDir::at(vm_dir.to_owned()).sets().flatten().map(|set| set.folder).collect()
}

/// The same of a domain that has been renamed since the checkpoint was made: libvirt keeps the old name with it.
fn former_chains(checkpoint: &CheckpointInfo, vm: &VmTarget) -> Vec<PathBuf> {
    let former = xml::domain_name(&checkpoint.xml).filter(|name| name != vm.domain.name());
    former.map(|name| older_chains(&vm.vm_dir.with_file_name(folder_name(&name)))).unwrap_or_default()
}

/// What the XML files in a chain's folder, and in its archives, tell of their checkpoints.
pub fn marks_in(chain_dir: &Path) -> BTreeSet<Mark> {
    let mut dirs = inventory::archives(chain_dir).unwrap_or_default();
    dirs.push(chain_dir.to_owned());
    let files =
        dirs.iter().flat_map(|dir| fs::read_dir(dir.join("checkpoints")).into_iter().flatten().flatten());
    let mark = |entry: fs::DirEntry| {
        let name = entry.file_name().to_str()?.strip_suffix(".xml")?.to_owned();
        Some((name, xml::creation_time(&fs::read_to_string(entry.path()).ok()?)?))
    };
    files.filter_map(mark).collect()
}

/// A checkpoint's XML without its parent, unless that is one of these.
pub(crate) fn with_known_parent(xml: &str, known: &BTreeSet<String>) -> String {
    let parent = xml::parent_name(xml);
    let range = || {
        let document = Document::parse(xml).ok()?;
        let node = document.root_element().children().find(|child| child.has_tag_name("parent"))?;
        Some(node.range())
    };
    match range().filter(|_| parent.is_some_and(|parent| !known.contains(&parent))) {
        Some(range) => format!("{}{}", &xml[..range.start], &xml[range.end..]),
        None => xml.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_that_is_not_known_is_left_out() {
        let xml = "<domaincheckpoint><name>b</name><parent><name>a</name></parent><creationTime>1</creationTime></domaincheckpoint>";
        let without = "<domaincheckpoint><name>b</name><creationTime>1</creationTime></domaincheckpoint>";
        assert_eq!(with_known_parent(xml, &BTreeSet::new()), without);
        assert_eq!(with_known_parent(xml, &BTreeSet::from(["a".to_owned()])), xml);
        assert_eq!(with_known_parent(without, &BTreeSet::new()), without);
    }
}
