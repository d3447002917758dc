//! Whole instances on disk: files, environment and defaults to settings, and every way to be refused.

use std::collections::BTreeMap;
use std::path::Path;

use super::value::{CompressionMethod, IoClass, LogLevel, RotationPolicy};
use super::{ConfigError, KEYS, Loaded, load};

/// A configuration directory with an instance `x` that holds these files.
struct Instance(tempfile::TempDir);

impl Instance {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("x")).expect("a directory to make");
        for (name, text) in files {
            std::fs::write(dir.path().join("x").join(name), text).expect("a file to write");
        }
        Self(dir)
    }

    fn load(&self, environment: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
        load(self.0.path(), "x", &map(environment))
    }

    /// The error's text, with the instance directory as `DIR`.
    fn refused(&self, environment: &[(&str, &str)]) -> String {
        let error = self.load(environment).expect_err("the instance must be refused");
        self.plain(&error.to_string())
    }

    fn warnings(&self) -> Vec<String> {
        let loaded = self.load(&[]).expect("the instance must load");
        loaded.warnings.iter().map(|warning| self.plain(&warning.said)).collect()
    }

    fn source(&self, loaded: &Loaded, key: &str) -> String {
        self.plain(&loaded.sources[key].to_string())
    }

    fn plain(&self, text: &str) -> String {
        text.replace(&self.0.path().join("x").display().to_string(), "DIR")
    }
}

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

#[test]
fn defaults_hold_where_nobody_says_otherwise() {
    let instance = Instance::new(&[("vmbackup.conf", "BACKUP_PATH=/mnt/b/")]);
    let loaded = instance.load(&[]).expect("a minimal file loads");
    let settings = &loaded.settings;
    assert_eq!(settings.backup_path.as_path(), Path::new("/mnt/b"));
    assert_eq!(settings.compression.method, CompressionMethod::Auto);
    assert_eq!(settings.scratch_dir.as_path(), Path::new("/var/tmp"));
    assert_eq!(settings.log_level, LogLevel::Info);
    assert_eq!(settings.libvirt_uri.as_str(), "qemu:///system");
    assert_eq!(settings.parallel_vms.get(), 2);
    assert_eq!(settings.scratch_reserve.bytes(), 1 << 30);
    assert_eq!(settings.scratch_reserve_percent.get(), 5);
    assert_eq!(settings.target_reserve_percent.of_bytes(1000), 200);
    assert_eq!(settings.target_reserve.bytes(), 10 << 30);
    assert_eq!(settings.freeze_timeout.duration().as_secs(), 10);
    assert!(!settings.backup_raw_disks.on);
    assert!(settings.exclude_disks.as_slice().is_empty() && settings.include_disks.as_slice().is_empty());
    assert_eq!(settings.process_priority.get(), 10);
    assert_eq!(settings.io_class, IoClass::BestEffort);
    assert_eq!(settings.io_level.get(), 5);
    assert_eq!(settings.text("RETENTION_WEEKS"), Some("4"));
    assert_eq!(settings.text("NO_SUCH_KEY"), None);
    assert_eq!(instance.source(&loaded, "BACKUP_PATH"), "DIR/vmbackup.conf:1:13");
    assert_eq!(instance.source(&loaded, "LOG_LEVEL"), "default");
    assert_eq!(loaded.dir, instance.0.path().join("x"));
}

