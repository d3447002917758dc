//! `--prune` as the one value that `--json` asks for.

use serde::Serialize;
use serde_json::json;

use super::context::Context;
use crate::retention::{Inventory, Selection};
use vmreport::{Exit, Removal};

/// What there is.
pub(super) fn list(context: &Context, inventory: &Inventory) {
    context.call.answer("vmbackup/prune-list/1", Exit::Ok, &Listed::of(inventory));
}

/// What was selected, and what was removed of it: nothing was where that is `None`.
pub(super) fn done(context: &Context, selection: &Selection, exit: Exit, done: Option<(u64, &[Removal])>) {
    let bytes: u64 = selection.going().map(|item| item.size_bytes).sum();
    let content = json!({
        "description": selection.description,
        "dry_run": context.arguments.dry_run,
        "done": done.is_some(),
        "free_bytes": bytes,
        "freed_bytes": done.map(|(freed_bytes, _)| freed_bytes),
        "items": selection.items,
        "removals": done.map_or(&[][..], |(_, removals)| removals),
    });
    context.call.answer("vmbackup/prune/1", exit, &content);
}

#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    inventory: &'a Inventory,
    totals: ListedTotals,
}

#[derive(Serialize)]
struct ListedTotals {
    vms: usize,
    size_bytes: u64,
    archives_bytes: u64,
}

impl<'a> Listed<'a> {
    fn of(inventory: &'a Inventory) -> Self {
        let vms = &inventory.vms;
        let periods = || vms.iter().flat_map(|vm| &vm.periods);
        let totals = ListedTotals {
            vms: vms.len(),
            size_bytes: vms.iter().map(|vm| vm.size_bytes).sum(),
            archives_bytes: periods().map(|period| period.archives_bytes).sum(),
        };
        Self { inventory, totals }
    }
}
