//! The agent's replies as types.
//!
//! They come from inside the guest: nothing in them is believed further than its type, text that reaches a log has no
//! control characters, and lists have a limit. Source of the shapes: QEMU `qga/qapi-schema.json`.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::Value;
use vmreport::{FileSystem, GuestOs, OsInfo, TrimmedPath};
use zeroize::Zeroizing;

/// Longer replies are not looked at. libvirt itself gives up at 10 MiB.
const MAX_REPLY_BYTES: usize = 16 << 20;

/// File systems, paths and disks of one guest; what is beyond is dropped.
const MAX_ENTRIES: usize = 1024;

/// Characters of one text.
const MAX_TEXT_CHARS: usize = 1024;

/// How a program in the guest stands.
pub(super) enum ExecStatus {
    /// It runs.
    Running,
    Ended {
        /// What it returned; `None` when a signal ended it.
        exit_code: Option<i64>,
        /// What it printed. Overwritten when dropped: it may be a secret.
        output: Zeroizing<Vec<u8>>,
    },
}

/// What stands under `return`.
pub(super) fn returned(reply: &str) -> Option<Value> {
    if reply.len() > MAX_REPLY_BYTES {
        return None;
    }
    serde_json::from_str::<Value>(reply).ok()?.get_mut("return").map(Value::take)
}

pub(super) fn os_info(value: &Value) -> Option<OsInfo> {
    let id = value.get("id").map_or(Some(""), Value::as_str)?;
    let windows = id.to_ascii_lowercase().contains("mswindows");
    let name = value.get("pretty-name").or_else(|| value.get("name")).and_then(Value::as_str);
    let os = if windows { GuestOs::Windows } else { GuestOs::Other };
    value.is_object().then(|| OsInfo { os, name: printable(name.unwrap_or_default()) })
}

pub(super) fn trimmed(value: &Value) -> Option<Vec<TrimmedPath>> {
    let paths = value.get("paths")?.as_array()?;
    paths.iter().take(MAX_ENTRIES).map(trimmed_path).collect()
}

fn trimmed_path(entry: &Value) -> Option<TrimmedPath> {
    let path = printable(entry.get("path")?.as_str()?);
    let outcome = match entry.get("error").and_then(Value::as_str) {
        Some(error) => Err(printable(error)),
        None => Ok(entry.get("trimmed").and_then(Value::as_u64)),
    };
    Some(TrimmedPath { path, outcome })
}

pub(super) fn file_systems(value: &Value) -> Option<Vec<FileSystem>> {
    let text = |entry: &Value, key: &str| Some(printable(entry.get(key)?.as_str()?));
    let entries = value.as_array()?.iter().take(MAX_ENTRIES);
    let read = entries.map(|entry| {
        Some(FileSystem {
            mount_point: text(entry, "mountpoint")?,
            kind: text(entry, "type")?,
            name: text(entry, "name")?,
        })
    });
    read.collect()
}

pub(super) fn pid(value: &Value) -> Option<i64> {
    value.get("pid")?.as_i64()
}

/// The whole reply to guest-exec-status. Borrowed, so that no copy of the output stays behind in memory.
#[derive(Deserialize)]
struct ExecReply<'a> {
    #[serde(rename = "return", borrow)]
    returned: ExecFields<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ExecFields<'a> {
    exited: bool,
    #[serde(rename = "exitcode")]
    exit_code: Option<i64>,
    #[serde(borrow)]
    out_data: Option<Cow<'a, str>>,
    #[serde(default)]
    out_truncated: bool,
}

/// Reads a whole reply. Output that is cut counts as none: half a secret would be taken for a whole one.
pub(super) fn exec_status(reply: &str) -> Option<ExecStatus> {
    if reply.len() > MAX_REPLY_BYTES {
        return None;
    }
    let ExecReply { returned } = serde_json::from_str(reply).ok()?;
    if !returned.exited {
        return Some(ExecStatus::Running);
    }
    if returned.out_truncated {
        return None;
    }
    let output = BASE64.decode(returned.out_data.unwrap_or_default().as_bytes()).ok()?;
    Some(ExecStatus::Ended { exit_code: returned.exit_code, output: Zeroizing::new(output) })
}