#[test]
fn a_file_wins_over_the_environment_and_that_over_the_default() {
    // (file, environment, text of the key, its source)
    let key = "LOG_LEVEL";
    let cases = [
        ("LOG_LEVEL=warn", "DEBUG", "warn", "DIR/vmbackup.conf:2:11"),
        ("", "DEBUG", "DEBUG", "environment"),
        ("LOG_LEVEL=", "DEBUG", "DEBUG", "environment"),
        ("", "", "INFO", "default"),
    ];
    for (file, environment, text, source) in cases {
        let instance = Instance::new(&[("vmbackup.conf", &format!("BACKUP_PATH=/b\n{file}"))]);
        let loaded = instance.load(&[(key, environment)]).expect("all values are allowed");
        let seen = (loaded.settings.text(key), instance.source(&loaded, key));
        assert_eq!(seen, (Some(text), source.to_owned()), "{file:?} {environment:?}");
    }
    let instance = Instance::new(&[("vmbackup.conf", "# nothing")]);
    let environment = [("BACKUP_PATH", "/from/env"), ("PARALLEL_VMS", "9"), ("MAX_RETRIES", "9")];
    let loaded = instance.load(&environment).expect("the environment may give the path");
    assert_eq!(loaded.settings.backup_path.as_path(), Path::new("/from/env"));
    assert_eq!(loaded.settings.parallel_vms.get(), 2, "not every key is taken from the environment");
    assert_eq!(loaded.settings.text("MAX_RETRIES"), Some("3"));
}

#[test]
fn values_become_types_in_either_kind_of_file() {
    let conf =
        "BACKUP_PATH=/b\nVIRTNBD_EXCLUDE_DISKS=\"vda, vdb,vda\"\nIO_PRIORITY_CLASS=\nPROCESS_PRIORITY=-5
        BACKUP_RAW_DISKS=yes\nFREEZE_TIMEOUT=30\n";
    let toml =
        "backup_path='/b/'\nvirtnbd_exclude_disks=['vda','vdb']\nio_priority_class=''\nprocess_priority=-5
        backup_raw_disks=true\nfreeze_timeout=30\n";
    for files in [
        &[("vmbackup.conf", conf)][..],
        &[("vmbackup.toml", toml)],
        &[("vmbackup.conf", conf), ("vmbackup.toml", toml)],
    ] {
        let loaded = Instance::new(files).load(&[]).expect("all values are allowed");
        let settings = loaded.settings;
        assert_eq!(settings.backup_path.as_path(), Path::new("/b"));
        assert_eq!(settings.exclude_disks.as_slice(), ["vda", "vdb"]);
        assert_eq!(settings.io_class, IoClass::Inherited);
        assert_eq!(settings.process_priority.get(), -5);
        assert!(settings.backup_raw_disks.on);
        assert_eq!(settings.freeze_timeout.duration().as_secs(), 30);
        assert_eq!(loaded.warnings, vec![]);
    }
}

