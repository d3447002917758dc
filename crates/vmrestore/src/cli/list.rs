//! `--list`: the VMs there are backups of, in the form of the Bash program.

use std::path::Path;

use serde_json::json;
use vmreport::Exit;

use super::call::Call;
use super::du::du;
use super::failed::Failed;
use super::say::tell;
use crate::listing::{VmListing, vms};
use crate::resolve::known_vms;

const SCHEMA: &str = "vmrestore/list/1";

/// How wide the Bash program draws its lines.
const RULE: usize = 62;

pub(super) fn list(root: &Path, call: &Call) -> Result<Exit, Failed> {
    known_vms(root)?;
    let listing = vms(root);
    listing.unreadable.iter().for_each(|why| call.warn("list", why));
    if listing.vms.is_empty() {
        let said =
            format!("{} holds no backups of VMs. Name another folder with --backup-path", root.display());
        return Err(Failed::new(Exit::General, said));
    }
    let exit = if listing.unreadable.is_empty() { Exit::Ok } else { Exit::Storage };
    if call.answers() {
        let root = root.display().to_string();
        call.answer(
            SCHEMA,
            exit,
            &json!({ "backup_path": root, "vms": listing.vms, "unreadable": listing.unreadable }),
        );
    } else {
        tell(&drawn(root, &listing.vms));
    }
    Ok(exit)
}

fn drawn(root: &Path, vms: &[VmListing]) -> String {
    let rule = "═".repeat(RULE);
    let mut text = format!("\nAvailable VMs in: {}\n{rule}\n", root.display());
    for vm in vms {
        text += &format!("\n  {:<53} {:>6}\n", vm.vm, vm.used_bytes.map_or_else(|| "?".to_owned(), du));
        text += &format!("    {}\n", detail(vm));
        if !vm.periods.is_empty() {
            text += &format!("    Periods: {}\n", vm.periods.join(" "));
        }
    }
    text + &format!("\n{rule}\n")
}

/// `incremental · 4 points · 1 archive [vda, vdb] [TPM]`
fn detail(vm: &VmListing) -> String {
    let counted = |number: usize, what: &str| format!(" · {}", vmstream::text::count(number, what));
    let mut text = vm.kind.word().to_owned() + &counted(vm.points, "point");
    if vm.archives > 0 {
        text += &counted(vm.archives, "archive");
    }
    if vm.disks.len() > 1 {
        text += &format!(" [{}]", vm.disks.join(", "));
    }
    if vm.tpm {
        text += " [TPM]";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::SetKind;

    #[test]
    fn vms_are_listed_as_the_bash_program_lists_them() {
        let vm = |name: &str| VmListing {
            vm: name.to_owned(),
            used_bytes: Some(1500),
            kind: SetKind::Full,
            points: 1,
            archives: 0,
            disks: vec!["vda".to_owned()],
            tpm: false,
            periods: vec![],
        };
        let web = VmListing {
            used_bytes: None,
            kind: SetKind::Incremental,
            points: 4,
            archives: 2,
            disks: ["vda", "vdb"].map(str::to_owned).to_vec(),
            tpm: true,
            periods: ["202612", "202611"].map(str::to_owned).to_vec(),
            ..vm("web")
        };
        let rule = "═".repeat(62);
        let want = format!(
            "\nAvailable VMs in: /b\n{rule}\n\n  {:<53} {:>6}\n    full · 1 point\n\n  {:<53} {:>6}\n    \
             incremental · 4 points · 2 archives [vda, vdb] [TPM]\n    Periods: 202612 202611\n\n{rule}\n",
            "db", "1.5K", "web", "?"
        );
        assert_eq!(drawn(Path::new("/b"), &[vm("db"), web]), want);
    }
}