/// Fit for one line of a log.
pub(super) fn printable(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().take(MAX_TEXT_CHARS).map(clean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_stands_under_return_counts() {
        assert_eq!(returned("{\"return\":{\"pid\":7}}").as_ref().and_then(pid), Some(7));
        for reply in ["", "7", "[]", "{", "{\"error\":{}}", "\u{0}", "{\"return\":"] {
            assert!(returned(reply).is_none(), "{reply:?}");
        }
        let deep = format!("{{\"return\":{}", "[".repeat(100_000));
        assert!(returned(&deep).is_none());
        assert!(returned(&format!("{{\"return\":\"{}\"}}", "x".repeat(MAX_REPLY_BYTES))).is_none());
    }

    #[test]
    fn the_system_is_told_by_its_id() {
        let windows = json!({"id": "mswindows", "pretty-name": "Windows Server 2022"});
        assert_eq!(
            os_info(&windows),
            Some(OsInfo { os: GuestOs::Windows, name: "Windows Server 2022".into() })
        );
        assert_eq!(os_info(&json!({"id": "debian"})).map(|info| info.os), Some(GuestOs::Other));
        assert_eq!(os_info(&json!({})).map(|info| info.os), Some(GuestOs::Other));
        assert_eq!(os_info(&json!({"id": 7})), None);
        assert_eq!(os_info(&json!("mswindows")), None);
    }

    #[test]
    fn trimming_tells_bytes_errors_or_neither() {
        let reply = json!({"paths": [
            {"path": "/", "minimum": 0, "trimmed": 4096},
            {"path": "/srv\u{1b}[2J", "error": "not\nsupported"},
            {"path": "C:\\"},
        ]});
        let read = trimmed(&reply).expect("it is well-formed");
        assert_eq!(read[0].outcome, Ok(Some(4096)));
        assert_eq!(
            (read[1].path.as_str(), &read[1].outcome),
            ("/srv\u{fffd}[2J", &Err("not\u{fffd}supported".into()))
        );
        assert_eq!(read[2].outcome, Ok(None));
        for bad in [json!({}), json!({"paths": 1}), json!({"paths": [1]}), json!({"paths": [{"path": 1}]})] {
            assert_eq!(trimmed(&bad), None, "{bad}");
        }
        let many: Vec<_> = (0..5000).map(|n| json!({"path": format!("/{n}")})).collect();
        assert_eq!(trimmed(&json!({ "paths": many })).map(|paths| paths.len()), Some(MAX_ENTRIES));
    }

    #[test]
    fn a_program_that_ended_tells_all_it_printed_or_nothing() {
        let status = |value: Value| exec_status(&json!({ "return": value }).to_string());
        let ended = |value: Value| match status(value) {
            Some(ExecStatus::Ended { exit_code, output }) => Some((exit_code, output.to_vec())),
            Some(ExecStatus::Running) | None => None,
        };
        assert!(matches!(status(json!({"exited": false})), Some(ExecStatus::Running)));
        let whole = json!({"exited": true, "exitcode": 0, "out-data": "aGk="});
        assert_eq!(ended(whole), Some((Some(0), b"hi".to_vec())));
        assert_eq!(ended(json!({"exited": true, "signal": 9})), Some((None, vec![])));
        assert_eq!(ended(json!({"exited": true, "out-data": "aGk=", "out-truncated": true})), None);
        assert_eq!(ended(json!({"exited": true, "out-data": "%"})), None);
        assert_eq!(ended(json!({"exited": 1})), None);
        assert!(exec_status("{\"error\":{}}").is_none());
    }

    #[test]
    fn file_systems_have_a_place_a_kind_and_a_name() {
        let one = json!([{"name": "vda1", "mountpoint": "/", "type": "ext4", "disk": []}]);
        let read = file_systems(&one).expect("it is well-formed");
        assert_eq!((read[0].mount_point.as_str(), read[0].kind.as_str()), ("/", "ext4"));
        assert_eq!(file_systems(&json!([{"name": "vda1"}])), None);
        assert_eq!(file_systems(&json!({})), None);
    }
}
