//! Which files of a set are of another backup: what somebody copied back from an archive, or from a wrong replica.
//!
//! Such a file is whole, and so is its sidecar. It is known by what sidecars say of each other:
//! ```text
//! bound: the one goes on from the other         apart: it goes on from another one than the whole one before it
//!        both list the same files of one point         they list other files of one point
//! ```
//! Bound files are one group, of one backup. Which of the groups that are apart is at home here, the files beside them
//! tell, else the number of points.
//!
//! Must not live here: reading sidecars (`bonds`), content (`verify`), what is done about it.

use super::ident::CheckpointName;
use super::ident::PointId;
use super::names::SetFile;
use super::point::PointDisk;
use super::problem::SetProblem;
use super::set::BackupSet;
use crate::sidecar::FileIdentity;
use std::collections::{BTreeMap, BTreeSet};

/// Fills in the streams and images that are of another backup than the rest, or that may be.
pub(super) fn check(set: &mut BackupSet) {
    let bonds = Bonds::of(set);
    if bonds.apart.is_empty() {
        return;
    }
    let found = bonds.judge(set);
    set.problems.extend(found);
}

/// A stream or image whose sidecar says something of others.
struct Member<'a> {
    /// The place of its point in the set.
    point: usize,
    part: &'a PointDisk,
}

/// Two members that are of different backups, the later one last.
#[derive(Clone, Copy)]
struct Apart {
    members: (usize, usize),
    how: How,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// The later one goes on from another sidecar.
    Cut,
    /// They are of one point, and list other files.
    OtherFiles,
}

/// All members, and what holds them together or keeps them apart.
struct Bonds<'a> {
    members: Vec<Member<'a>>,
    /// The group of each member, known by its first one. While members still come, another of the same group.
    groups: Vec<usize>,
    apart: Vec<Apart>,
    /// Whether a member's sidecar is whole, as far as anybody asked: all of it is read.
    whole: BTreeMap<usize, bool>,
}

impl<'a> Bonds<'a> {
    fn of(set: &'a BackupSet) -> Self {
        let mut all =
            Self { members: Vec::new(), groups: Vec::new(), apart: Vec::new(), whole: BTreeMap::new() };
        // Of each disk, the checkpoint and the member that its chain has come to.
        let mut before: BTreeMap<_, (CheckpointName, Option<usize>)> = BTreeMap::new();
        for (place, point) in set.points.iter().enumerate() {
            let first = all.members.len();
            for (disk, part) in &point.disks {
                let own = part.bond().map(|_| all.members.len());
                if own.is_some() {
                    all.groups.push(all.members.len());
                    all.members.push(Member { point: place, part });
                }
                let PointId::Checkpoint(name) = point.id else { continue };
                let parent =
                    before.insert(disk, (name, own)).filter(|(before, _)| Some(*before) == point.parent);
                if let Some((own, parent)) = own.zip(parent.and_then(|(_, parent)| parent)) {
                    all.link(parent, own);
                }
            }
            all.hold_against_each_other(first);
        }
        all.groups = (0..all.members.len()).map(|member| all.first_of(member)).collect();
        all
    }

    fn first_of(&self, mut member: usize) -> usize {
        while self.groups[member] != member {
            member = self.groups[member];
        }
        member
    }

    /// A member and that of its disk at the point before.
    fn link(&mut self, parent: usize, own: usize) {
        let bond = |member: usize| self.members[member].part.bond();
        let Some((before, named)) = bond(parent).zip(bond(own).and_then(|bond| bond.parent)) else { return };
        if before.digest == named {
            self.bind(parent, own);
        } else {
            self.part(parent, own, How::Cut);
        }
    }

    /// The members of one point, which are the last ones: all of one run list the same files.
    fn hold_against_each_other(&mut self, first: usize) {
        let list = |all: &Self, member: usize| all.members[member].part.bond().and_then(|bond| bond.files);
        for one in first..self.members.len() {
            for other in one + 1..self.members.len() {
                match list(self, one).zip(list(self, other)) {
                    Some((one_list, other_list)) if one_list == other_list => self.bind(one, other),
                    Some(_) => self.part(one, other, How::OtherFiles),
                    None => {}
                }
            }
        }
    }

    fn bind(&mut self, one: usize, other: usize) {
        let (one_first, other_first) = (self.first_of(one), self.first_of(other));
        let first = one_first.min(other_first);
        for member in [one, other, one_first, other_first] {
            self.groups[member] = first;
        }
    }

    /// A damaged sidecar is no reason to doubt its stream.
    fn part(&mut self, earlier: usize, later: usize, how: How) {
        let Self { members, whole, .. } = self;
        let read = |member: usize| matches!(members[member].part.whole_sidecar(), Some(Ok(_)));
        let mut is_whole = |member: usize| *whole.entry(member).or_insert_with(|| read(member));
        if is_whole(earlier) && is_whole(later) {
            self.apart.push(Apart { members: (earlier, later), how });
        }
    }