#[test]
fn every_value_that_is_not_allowed_is_named() {
    let conf = "BACKUP_PATH=relative\nVIRTNBD_COMPRESS_LEVEL=17\nVIRTNBD_SCRATCH_DIR=/\nLOG_LEVEL=LOUD
PARALLEL_VMS=0\nSCRATCH_RESERVE_MIB=-1\nSCRATCH_RESERVE_PERCENT=100\nTARGET_RESERVE_GIB=1.5\nFREEZE_TIMEOUT=10s
BACKUP_RAW_DISKS=1\nVIRTNBD_INCLUDE_DISKS=/dev/vda\nPROCESS_PRIORITY=20\nIO_PRIORITY_CLASS=4\nIO_PRIORITY_LEVEL=8
LIBVIRT_URI=qemu\nVM_POLICY[web]=Daily\n";
    let want = "\
DIR/vmbackup.conf:1:13: BACKUP_PATH=\"relative\" is not allowed; it must be an absolute path other than /, without control characters
DIR/vmbackup.conf:8:20: TARGET_RESERVE_GIB=\"1.5\" is not allowed; it must be a whole number from 0 to 1048576
DIR/vmbackup.conf:15:13: LIBVIRT_URI=\"qemu\" is not allowed; it must be the daemon of this host: qemu:///system, qemu:///session, or one of them with the path of its socket, qemu+unix:///system?socket=/run/libvirt/virtqemud-sock. The disks of another host's machines are not here, and files of the same path would be saved for them: install vmbackup there
DIR/vmbackup.conf:5:14: PARALLEL_VMS=\"0\" is not allowed; it must be a whole number from 1 to 64
DIR/vmbackup.conf:2:24: VIRTNBD_COMPRESS_LEVEL=\"17\" is not allowed; it must be a whole number from 0 to 16, or empty
DIR/vmbackup.conf:11:23: VIRTNBD_INCLUDE_DISKS=\"/dev/vda\" is not allowed; it must be disk targets such as vda,vdb, separated by commas
DIR/vmbackup.conf:10:18: BACKUP_RAW_DISKS=\"1\" is not allowed; it must be true (or yes), false (or no)
DIR/vmbackup.conf:9:16: FREEZE_TIMEOUT=\"10s\" is not allowed; it must be a whole number from 1 to 600
DIR/vmbackup.conf:3:21: VIRTNBD_SCRATCH_DIR=\"/\" is not allowed; it must be an absolute path other than /, without control characters
DIR/vmbackup.conf:6:21: SCRATCH_RESERVE_MIB=\"-1\" is not allowed; it must be a whole number from 0 to 1048576
DIR/vmbackup.conf:7:25: SCRATCH_RESERVE_PERCENT=\"100\" is not allowed; it must be a whole number from 0 to 99
DIR/vmbackup.conf:12:18: PROCESS_PRIORITY=\"20\" is not allowed; it must be a whole number from -20 to 19
DIR/vmbackup.conf:13:19: IO_PRIORITY_CLASS=\"4\" is not allowed; it must be 1 (real-time), 2 (best-effort), 3 (idle), or empty to leave it as it is
DIR/vmbackup.conf:14:19: IO_PRIORITY_LEVEL=\"8\" is not allowed; it must be a whole number from 0 to 7
DIR/vmbackup.conf:4:11: LOG_LEVEL=\"LOUD\" is not allowed; it must be ERROR, WARN, INFO or DEBUG
DIR/vmbackup.conf:16:16: VM_POLICY[web]=\"Daily\" is not allowed; it must be daily, weekly, monthly, accumulate or never";
    assert_eq!(Instance::new(&[("vmbackup.conf", conf)]).refused(&[]), want);
    let from_environment =
        Instance::new(&[("vmbackup.conf", "BACKUP_PATH=/b")]).refused(&[("LOG_LEVEL", "LOUD")]);
    assert_eq!(
        from_environment,
        "environment: LOG_LEVEL=\"LOUD\" is not allowed; it must be ERROR, WARN, INFO or DEBUG"
    );
}

#[test]
fn backup_path_must_be_set_and_real() {
    let missing =
        "BACKUP_PATH is not set; set it in DIR/vmbackup.conf to the directory that holds the backups";
    let sample = |at: &str, value: &str| {
        format!(
            "{at}: BACKUP_PATH is still the sample's {value:?}; set it to the directory that holds the backups"
        )
    };
    let cases = [
        ("# nothing", "", missing.to_owned()),
        ("BACKUP_PATH=\"\"", "", missing.to_owned()),
        ("BACKUP_PATH=/path/to/backups/", "", sample("DIR/vmbackup.conf:1:13", "/path/to/backups/")),
        ("BACKUP_PATH=\"/path/to/backups\"", "/real", sample("DIR/vmbackup.conf:1:13", "/path/to/backups")),
        ("", "/path/to/backups", sample("environment", "/path/to/backups")),
    ];
    for (file, environment, want) in cases {
        let instance = Instance::new(&[("vmbackup.conf", file)]);
        assert_eq!(instance.refused(&[("BACKUP_PATH", environment)]), want, "{file:?} {environment:?}");
    }
}

