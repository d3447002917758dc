//! What the restore points of a chain must hold, and the proof that they do.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::command::text;
use super::{Lab, Point, Shadow, Version, Vm};

/// The disks of a VM at one moment, by their targets.
pub type Disks = BTreeMap<String, Shadow>;

/// What the restore points of one chain must hold, oldest first.
#[derive(Debug, Default)]
pub struct History {
    points: Vec<Point>,
}

impl Deref for History {
    type Target = [Point];

    fn deref(&self) -> &[Point] {
        &self.points
    }
}

impl History {
    /// One point: the VM's disks as they are now.
    pub fn of(lab: &Lab, vm: &Vm) -> Self {
        let mut history = Self::default();
        history.note(lab, vm);
        history
    }

    /// Keeps the VM's disks as they are now as what the next point must hold.
    pub fn note(&mut self, lab: &Lab, vm: &Vm) {
        let now = Self::disks(lab, vm);
        self.push(now);
    }

    /// A copy of every disk's shadow.
    pub fn disks(lab: &Lab, vm: &Vm) -> Disks {
        let number = lab.unused_number();
        let copy = |target: &str| {
            let path = lab.new_dir("history").join(format!("{number}-{target}"));
            (target.to_owned(), vm.shadow(target).copy_to(&path))
        };
        vm.targets().into_iter().map(copy).collect()
    }

    /// A copy of disks that are given as raw files.
    pub fn disks_of_files(lab: &Lab, files: &[(&str, &Path)]) -> Disks {
        let number = lab.unused_number();
        let copy = |(target, file): &(&str, &Path)| {
            let path = lab.new_dir("history").join(format!("{number}-{target}"));
            ((*target).to_owned(), Shadow::open(file).copy_to(&path))
        };
        files.iter().map(copy).collect()
    }

    /// Adds disks that were kept before, as the next point.
    pub fn push(&mut self, disks: Disks) {
        self.points.push(Point { name: format!("virtnbdbackup.{}", self.points.len()), disks });
    }

    /// Keeps the VM's disks as they are now as a copy, which no increment follows.
    pub fn note_copy(&mut self, lab: &Lab, vm: &Vm) {
        self.points.push(Point::of(lab, vm, "copy"));
    }

    /// Forgets the points: another chain begins.
    pub fn clear(&mut self) {
        self.points.clear();
    }

    /// Restores every point with `vmstream extract` and compares it with what was kept. `vmstream verify` must
    /// call no point of these damaged.
    #[track_caller]
    pub fn assert_restorable(&self, lab: &Lab, set: &Path) {
        let verified = verify(lab, set);
        let good: Vec<_> = verified["good_points"].as_array().into_iter().flatten().collect();
        let findings: Vec<_> = verified["findings"].as_array().into_iter().flatten().collect();
        // A run that was killed may leave one before its stream, which is a warning until the next run.
        let of_sidecars = findings.iter().filter(|found| {
            found["level"] == "damage" && found["file"].as_str().is_some_and(|file| file.ends_with(".idx"))
        });
        assert_eq!(of_sidecars.count(), 0, "{verified:#}");
        for Point { name, .. } in &self.points {
            let is_good = good.iter().any(|id| id.as_str() == Some(name));
            assert!(is_good, "{name} of {} is not good: {verified:#}", set.display());
        }
        self.assert_newest(lab, set, self.points.len());
    }

    /// Restores so many of the newest points with `vmstream extract` and compares them with what was kept.
    #[track_caller]
    pub fn assert_newest(&self, lab: &Lab, set: &Path, count: usize) {
        let first = self.points.len().saturating_sub(count);
        for Point { name, disks } in &self.points[first..] {
            for (target, shadow) in disks {
                let raw = extract(lab, set, target, Some(name));
                let equal = shadow.equals(&raw);
                fs::remove_file(&raw).expect("the restored disk is ours");
                if let Err(difference) = equal {
                    panic!("{target} of {} at {name}: {difference}", set.display());
                }
            }
        }
    }

    /// Restores the newest point with `virtnbdrestore` and compares it with what was kept.
    #[track_caller]
    pub fn assert_virtnbdrestore(&self, lab: &Lab, version: Version, set: &Path) {
        let Some(Point { name, disks }) = self.points.last() else { return };
        let shadows: Vec<(&str, &Shadow)> = disks.iter().map(|(t, shadow)| (t.as_str(), shadow)).collect();
        lab.assert_virtnbdrestore(version, set, Some(name), &shadows);
    }
}

/// What `vmstream verify` says of a set.
#[track_caller]
pub fn verify(lab: &Lab, set: &Path) -> Value {
    let folder = set.to_str().expect("the lab's path is text");
    let output = lab.vmstream(&["verify", "--json", "--no-archives", folder]);
    let mut found: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("vmstream verify {folder}: {error}: {}", text(&output)));
    found["sets"][0].take()
}

/// Restores one disk as a raw file, at the newest point or the named one.
#[track_caller]
pub fn extract(lab: &Lab, set: &Path, target: &str, until: Option<&str>) -> PathBuf {
    let raw = lab.path().join(format!("extracted-{}.raw", lab.unused_number()));
    let (folder, file) = (set.to_str().expect("text"), raw.to_str().expect("text"));
    let mut arguments = vec!["extract", folder, "--disk", target, "-o", file];
    arguments.extend(until.iter().flat_map(|point| ["--until", *point]));
    let output = lab.vmstream(&arguments);
    assert!(output.status.success(), "vmstream {arguments:?}: {}", text(&output));
    raw
}
