//! `vmbackup.toml`: what is read, and what is refused in which words.

use std::path::Path;

use super::toml_file::read;

/// Keys, policies and patterns, one a line, or the error; and the warnings.
fn shown(text: &[u8]) -> (String, Vec<String>) {
    let stated = match read(Path::new("f.toml"), text) {
        Ok(stated) => stated,
        Err(error) => return (error.to_string(), vec![]),
    };
    let keys = stated.keys.iter().map(|(name, value)| format!("{name}={:?} {}", value.text, value.at));
    let policies = stated
        .vm_tables
        .values()
        .flatten()
        .map(|(vm, value)| format!("[{vm}]={:?} {}", value.text, value.at));
    let patterns = stated.exclude_patterns.iter().map(|value| format!("-{:?} {}", value.text, value.at));
    (keys.chain(policies).chain(patterns).collect::<Vec<_>>().join("\n"), stated.warnings)
}

#[test]
fn keys_are_read_in_both_spellings() {
    let cases = [
        ("nothing", "", ""),
        ("lower case", "log_level = \"DEBUG\"", "LOG_LEVEL=\"DEBUG\" f.toml:1:13"),
        ("upper case", "LOG_LEVEL = 'DEBUG'", "LOG_LEVEL=\"DEBUG\" f.toml:1:13"),
        (
            "numbers",
            "max_retries = 5\nretry_delay = 1_000\nparallel_vms = 0x10",
            "MAX_RETRIES=\"5\" f.toml:1:15\nPARALLEL_VMS=\"16\" f.toml:3:16\nRETRY_DELAY=\"1000\" f.toml:2:15",
        ),
        ("switch that says true", "enable_fstrim = false", "ENABLE_FSTRIM=\"false\" f.toml:1:17"),
        (
            "switch that says yes",
            "checkpoint_health_check = false",
            "CHECKPOINT_HEALTH_CHECK=\"no\" f.toml:1:27",
        ),
        (
            "list as text",
            "virtnbd_exclude_disks = 'vda,vdb'",
            "VIRTNBD_EXCLUDE_DISKS=\"vda,vdb\" f.toml:1:25",
        ),
        (
            "list as array",
            "virtnbd_exclude_disks = ['vda', \"vdb\"]",
            "VIRTNBD_EXCLUDE_DISKS=\"vda,vdb\" f.toml:1:25",
        ),
        ("empty is not set", "log_level = ''\nio_priority_class = ''", "IO_PRIORITY_CLASS=\"\" f.toml:2:21"),
        (
            "policies",
            "[vm_policy]\n\"web 1\" = 'daily'\ndb = 'never'",
            "[db]=\"never\" f.toml:3:6\n[web 1]=\"daily\" f.toml:2:11",
        ),
        (
            "disks of single VMs",
            "[vm_exclude_disks]\nweb = 'vdc,vdd'\ndb = ['vdc', 'vdd']",
            "[db]=\"vdc,vdd\" f.toml:3:6\n[web]=\"vdc,vdd\" f.toml:2:7",
        ),
        (
            "patterns",
            "exclude_patterns = ['a*',\n  '', '[!b]?']",
            "-\"a*\" f.toml:1:21\n-\"[!b]?\" f.toml:2:7",
        ),
        (
            "line ends of Windows, mark and comment",
            "\u{FEFF}# ä\r\nlog_dir = 'ä' # ä\r\n",
            "LOG_DIR=\"ä\" f.toml:2:11",
        ),
    ];
    for (name, given, want) in cases {
        assert_eq!(shown(given.as_bytes()), (want.to_owned(), vec![]), "{name}");
    }
}

#[test]
fn unknown_keys_get_a_warning_with_the_nearest_name() {
    let cases = [
        ("log_levl = 'INFO'", "f.toml:1:1: Unknown key log_levl is ignored; did you mean LOG_LEVEL?"),
        ("Log_Level = 'INFO'", "f.toml:1:1: Unknown key Log_Level is ignored; did you mean LOG_LEVEL?"),
        ("\n something = 1", "f.toml:2:2: Unknown key something is ignored"),
        ("[vm_polcy]\na = 'daily'", "f.toml:1:2: Unknown key vm_polcy is ignored; did you mean VM_POLICY?"),
    ];
    for (given, want) in cases {
        assert_eq!(shown(given.as_bytes()), (String::new(), vec![want.to_owned()]), "{given}");
    }
}

#[test]
fn what_is_no_setting_is_refused_with_its_place() {
    let cases: [(&[u8], &str); 12] = [
        (b"a = 1\nb = = 2", "f.toml:2:5: Not valid TOML: extra `=`, expected nothing"),
        (
            b"log_level = DEBUG",
            "f.toml:1:13: Not valid TOML: string values must be quoted, expected literal string",
        ),
        (b"log_level = 'a'\nlog_level = 'b'", "f.toml:2:1: Not valid TOML: duplicate key"),
        (
            b"log_level = 'a'\nLOG_LEVEL = 'b'",
            "f.toml:2:1: LOG_LEVEL is set a second time; the first is at f.toml:1:1; remove one of them",
        ),
        (
            b"log_level = '\xFF'",
            "f.toml:1:14: Not valid TOML: The value is not UTF-8 text; save the file as UTF-8",
        ),
        (b"max_retries = 1.5", "f.toml:1:15: MAX_RETRIES must be one value, not a number with a fraction"),
        (b"max_retries = [1]", "f.toml:1:15: MAX_RETRIES must be one value, not an array"),
        (b"max_retries = 2024-01-01", "f.toml:1:15: MAX_RETRIES must be one value, not a date"),
        (
            b"virtnbd_include_disks = ['vda', 1]",
            "f.toml:1:33: VIRTNBD_INCLUDE_DISKS must be text in quotes, not a number",
        ),
        (b"vm_policy = 'daily'", "f.toml:1:13: vm_policy must be a table, not text"),
        (b"[vm_policy]\nweb = true", "f.toml:2:7: vm_policy.web must be text in quotes, not true or false"),
        (b"exclude_patterns = 'a'", "f.toml:1:20: exclude_patterns must be an array, not text"),
    ];
    for (given, want) in cases {
        assert_eq!(shown(given), (want.to_owned(), vec![]), "{}", String::from_utf8_lossy(given));
    }
}
