//! What an instance switches on in files of the Bash program that this version does not serve.
//!
//! Of those files only the switch is read, so that nobody believes in replicas or mails that do not come.

use std::collections::BTreeMap;
use std::path::Path;

use super::bash::{self, Shape, Variables};
use super::files::read_if_present;

/// A part of the Bash program that is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Copies of the backup path on a disk or another host.
    LocalReplication,
    /// Copies with rclone.
    CloudReplication,
    /// A mail after each session.
    Mail,
}

/// A feature that is switched on and does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unserved {
    pub feature: Feature,
    /// Where it is switched on, and that nothing comes of it.
    pub said: String,
    pub fix: String,
}

struct Switch {
    feature: Feature,
    file: &'static str,
    key: &'static str,
    lack: &'static str,
    instead: &'static str,
}

const SWITCHES: [Switch; 3] = [
    Switch {
        feature: Feature::LocalReplication,
        file: "replication_local.conf",
        key: "REPLICATION_ENABLED",
        lack: "this version does not replicate",
        instead: "copy BACKUP_PATH with another program",
    },
    Switch {
        feature: Feature::CloudReplication,
        file: "replication_cloud.conf",
        key: "CLOUD_REPLICATION_ENABLED",
        lack: "this version does not replicate",
        instead: "copy BACKUP_PATH with another program",
    },
    Switch {
        feature: Feature::Mail,
        file: "email.conf",
        key: "EMAIL_ENABLED",
        lack: "this version sends no mail",
        instead: "watch the exit code, or vmbackup --status",
    },
];

/// What is switched on in the instance in `dir`. A file that cannot be read may have switched it on.
pub(super) fn unserved(dir: &Path, environment: &BTreeMap<String, String>) -> Vec<Unserved> {
    let find = |switch: &Switch| {
        let Switch { feature, key, lack, .. } = *switch;
        let off = format!("{}; then set {key}=\"no\"", switch.instead);
        let said = match state(&dir.join(switch.file), key, environment) {
            Ok(None) => return None,
            Ok(Some(place)) => format!("{place}: {key} is yes, but {lack}"),
            Err(error) => format!("{error}; {key} may be yes, but {lack}"),
        };
        Some(Unserved { feature, said, fix: off })
    };
    SWITCHES.iter().filter_map(find).collect()
}

/// Where a file switches something on; as in Bash nothing but `yes` does.
fn state(
    file: &Path,
    key: &str,
    environment: &BTreeMap<String, String>,
) -> Result<Option<super::Place>, super::ConfigError> {
    let Some(bytes) = read_if_present(file)? else { return Ok(None) };
    let mut variables = Variables::new(environment, &[]);
    bash::read(file, &bytes, &mut variables)?;
    Ok(match variables.all.remove(key).map(|variable| variable.shape) {
        Some(Shape::One(value)) if value.text == "yes" => Some(value.at),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_switched_on_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let found = || unserved(dir.path(), &BTreeMap::new());
        assert_eq!(found(), []);
        let write = |file: &str, text: &str| std::fs::write(dir.path().join(file), text).unwrap();
        write("replication_local.conf", "#!/bin/bash\nREPLICATION_ENABLED=\"no\"\nDEST_1_ENABLED=\"yes\"\n");
        write("replication_cloud.conf", "CLOUD_REPLICATION_ENABLED=true\n");
        write("email.conf", "EMAIL_SUBJECT_PREFIX=x\n");
        assert_eq!(found(), []);
        write("replication_local.conf", "#!/bin/bash\nREPLICATION_ENABLED=\"yes\"\n");
        write("email.conf", "EMAIL_FROM=root@$(hostname)\nEMAIL_ENABLED=no\n");
        let found = found();
        let features: Vec<Feature> = found.iter().map(|of| of.feature).collect();
        assert_eq!(features, [Feature::LocalReplication, Feature::Mail]);
        let place = format!("{}/replication_local.conf:2:21", dir.path().display());
        assert_eq!(
            found[0].said,
            format!("{place}: REPLICATION_ENABLED is yes, but this version does not replicate")
        );
        assert!(
            found[1].said.contains("email.conf:1:") && found[1].said.ends_with("this version sends no mail")
        );
    }
}
