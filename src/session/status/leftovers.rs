//! What broken runs and removals have left in the folder of a VM, and the journal of a run that broke off.

use crate::session::folder_bytes::FolderBytes;
use crate::session::unfinished;
use vmreport::{Leftover, LeftoverKind};
use vmstore::{StateDir, VmDir};

pub(super) fn of(state: &StateDir, vm: &VmDir) -> Vec<Leftover> {
    let files = unfinished::find(vm.path()).into_iter().map(|file| {
        let kind = if file.is_aside { LeftoverKind::PutAside } else { LeftoverKind::Unfinished };
        Leftover { kind, path: file.path, bytes: file.bytes }
    });
    let removals = vm.sets().flatten().filter(|set| set.is_leftover()).map(|set| {
        let bytes = FolderBytes::of(&set.folder).all();
        Leftover { kind: LeftoverKind::Removal, path: set.folder, bytes }
    });
    let journal = state.journal(vm.folder());
    let journal = journal.metadata().ok().map(|about| Leftover {
        kind: LeftoverKind::Journal,
        path: journal,
        bytes: about.len(),
    });
    files.chain(removals).chain(journal).collect()
}
