//! The layout of `--prune list`: sizes in one column, and behind each the arguments that remove it.

use std::io::{self, Write};

use crate::retention::{ArchiveTree, Inventory, PeriodTree, SetTree, VmTree, Why};

/// Where the arguments begin in the last line.
const FOOTER_COLUMN: usize = 44;

/// Writes the inventory; with `one_vm` that of a single VM, whose archived chains get arguments too.
pub(super) fn write(out: &mut impl Write, inventory: &Inventory, one_vm: bool) -> io::Result<()> {
    writeln!(out, "\nvmbackup prune — backup inventory\n")?;
    for vm in &inventory.vms {
        let argument = vm_argument(&vm.folder);
        let command = format!("# --prune all {argument}");
        writeln!(out, "{:<30} {:>10}    {command}", plain(&vm.folder), size(vm.size_bytes))?;
        for tree in &vm.periods {
            period(out, tree, &argument, one_vm)?;
        }
    }
    footer(out, &inventory.vms, one_vm)?;
    for missed in &inventory.unreadable {
        writeln!(out, "Not counted, VM {}: {}\n", plain(&missed.vm), plain(&missed.why))?;
    }
    for shown in &inventory.of_storage {
        writeln!(out, "Not counted, it belongs to the storage: {}\n", plain(&shown.to_string_lossy()))?;
    }
    Ok(())
}

fn period(out: &mut impl Write, period: &PeriodTree, vm: &str, one_vm: bool) -> io::Result<()> {
    let (id, archives) = (&period.id, &period.archives);
    let command = format!("# --prune period:{id} {vm}");
    writeln!(out, "  {id:<28} {:>10}    {command}", size(period.size_bytes))?;
    let active = size(period.size_bytes.saturating_sub(period.archives_bytes));
    writeln!(out, "    {:<26} {active:>10}    ({} data files)", "active chain", period.active.data_files)?;
    doubt(out, &period.active, 6)?;
    if archives.is_empty() {
        writeln!(out, "    {:<26} {:>10}", "archives", "—")?;
    } else {
        let count = format!("({} chain{})", archives.len(), if archives.len() == 1 { "" } else { "s" });
        let command = format!("# --prune archives:{id} {vm}");
        let bytes = size(period.archives_bytes);
        writeln!(out, "    {:<26} {bytes:>10}    {count:<14} {command}", "archives")?;
    }
    for ArchiveTree { name, size_bytes, set } in archives {
        write!(out, "      {:<24} {:>10}", plain(name), size(*size_bytes))?;
        if one_vm {
            write!(out, "    # --prune chain:{} {vm}", word(name))?;
        }
        writeln!(out)?;
        doubt(out, set, 8)?;
    }
    writeln!(out)
}

/// Why the rules do not drop a set that they would count as one too many.
fn doubt(out: &mut impl Write, set: &SetTree, indent: usize) -> io::Result<()> {
    match set.doubtful {
        true => writeln!(out, "{:indent$}kept: {}", "", Why::Doubtful.text()),
        false => Ok(()),
    }
}

fn footer(out: &mut impl Write, vms: &[VmTree], one_vm: bool) -> io::Result<()> {
    let total: u64 = vms.iter().map(|vm| vm.size_bytes).sum();
    let periods = || vms.iter().flat_map(|vm| &vm.periods);
    let archives: u64 = periods().map(|period| period.archives_bytes).sum();
    let sizes = format!("{} (archives: {})", size(total), size(archives));
    if one_vm {
        return writeln!(out, "Total: {sizes}\n");
    }
    let text = format!("Total: {} VMs, {sizes}", vms.len());
    if periods().all(|period| period.archives.is_empty()) {
        return writeln!(out, "{text}\n");
    }
    let blanks = FOOTER_COLUMN.saturating_sub(text.chars().count()).max(4);
    writeln!(out, "{text}{:blanks$}# --prune archives\n", "")
}

/// Bytes for people: one decimal, cut off.
pub(super) fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| bytes >> shift > 0) {
        None => format!("{bytes} B"),
        Some((unit, shift)) => {
            let tenths = (u128::from(bytes) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
    }
}

/// A name that cannot move the cursor or begin a line.
pub(super) fn plain(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

/// `--vm NAME`; in one word where the name begins like an option.
pub(super) fn vm_argument(name: &str) -> String {
    let between = if name.starts_with('-') { '=' } else { ' ' };
    format!("--vm{between}{}", word(name))
}

/// A name as one word of a shell.
fn word(name: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.chars().all(is_safe) {
        name.to_owned()
    } else {
        format!("'{}'", plain(name).replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_cut_off_after_one_decimal() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1023.9 KiB"),
            (1 << 20, "1.0 MiB"),
            (3 << 29, "1.5 GiB"),
            (5 << 40, "5120.0 GiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ];
        for (bytes, want) in cases {
            assert_eq!(size(bytes), want);
        }
    }

    #[test]
    fn names_stay_on_their_line_and_in_their_word() {
        assert_eq!((plain("a\nb\u{1b}"), word("web-1")), (r"a\nb\u{1b}".to_owned(), "web-1".to_owned()));
        assert_eq!(word("it's"), r"'it'\''s'");
        assert_eq!((vm_argument("web"), vm_argument("-x")), ("--vm web".to_owned(), "--vm=-x".to_owned()));
    }
}