#[test]
fn two_main_files_must_agree() {
    let conf = "BACKUP_PATH=/b\nLOG_LEVEL=DEBUG\nMAX_RETRIES=3\nVM_POLICY[web]=daily\nVM_POLICY[db]=never";
    let toml = "backup_path='/c'\nlog_level='info'\nretry_delay=5\n[vm_policy]\nweb='weekly'\ndb='never'\n";
    let want = "\
vmbackup.conf and vmbackup.toml in DIR disagree; remove one of the two files, or make them agree:
  BACKUP_PATH: \"/b\" (DIR/vmbackup.conf:1:13), \"/c\" (DIR/vmbackup.toml:1:13)
  RETRY_DELAY: \"30\" (default), \"5\" (DIR/vmbackup.toml:3:13)
  LOG_LEVEL: \"DEBUG\" (DIR/vmbackup.conf:2:11), \"info\" (DIR/vmbackup.toml:2:11)
  VM_POLICY[web]: \"daily\" (DIR/vmbackup.conf:4:16), \"weekly\" (DIR/vmbackup.toml:5:5)";
    assert_eq!(Instance::new(&[("vmbackup.conf", conf), ("vmbackup.toml", toml)]).refused(&[]), want);
    // MAX_RETRIES=3 is the default, so that only one file says it makes no difference.
    let same = [("vmbackup.conf", "BACKUP_PATH=/b\nMAX_RETRIES=3"), ("vmbackup.toml", "backup_path='/b/'")];
    assert!(Instance::new(&same).load(&[]).is_ok());
}

#[test]
fn a_pattern_longer_than_any_name_is_refused() {
    for (length, want) in
        [(1000, None), (1001, Some("DIR/vmbackup.toml:2:19: A pattern has 1001 characters"))]
    {
        let pattern = "a".repeat(length);
        let text = format!("backup_path='/b'\nexclude_patterns=['{pattern}']\n");
        let instance = Instance::new(&[("vmbackup.toml", &text)]);
        match want {
            None => assert!(instance.load(&[]).is_ok()),
            Some(want) => assert!(instance.refused(&[]).starts_with(want), "{}", instance.refused(&[])),
        }
    }
}

#[test]
fn policies_and_patterns_come_from_all_files() {
    let instance = Instance::new(&[
        ("vmbackup.toml", "backup_path='/b'\nexclude_patterns=['a*','t*']\n[vm_policy]\nweb='daily'\n"),
        (
            "vm_overrides.conf",
            "declare -A VM_POLICY\nVM_POLICY[\"db 1\"]=accumulate\nVM_POLICY[none]=\"\"\nMAX_RETRIES=7\nVM_EXCLUDE_DISKS[\"db 1\"]=\"vdc, vdd\"",
        ),
        (
            "exclude_patterns.conf",
            "EXCLUDE_PATTERNS=()\nEXCLUDE_PATTERNS+=(\"t*\" '')\nEXCLUDE_PATTERN+=(\"x?\")",
        ),
    ]);
    let loaded = instance.load(&[]).expect("the instance loads");
    let policies = BTreeMap::from([
        ("db 1".to_owned(), RotationPolicy::Accumulate),
        ("web".to_owned(), RotationPolicy::Daily),
    ]);
    assert_eq!(loaded.settings.vm_policies, policies);
    let left_out: Vec<_> =
        loaded.settings.vm_exclude_disks.iter().map(|(vm, disks)| (vm.as_str(), disks.as_slice())).collect();
    assert_eq!(left_out, [("db 1", &["vdc".to_owned(), "vdd".to_owned()][..])]);
    assert_eq!(loaded.settings.exclude_patterns, ["t*", "x?", "a*"]);
    assert_eq!(loaded.settings.text("MAX_RETRIES"), Some("7"));
    assert_eq!(instance.source(&loaded, "VM_POLICY[db 1]"), "DIR/vm_overrides.conf:2:19");
    assert_eq!(instance.source(&loaded, "EXCLUDE_PATTERNS[1]"), "DIR/exclude_patterns.conf:3:19");
    let want = [
        "DIR/exclude_patterns.conf:3:1: EXCLUDE_PATTERN is read as EXCLUDE_PATTERNS; write it that way",
        "DIR/vm_overrides.conf:4:13: MAX_RETRIES is used, but belongs in vmbackup.conf",
    ];
    assert_eq!(instance.warnings(), want);
}

