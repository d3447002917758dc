//! Carries out the repairs of a plan that let a chain go on.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};

use super::CommitError;
use crate::engine::VmTarget;
use crate::engine::failure::FileError;
use crate::engine::look::checkpoint_origin::{with_known_parent, xml_file};
use crate::engine::plan::names::partial_name;
use vmhost::libvirt::CheckpointInfo;
use vmplan::Repair;
use vmstore::durable;

/// Does each repair, in order. Whatever was done before an error may stay: it is true by itself.
pub(crate) fn carry_out(vm: &VmTarget, repairs: &[Repair]) -> Result<(), CommitError> {
    if repairs.is_empty() {
        return Ok(());
    }
    let checkpoints = vm.domain.checkpoints()?;
    let mut known: BTreeSet<String> = checkpoints.iter().map(|c| c.name.clone()).collect();
    for repair in repairs {
        match repair {
            Repair::RedefineCheckpoint(name) => {
                let path = xml_file(&vm.chain_dir, name);
                let kept =
                    fs::read_to_string(&path).map_err(|source| FileError { doing: "read", path, source })?;
                let xml = with_known_parent(&kept, &known);
                vm.domain.validate_checkpoint(&CheckpointInfo { name: name.clone(), xml })?;
                known.insert(name.clone());
            }
            Repair::WriteCheckpointXml(name) => {
                if let Some(checkpoint) = checkpoints.iter().find(|c| c.name == *name) {
                    write_xml(vm, checkpoint)?;
                }
            }
        }
    }
    Ok(())
}

fn write_xml(vm: &VmTarget, checkpoint: &CheckpointInfo) -> Result<(), CommitError> {
    let path = xml_file(&vm.chain_dir, &checkpoint.name);
    let write = || -> io::Result<()> {
        let Some(folder) = path.parent() else { return Ok(()) };
        fs::create_dir_all(folder)?;
        // Outside of the folder, as all files of a point.
        let partial = vm.chain_dir.join(partial_name(&format!("checkpoints/{}.xml", checkpoint.name)));
        durable::replace_through(&partial, &path, 0o640, |file| file.write_all(checkpoint.xml.as_bytes()))
    };
    Ok(write().map_err(|source| FileError { doing: "write", path: path.clone(), source })?)
}
