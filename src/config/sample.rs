//! Writes the sample files from the table of keys, so that they cannot say anything else than the program does.
//!
//! After a change of the table: `VMBACKUP_WRITE_SAMPLES=1 cargo test -p vmbackup config::sample`.

use super::keys::Key;
use super::load::PLACEHOLDER;
use super::table::KEYS;

/// Which of the two main files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// `vmbackup.conf`.
    Bash,
    /// `vmbackup.toml`.
    Toml,
}

const BASH_HEAD: &str = "\
# vmbackup.conf: settings of one vmbackup instance.
#
# The file is read as Bash assignments, KEY=\"value\", but no shell runs it: quotes, $KEY and
# ${KEY:-text} work, commands do not. vmbackup.toml is the same in TOML; use one of the two.
# A line that is commented out shows the default. A file wins over the environment, which counts only
# for keys that say so.
";

const TOML_HEAD: &str = "\
# vmbackup.toml: settings of one vmbackup instance.
#
# The keys are those of vmbackup.conf in lower case; use one of the two files.
# A line that is commented out shows the default. A file wins over the environment, which counts only
# for keys that say so, under their upper-case name.
";

const TOML_TAIL: &str = "
# ======== Virtual machines ========

# Names of virtual machines that are not backed up. *, ? and [abc] are wildcards.
#exclude_patterns = [\"test-*\"]

# Rotation policy of single virtual machines, by their exact name:
# daily, weekly, monthly, accumulate or never. Must stay at the end of the file.
#[vm_policy]
#\"web server\" = \"daily\"

# How single virtual machines are held still for the snapshot: auto, freeze, pause or none.
#[vm_consistency]
#\"database\" = \"freeze\"
";

/// The text of a sample file.
pub fn render(sample: Sample) -> String {
    let mut text = String::from(if sample == Sample::Bash { BASH_HEAD } else { TOML_HEAD });
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            text.push_str(&format!("\n# ======== {section} ========\n"));
        }
        text.push('\n');
        key.doc.iter().for_each(|line| text.push_str(&format!("#{line}\n")));
        facts(key).iter().for_each(|fact| text.push_str(&format!("# {fact}\n")));
        let mark = if key.marks.shipped { "" } else { "#" };
        let value = if key.name == "BACKUP_PATH" { PLACEHOLDER } else { key.default };
        match sample {
            Sample::Bash => text.push_str(&format!("{mark}{}=\"{value}\"\n", key.name)),
            Sample::Toml => {
                text.push_str(&format!("{mark}{} = {}\n", key.lower_name(), toml_value(key, value)))
            }
        }
    }
    if sample == Sample::Toml {
        text.push_str(TOML_TAIL);
    }
    text
}

/// Default and unit, what is allowed, and whether the environment counts: a line each.
fn facts(key: &Key) -> Vec<String> {
    let default = match key.default {
        "" if key.name == "BACKUP_PATH" => "none, must be set",
        "" => "empty",
        text => text,
    };
    let unit = if key.unit.is_empty() { String::new() } else { format!(" Unit: {}.", key.unit) };
    let mut facts = vec![format!("Default: {default}.{unit}")];
    let allowed = (key.allowed)();
    if allowed != "any text" {
        facts.push(format!("Allowed: {allowed}."));
    }
    if key.marks.env {
        facts.push("Also taken from the environment.".to_owned());
    }
    facts
}

fn toml_value(key: &Key, value: &str) -> String {
    if key.is_list && value.is_empty() {
        return "[]".to_owned();
    }
    let bare = matches!(value, "true" | "false") || value.parse::<i64>().is_ok();
    if bare { value.to_owned() } else { format!("{value:?}") }
}