#[test]
fn doubtful_files_load_with_warnings() {
    let conf = "BACKUP_PTAH=/x\nDISK=/mnt/usb\nBACKUP_PATH=$DISK/b\nVIRTNBD_COMPRESS_LEVEL=0\nLOG_CSV_KEEP_DAYS=3\nNEW=1\nRETENTION_ORPHAN_MIN_AGE_DAYS=90";
    let want = [
        "DIR/vmbackup.conf:1:1: Unknown key BACKUP_PTAH is ignored; did you mean BACKUP_PATH?",
        "DIR/vmbackup.conf:5:1: Unknown key LOG_CSV_KEEP_DAYS is ignored; did you mean LOG_KEEP_DAYS?",
        "DIR/vmbackup.conf:6:1: Unknown key NEW is ignored",
        "DIR/vmbackup.conf:4:24: VIRTNBD_COMPRESS_LEVEL=\"0\": level 0 is read as 1, the fastest: backups are always compressed",
        "DIR/vmbackup.conf:7:31: RETENTION_ORPHAN_MIN_AGE_DAYS is 90 and RETENTION_ORPHAN_MAX_AGE_DAYS 90: periods that an earlier policy left are never deleted, unless the first is less than the second",
    ];
    let instance = Instance::new(&[("vmbackup.conf", conf)]);
    assert_eq!(instance.warnings(), want);
    let compression = instance.load(&[]).expect("the instance loads").settings.compression;
    assert_eq!((compression.method, compression.level), (CompressionMethod::Lz4, 1));
}

/// Words that mean nothing, and a file that is not there: backups go on, and somebody hears of it.
#[test]
fn a_value_that_cannot_be_followed_is_said() {
    let conf = "BACKUP_PATH=/b\nFSTRIM_EXCLUDE_FILE=nowhere.conf\nTPM_BACKUP_METHOD=incremental\nREPLICATION_ORDER=banana";
    let want = [
        "DIR/vmbackup.conf:3:19: TPM_BACKUP_METHOD=\"incremental\": read as full: the state of a TPM is always saved whole",
        "DIR/vmbackup.conf:4:19: REPLICATION_ORDER=\"banana\": read as simultaneous; the others are local_first and cloud_first",
        "DIR/vmbackup.conf:2:21: FSTRIM_EXCLUDE_FILE=\"nowhere.conf\": there is no DIR/nowhere.conf, so no VM is left out of \
         trimming",
    ];
    assert_eq!(Instance::new(&[("vmbackup.conf", conf)]).warnings(), want);
    let usual = "BACKUP_PATH=/b\nFSTRIM_EXCLUDE_FILE=fstrim_exclude.conf\nTPM_BACKUP_METHOD=full\nREPLICATION_ORDER=cloud_first";
    assert_eq!(Instance::new(&[("vmbackup.conf", usual)]).warnings(), [""; 0]);
}

#[test]
fn a_log_folder_is_absolute_or_below_the_state_folder() {
    let dir = |text: &str| {
        let conf = format!("BACKUP_PATH=/b\nLOG_DIR={text}\n");
        let loaded = Instance::new(&[("vmbackup.conf", &conf)]).load(&[]).ok()?;
        loaded.settings.log_dir.map(|dir| dir.below(Path::new("/b/_state")).display().to_string())
    };
    for (text, want) in [
        ("logs", Some("/b/_state/logs")),
        ("./logs/nightly/", Some("/b/_state/logs/nightly")),
        ("/var/log/vmbackup/", Some("/var/log/vmbackup")),
        ("\"\"", None),
        (".", None),
        ("/", None),
        ("../logs", None),
        ("logs/../..", None),
    ] {
        assert_eq!(dir(text).as_deref(), want, "{text}");
    }
}

