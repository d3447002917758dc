//! Writes the sample files from the table of keys, so that they cannot say anything else than the program does.
//!
//! After a change of the table: `VMBACKUP_WRITE_SAMPLES=1 cargo test -p vmconfig sample`.

use super::keys::Key;
use super::load::PLACEHOLDER;
use super::stated::Stated;
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

/// What stands in the sample alone: beside a `vmbackup.conf` it must not say anything, so that a copy of both works.
const TOML_UNUSED: &str = "
# All of it is commented out, so that vmbackup.conf beside it counts. To use this file instead: take the # off
# backup_path and off what you change, and remove vmbackup.conf.
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

# Whether increments are compared with what the chain knows of the disks: yes, if nothing is said. no for a machine
# whose disks something else writes to.
#[vm_tripwire]
#\"cluster-node\" = \"no\"

# Disks of single virtual machines that are left out, beside those of virtnbd_exclude_disks.
#[vm_exclude_disks]
#\"database\" = \"vdc,vdd\"
";

/// How long the text of a comment gets.
const LINE_LEN: usize = 112;

/// The text of a sample file.
pub fn render(sample: Sample) -> String {
    let value = |key: &Key| if key.name == "BACKUP_PATH" { PLACEHOLDER } else { key.default }.to_owned();
    match sample {
        Sample::Bash => BASH_HEAD.to_owned() + &lines(sample, &|key| (value(key), key.marks.shipped)),
        Sample::Toml => {
            let lines = lines(sample, &|key| (value(key), false));
            [TOML_HEAD, TOML_UNUSED, &lines, TOML_TAIL].concat()
        }
    }
}

/// What Bash files say, as TOML with all explanations. What they do not set is commented out.
pub(super) fn render_toml(stated: &Stated, backup_path: &str) -> String {
    let lines = lines(Sample::Toml, &|key| match stated.keys.get(key.name) {
        _ if key.name == "BACKUP_PATH" => (backup_path.to_owned(), true),
        Some(value) => (value.text.clone(), true),
        None => (key.default.to_owned(), false),
    });
    let mut text = TOML_HEAD.to_owned() + &lines;
    let (patterns, tables) = (&stated.exclude_patterns, &stated.vm_tables);
    if patterns.is_empty() && tables.is_empty() {
        return text + TOML_TAIL;
    }
    text.push_str(
        "\n# ======== Virtual machines ========\n\n# Names of virtual machines that are not backed up.\n",
    );
    let patterns: Vec<String> = patterns.iter().map(|pattern| toml_text(&pattern.text)).collect();
    text.push_str(&format!("exclude_patterns = [{}]\n", patterns.join(", ")));
    for (name, values) in tables {
        text.push_str(
            "\n# For single virtual machines, by their exact name. Must stay at the end of the file.\n",
        );
        text.push_str(&format!("[{}]\n", name.to_ascii_lowercase()));
        for (vm, value) in values {
            text.push_str(&format!("{} = {}\n", toml_text(vm), toml_text(&value.text)));
        }
    }
    text
}

/// All keys with their explanations, each with the value it is to show, and whether that is in force.
fn lines(sample: Sample, value_of: &dyn Fn(&Key) -> (String, bool)) -> String {
    let (mut text, mut section) = (String::new(), "");
    for key in KEYS {
        if key.section != section {
            section = key.section;
            text.push_str(&format!("\n# ======== {section} ========\n"));
        }
        text.push('\n');
        key.doc.iter().for_each(|line| text.push_str(&format!("#{line}\n")));
        facts(key).iter().for_each(|fact| text.push_str(&format!("# {fact}\n")));
        let (value, in_force) = value_of(key);
        let mark = if in_force { "" } else { "#" };
        match sample {
            Sample::Bash => text.push_str(&format!("{mark}{}=\"{value}\"\n", key.name)),
            Sample::Toml => {
                text.push_str(&format!("{mark}{} = {}\n", key.lower_name(), toml_value(key, &value)))
            }
        }
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
        facts.extend(wrapped(&format!("Allowed: {allowed}.")));
    }
    if key.marks.env {
        facts.push("Also taken from the environment.".to_owned());
    }
    facts
}

/// Text in lines that fit into a sample behind `# `.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= LINE_LEN => *line += &format!(" {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn toml_value(key: &Key, value: &str) -> String {
    if key.is_list && value.is_empty() {
        return "[]".to_owned();
    }
    // Not "007", which is no TOML number.
    let is_number = value.parse::<i64>().is_ok_and(|number| number.to_string() == value);
    if matches!(value, "true" | "false") || is_number { value.to_owned() } else { toml_text(value) }
}

/// Text in quotes, with what TOML wants escaped.
fn toml_text(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted += &format!("\\u{:04X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}
