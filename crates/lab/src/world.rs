//! A picture of everything that a run could change, so that a test can compare before and after.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::command::{must, text, virsh};
use super::{Lab, Vm};

/// Every file below a folder: its mode, when it was written (seconds and nanoseconds), what is in it.
type Tree = BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)>;

/// Everything that a run could change.
#[derive(Debug, PartialEq, Eq)]
pub struct World {
    trees: Vec<Tree>,
    domains: Vec<[String; 4]>,
}

fn tree(folder: &Path) -> Tree {
    let mut found = Tree::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let about = entry.metadata().expect("it is there");
            let content =
                if about.is_file() { fs::read(entry.path()).expect("it can be read") } else { vec![] };
            if about.is_dir() {
                folders.push(entry.path());
            }
            let mode = about.permissions().mode();
            found.insert(entry.path(), (mode, about.mtime(), about.mtime_nsec(), content));
        }
    }
    let about = fs::metadata(folder).expect("the folder is there");
    found.insert(folder.to_owned(), (about.permissions().mode(), about.mtime(), about.mtime_nsec(), vec![]));
    found
}

impl World {
    pub fn of(lab: &Lab, vms: &[&Vm]) -> Self {
        let trees = [lab.backup_path(), lab.config_dir(), lab.scratch_dir()];
        let domain = |vm: &&Vm| {
            let checkpoints = vm.checkpoints();
            let xml = |name: &String| must(&mut virsh(["checkpoint-dumpxml", vm.name(), name]));
            [
                vm.xml(),
                must(&mut virsh(["dumpxml", "--inactive", vm.name()])),
                vm.state(),
                checkpoints.iter().map(xml).collect::<String>(),
            ]
        };
        Self {
            trees: trees.iter().map(|path| tree(path)).collect(),
            domains: vms.iter().map(domain).collect(),
        }
    }

    /// Without the log, the one thing a dry run may write to.
    pub fn without_log(mut self) -> Self {
        for tree in &mut self.trees {
            let of_log = |path: &Path| {
                path.ends_with("_state") || path.components().any(|part| part.as_os_str() == "logs")
            };
            tree.retain(|path, _| !of_log(path));
            let root = tree.keys().next().cloned().expect("a tree has a root");
            let entry = tree.get_mut(&root).expect("the root");
            (entry.1, entry.2) = (0, 0);
        }
        self
    }

    /// Without what a run notes about itself: its state folder, and when folders were written to.
    pub fn without_notes(mut self) -> Self {
        for tree in &mut self.trees {
            tree.retain(|path, _| !path.components().any(|part| part.as_os_str() == "_state"));
            for (_, entry) in tree.iter_mut().filter(|(path, _)| path.is_dir()) {
                // A first run gives the backup path to its group.
                (entry.0, entry.1, entry.2) = (0, 0, 0);
            }
        }
        self
    }

    /// Panics unless both are the same, and names what is not.
    #[track_caller]
    pub fn assert_is(&self, before: &Self) {
        for (tree, was) in self.trees.iter().zip(&before.trees) {
            let other = |path: &&PathBuf| tree.get(*path) != was.get(*path);
            let changed: Vec<&PathBuf> = tree.keys().chain(was.keys()).filter(other).collect();
            assert!(changed.is_empty(), "changed: {changed:#?}");
        }
        assert_eq!(self.domains, before.domains, "domains were changed");
    }
}

impl Lab {
    /// What a run at this time would do to VMs, as JSON. Panics when asking changes anything but the log.
    #[track_caller]
    pub fn plan(&self, now: Option<&str>, vms: &[&Vm]) -> Value {
        let before = World::of(self, vms).without_log();
        let mut command = self.run_command_at(now, vms);
        let output = command.arg("--dry-run").output().expect("vmbackup can be run");
        World::of(self, vms).without_log().assert_is(&before);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let plan: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
        assert_eq!(plan["dry_run"], Value::Bool(true));
        plan
    }
}
