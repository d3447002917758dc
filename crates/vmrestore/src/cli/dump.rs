//! `--dump`: what the streams of a VM's newest set say of themselves, oldest first, as virtnbdrestore prints it.

use std::path::Path;

use serde_json::{Value, json};
use vmreport::Exit;
use vmstream::causes::with_causes;
use vmstream::chain::{PointDisk, StreamEntry};

use super::call::Call;
use super::failed::Failed;
use super::say::tell;
use crate::resolve::{VmName, newest_set};

const SCHEMA: &str = "vmrestore/dump/1";

pub(super) fn dump(root: &Path, vm: &VmName, period: Option<&str>, call: &Call) -> Result<Exit, Failed> {
    let (_, set) = newest_set(root, vm, period)?;
    let streams = set.points.iter().flat_map(|point| point.disks.values()).filter_map(|disk| match disk {
        PointDisk::Stream(entry) => Some(&**entry),
        PointDisk::Raw(_) => None,
    });
    let (mut headers, mut unreadable) = (Vec::new(), Vec::new());
    for entry in streams {
        match header(entry) {
            Ok(value) => headers.push(value),
            Err(why) => unreadable.push(why),
        }
    }
    unreadable.iter().for_each(|why| call.error("dump", why));
    let exit = if unreadable.is_empty() { Exit::Ok } else { Exit::General };
    if call.answers() {
        call.answer(
            SCHEMA,
            exit,
            &json!({ "vm": vm.name, "dir": set.dir, "streams": headers, "unreadable": unreadable }),
        );
    } else {
        tell(&format!("{:#}\n", Value::from(headers)));
    }
    Ok(exit)
}

/// What a stream says of itself, and its file.
fn header(entry: &StreamEntry) -> Result<Value, String> {
    let meta =
        entry.meta.as_ref().map_err(|error| format!("{}: {}", entry.path.display(), with_causes(error)))?;
    let header = serde_json::from_slice::<Value>(&meta.to_json());
    header.map_err(|error| format!("{}: {error}", entry.path.display()))
}
