//! `--list-restore-points`: the points of a VM, in the form of the Bash program.

use std::path::Path;

use serde_json::json;
use vmreport::Exit;

use super::call::Call;
use super::du::du;
use super::failed::Failed;
use super::say::tell;
use crate::listing::{PointKind, PointListing, SetListing, points};
use crate::resolve::{ResolveError, VmName, vm_sets};

const SCHEMA: &str = "vmrestore/restore-points/1";

const HEAD: &str = "  Restore Point   Date                 Type            Disk(s)";

/// How wide the Bash program draws the lines of a table.
const RULE: usize = 70;

pub(super) fn list(root: &Path, vm: &VmName, period: Option<&str>, call: &Call) -> Result<Exit, Failed> {
    let sets = vm_sets(root, &vm.name, period)?;
    let listing = points(&sets);
    listing.unreadable.iter().for_each(|why| call.warn("list", why));
    if listing.sets.is_empty() && listing.unreadable.is_empty() {
        return Err(ResolveError::NoData { dir: sets.dir }.into());
    }
    let damage = listing.sets.iter().flat_map(|set| set.damage.iter().map(move |text| (set, text)));
    damage.for_each(|(set, text)| call.warn("list", &format!("{}: {text}", set.dir.display())));
    let exit = if listing.unreadable.is_empty() { Exit::Ok } else { Exit::Storage };
    if call.answers() {
        let root = root.display().to_string();
        let (sets, unreadable) = (&listing.sets, &listing.unreadable);
        call.answer(
            SCHEMA,
            exit,
            &json!({ "vm": vm.name, "backup_path": root, "sets": sets, "unreadable": unreadable }),
        );
    } else {
        tell(&drawn(&vm.name, &listing.sets));
    }
    Ok(exit)
}

fn drawn(vm: &str, sets: &[SetListing]) -> String {
    let mut text = format!("\nRestore Points: {vm}\n");
    // The archives that were headed last: those of one folder stand together.
    let mut headed = None;
    for set in sets {
        let folder = set.dir.parent();
        if !set.archived {
            text += &head(set);
        } else if headed != folder {
            text += "  Archived Chains:\n";
            headed = folder;
        }
        if set.archived {
            let name = set.dir.file_name().unwrap_or_default().to_string_lossy();
            let size = set.used_bytes.map_or_else(|| "?".to_owned(), du);
            let disks =
                if set.disks.is_empty() { String::new() } else { format!("  [{}]", set.disks.join(", ")) };
            text += &format!("    {name:<30} {size:>6}  {}{disks}\n", set.kind.word());
        }
        text += &table(&set.points);
    }
    text
}

fn head(set: &SetListing) -> String {
    let in_archives = set.dir.parent().is_some_and(|folder| folder.ends_with(vmstore::layout::ARCHIVES));
    let label = match &set.period {
        Some(period) => period,
        None if in_archives => "(archive)",
        None => "(accumulate)",
    };
    let mut text =
        format!("\n  ── {label} ──\n  Directory: {}\n  Type: {}\n", set.dir.display(), set.kind.word());
    if !set.disks.is_empty() {
        text += &format!("  Disks: {}\n", set.disks.join(", "));
    }
    text + "\n"
}

fn table(points: &[PointListing]) -> String {
    let rule = format!("  {}\n", "─".repeat(RULE));
    let row = |point: &PointListing| {
        let (name, taken, kind) = (&point.point, &point.taken, word(point.kind));
        format!("  {name:<15}   {taken:<19}  {kind:<15} {}\n", point.disks.join(", "))
    };
    let rows: String = points.iter().map(row).collect();
    format!("{HEAD}\n{rule}{rows}{rule}  Total: {}\n\n", points.len())
}

fn word(kind: PointKind) -> &'static str {
    match kind {
        PointKind::FullBase => "FULL (base)",
        PointKind::FullOnly => "FULL (only)",
        PointKind::Incremental => "Incremental",
        PointKind::Differential => "Differential",
        PointKind::Copy => "COPY (offline)",
        PointKind::Definition => "COPY (no disk)",
    }
}