#[test]
fn what_has_no_effect_is_said_to_whoever_sets_it() {
    let files = [(
        "vmbackup.conf",
        "BACKUP_PATH=/b\nCHECKPOINT_HEALTH_CHECK=no\nVIRTNBD_WORKERS=auto\nVIRTNBD_OUTPUT_FORMAT=raw",
    )];
    let want = [
        "DIR/vmbackup.conf:4:23: VIRTNBD_OUTPUT_FORMAT=\"raw\" is not used: disks are saved as streams, and BACKUP_RAW_DISKS \
         is for those in raw format",
        "DIR/vmbackup.conf:2:25: CHECKPOINT_HEALTH_CHECK=\"no\" is not used: checkpoints are always examined before a backup",
    ];
    assert_eq!(Instance::new(&files).warnings(), want);
    let fixes: Vec<&str> = Instance::new(&files)
        .load(&[])
        .expect("it loads")
        .warnings
        .iter()
        .map(|warning| warning.fix)
        .collect();
    assert_eq!(fixes, ["remove that line"; 2]);
    for key in KEYS {
        let says_so = key.doc[0].trim_start().starts_with("Not used: ");
        assert_eq!(says_so, key.marks.unused, "{}", key.name);
    }
}

#[test]
fn compression_is_what_the_keys_come_to() {
    use CompressionMethod::{Auto, Lz4, None, Zstd};
    // (file, environment's old level, method and level, or how it is refused)
    type Case = (&'static str, &'static str, Result<(CompressionMethod, u32), &'static str>);
    let cases: [Case; 16] = [
        ("", "", Ok((Auto, 0))),
        ("COMPRESSION=auto", "", Ok((Auto, 0))),
        ("VIRTNBD_COMPRESS_LEVEL=4", "", Ok((Lz4, 4))),
        ("", "16", Ok((Lz4, 16))),
        ("COMPRESSION=none", "9", Ok((None, 0))),
        ("COMPRESSION=lz4", "9", Ok((Lz4, 1))),
        ("COMPRESSION=lz4\nVIRTNBD_COMPRESS_LEVEL=9", "", Ok((Lz4, 9))),
        ("COMPRESSION=lz4\nCOMPRESSION_LEVEL=12", "", Ok((Lz4, 12))),
        ("COMPRESSION=zstd", "", Ok((Zstd, 3))),
        ("COMPRESSION=ZSTD\nCOMPRESSION_LEVEL=19", "", Ok((Zstd, 19))),
        (
            "COMPRESSION=lz4\nCOMPRESSION_LEVEL=13",
            "",
            Err("DIR/vmbackup.conf:3:19: COMPRESSION_LEVEL=\"13\" cannot be: levels of lz4 end at 12"),
        ),
        (
            "COMPRESSION_LEVEL=3",
            "",
            Err(
                "DIR/vmbackup.conf:2:19: COMPRESSION_LEVEL=\"3\" cannot be: COMPRESSION is auto, which has no level; \
                 set COMPRESSION to lz4 or zstd, or remove it",
            ),
        ),
        (
            "COMPRESSION=none\nCOMPRESSION_LEVEL=3",
            "",
            Err(
                "DIR/vmbackup.conf:3:19: COMPRESSION_LEVEL=\"3\" cannot be: COMPRESSION is none, which has no level; \
                 set COMPRESSION to lz4 or zstd, or remove it",
            ),
        ),
        (
            "COMPRESSION=zstd\nVIRTNBD_COMPRESS_LEVEL=4",
            "",
            Err(
                "DIR/vmbackup.conf:3:24: VIRTNBD_COMPRESS_LEVEL=\"4\" cannot be: it is a level of lz4, and COMPRESSION \
                 is zstd (DIR/vmbackup.conf:2:13); remove one of the two",
            ),
        ),
        (
            "VIRTNBD_COMPRESS_LEVEL=4\nCOMPRESSION=auto",
            "",
            Err(
                "DIR/vmbackup.conf:2:24: VIRTNBD_COMPRESS_LEVEL=\"4\" cannot be: it is a level of lz4, and COMPRESSION \
                 is auto (DIR/vmbackup.conf:3:13); remove one of the two",
            ),
        ),
        (
            "COMPRESSION_LEVEL=2\nVIRTNBD_COMPRESS_LEVEL=4",
            "",
            Err("DIR/vmbackup.conf:3:24: VIRTNBD_COMPRESS_LEVEL=\"4\" cannot be: COMPRESSION_LEVEL says 2 \
                 (DIR/vmbackup.conf:2:19); remove VIRTNBD_COMPRESS_LEVEL"),
        ),
    ];
    for (file, old_level, want) in cases {
        let instance = Instance::new(&[("vmbackup.conf", &format!("BACKUP_PATH=/b\n{file}"))]);
        let environment = [("VIRTNBD_COMPRESS_LEVEL", old_level)];
        match want {
            Ok(want) => {
                let found = instance.load(&environment).expect(file).settings.compression;
                assert_eq!((found.method, found.level), want, "{file}");
            }
            Err(want) => assert_eq!(instance.refused(&environment), want, "{file}"),
        }
    }
}

#[test]
fn instances_that_cannot_be_read_are_refused() {
    let instance = Instance::new(&[]);
    assert_eq!(
        instance.refused(&[]),
        "There is neither vmbackup.conf nor vmbackup.toml in DIR; copy one of them from the template instance"
    );
    let dir = instance.0.path();
    let refused = |name: &str| load(dir, name, &map(&[])).expect_err("no such instance").to_string();
    for name in ["", ".", "..", "a/b", "../x", "a..b", "x\0"] {
        let want = format!(
            "Instance name {name:?} cannot be used: it must be the name of one directory, without '/' and '..'"
        );
        assert_eq!(refused(name), want);
    }
    for extra in ["template", "night", ".hidden"] {
        std::fs::create_dir(dir.join(extra)).expect("a directory to make");
    }
    let want = format!("There is no configuration instance \"y\" in {}; there are: night, x", dir.display());
    assert_eq!(refused("y"), want);
    let nowhere = dir.join("nowhere");
    let want = format!("There is no configuration instance \"y\" in {}; there are none", nowhere.display());
    assert_eq!(load(&nowhere, "y", &map(&[])).expect_err("no such directory").to_string(), want);
}

#[test]
fn files_that_cannot_be_read_are_refused() {
    let instance = Instance::new(&[("vmbackup.conf", &"#".repeat(1024 * 1024 + 1))]);
    assert_eq!(instance.refused(&[]), "Configuration file DIR/vmbackup.conf is larger than 1048576 bytes");
    let instance = Instance::new(&[("vmbackup.toml", "backup_path='/b'")]);
    std::fs::create_dir(instance.0.path().join("x/vm_overrides.conf")).expect("a directory to make");
    assert_eq!(instance.refused(&[]), "Cannot read configuration file DIR/vm_overrides.conf");
    let instance = Instance::new(&[("vmbackup.conf", "BACKUP_PATH=/b\nLOG_LEVEL=(INFO)")]);
    assert_eq!(instance.refused(&[]), "DIR/vmbackup.conf:2:1: LOG_LEVEL must be one value, not a list");
    let instance =
        Instance::new(&[("vmbackup.conf", "BACKUP_PATH=/b"), ("exclude_patterns.conf", "if true\n")]);
    assert_eq!(
        instance.refused(&[]),
        "DIR/exclude_patterns.conf:1:1: \"if\" is control flow, which is not run here; only assignments KEY=value are read"
    );
}