    fn group_pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        self.apart.iter().map(|apart| (self.groups[apart.members.0], self.groups[apart.members.1]))
    }

    fn judge(&self, set: &BackupSet) -> Vec<SetProblem> {
        let mut problems = Vec::new();
        for cluster in Cluster::all(self) {
            let foreign = cluster.strangers(set, self).or_else(|| cluster.fewer(self));
            let within = |member: usize| cluster.sides.contains_key(&self.groups[member]);
            let members = (0..self.members.len()).filter(|member| within(*member));
            let path = |member: usize| self.members[member].part.path().to_owned();
            match foreign {
                Some(foreign) => {
                    let theirs = members.filter(|member| foreign.contains(&self.groups[*member]));
                    let exchanged = |member| SetProblem::Exchanged {
                        path: path(member),
                        why: self.why(self.groups[member]),
                    };
                    problems.extend(theirs.map(exchanged));
                }
                None => {
                    problems.extend(members.map(|member| SetProblem::Doubtful { path: path(member) }));
                    let cuts =
                        self.apart.iter().filter(|apart| apart.how == How::Cut && within(apart.members.1));
                    problems.extend(cuts.map(|apart| SetProblem::Unjoined {
                        path: path(apart.members.1),
                        before: path(apart.members.0),
                    }));
                }
            }
        }
        problems
    }

    /// What tells that a group is apart from another.
    fn why(&self, group: usize) -> &'static str {
        let of_group = |member: usize| self.groups[member] == group;
        let cut =
            |apart: &Apart| apart.how == How::Cut && (of_group(apart.members.0) || of_group(apart.members.1));
        match self.apart.iter().any(cut) {
            true => "the sidecars of its disk do not go on from each other here",
            false => "its sidecar lists other files than those of the point's other disks",
        }
    }
}

/// Groups that are apart from each other, directly or by others between them.
struct Cluster {
    /// Each group, and on which of two sides it is. Two that are apart are on different sides, unless that cannot be.
    sides: BTreeMap<usize, bool>,
    /// There are no two sides: three groups are apart from each other, or one from itself.
    is_tangled: bool,
}

impl Cluster {
    fn all(bonds: &Bonds<'_>) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for (group, _) in bonds.group_pairs() {
            if !all.iter().any(|cluster| cluster.sides.contains_key(&group)) {
                all.push(Self::around(group, bonds));
            }
        }
        all
    }

    fn around(group: usize, bonds: &Bonds<'_>) -> Self {
        let mut cluster = Self { sides: BTreeMap::from([(group, false)]), is_tangled: false };
        let mut waiting = vec![group];
        while let Some(group) = waiting.pop() {
            let side = cluster.sides[&group];
            for (one, other) in bonds.group_pairs().filter(|(one, other)| *one == group || *other == group) {
                let next = if one == group { other } else { one };
                match cluster.sides.insert(next, !side) {
                    None => waiting.push(next),
                    Some(before) => cluster.is_tangled |= before == side,
                }
            }
        }
        cluster
    }

    /// The groups whose sidecars list other files than those beside them, if that tells them all from those at home: files
    /// that came along with what was exchanged, or are damaged, tell nothing.
    fn strangers(&self, set: &BackupSet, bonds: &Bonds<'_>) -> Option<BTreeSet<usize>> {
        // Groups of one side are of one backup, as far as there are two.
        let is_strange = |of: &[usize]| {
            let members = bonds.members.iter().zip(&bonds.groups).filter(|(_, group)| of.contains(group));
            let told: BTreeSet<bool> =
                members.filter_map(|(member, _)| beside_others(set, member.part)).collect();
            (told.len() == 1).then(|| told.contains(&true))
        };
        let parts: Vec<Vec<usize>> = match self.is_tangled {
            true => self.sides.keys().map(|group| vec![*group]).collect(),
            false => [false, true].map(|side| self.groups(side).collect()).into(),
        };
        let told: Vec<bool> = parts.iter().map(|part| is_strange(part)).collect::<Option<_>>()?;
        let strangers: BTreeSet<usize> = parts
            .iter()
            .zip(&told)
            .filter(|(_, strange)| **strange)
            .flat_map(|(part, _)| part.clone())
            .collect();
        let mut pairs = bonds.group_pairs().filter(|(one, _)| self.sides.contains_key(one));
        let settled = |(one, other): (usize, usize)| {
            one != other && (strangers.contains(&one) || strangers.contains(&other))
        };
        (told.contains(&false) && pairs.all(settled)).then_some(strangers)
    }

    fn groups(&self, side: bool) -> impl Iterator<Item = usize> {
        self.sides.iter().filter(move |(_, of)| **of == side).map(|(group, _)| *group)
    }

    /// The side that has fewer points: who exchanges something leaves most as it was.
    fn fewer(&self, bonds: &Bonds<'_>) -> Option<BTreeSet<usize>> {
        let points = |side: bool| {
            let groups: BTreeSet<_> = self.groups(side).collect();
            let members = bonds.members.iter().zip(&bonds.groups).filter(|(_, group)| groups.contains(group));
            members.map(|(member, _)| member.point).collect::<BTreeSet<_>>().len()
        };
        let (one, other) = (points(false), points(true));
        (!self.is_tangled && one != other).then(|| self.groups(one > other).collect())
    }
}

/// True when some of the files that its sidecar lists are others, false when none is; `None` when it lists none that is
/// there. Those that bear a disk's name may have come along with it, and the list of checkpoints changes from point to
/// point.
fn beside_others(set: &BackupSet, part: &PointDisk) -> Option<bool> {
    let sidecar = part.open_sidecar()?.ok()?;
    let of_disk = |file: &&FileIdentity| {
        use SetFile::{CheckpointList, Checksum, QcowInfo, Sidecar, Stream};
        let parsed = SetFile::parse(&file.name);
        matches!(
            parsed,
            Some(CheckpointList { .. } | Checksum { .. } | QcowInfo { .. } | Sidecar { .. } | Stream { .. })
        )
    };
    let files = sidecar.head().files.iter().filter(|file| !of_disk(file));
    let told: Vec<bool> = files.filter_map(|file| file.is_at(&set.dir.join(&file.name)).ok()).collect();
    (!told.is_empty()).then(|| told.contains(&false))
}
