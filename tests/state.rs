//! The folder `_state` and who owns the backups: logs, their lines and their end, groups and modes.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use lab::{DiskSpec, Lab, Vm, must, text};
use vmbackup::engine::fail_point::FailPoint;
use vmreport::{SessionKind, SessionStatus};

use crate::many_vms::session_reports;

const MIB: u64 = 1 << 20;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn small_vm(lab: &Lab) -> Vm {
    let vm = lab.paused_vm("small", &[DiskSpec::new("vda", 2 * MIB)]);
    vm.write("vda", 0, MIB, 1).expect("a write");
    vm
}

fn backup_group() -> u32 {
    let line = must(Command::new("getent").args(["group", "backup"]));
    line.split(':').nth(2).and_then(|number| number.parse().ok()).expect("the group backup has a number")
}

/// Owner, group and mode.
fn about(path: &Path) -> (u32, u32, u32) {
    let about = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (about.uid(), about.gid(), about.permissions().mode() & 0o7777)
}

/// A line of the log without its time: `[LEVEL] [module] [function] message`.
fn without_time(line: &str) -> Option<&str> {
    let (time, rest) = line.strip_prefix('[')?.split_once("] ")?;
    let parts: Vec<&str> = time.split(' ').collect();
    let shaped = parts.len() == 3 && parts[0].len() == 10 && parts[1].len() == 8 && !parts[2].is_empty();
    assert!(shaped, "{line}");
    Some(rest)
}

#[test]
fn a_session_is_told_in_its_log_and_each_backup_in_its_own() {
    let lab = Lab::configured("log");
    let vm = small_vm(&lab);
    lab.run_well(&vm);
    let logs = lab.backup_path().join("_state/logs");
    let log = fs::read_to_string(logs.join("vmbackup.log")).expect("a log");
    let version = env!("CARGO_PKG_VERSION");
    let line = "=".repeat(80);
    let head: Vec<&str> = log.lines().take(6).collect();
    assert_eq!(
        (head[0], head[1], head[3], head[5]),
        ("", line.as_str(), format!("vmbackup v{version}").as_str(), line.as_str())
    );
    assert!(head[2].starts_with("VM Backup Session Started: 20"), "{}", head[2]);
    let plain = [
        line.as_str(),
        "VM Backup Session Started: ",
        "VM Backup Session Ended: ",
        "FINAL RESULTS",
        "What deserves",
        "vmbackup v",
        "Copyright",
    ];
    let mut messages = vec![];
    for line in log.lines().filter(|line| !line.is_empty()) {
        match without_time(line) {
            Some(rest) => messages.push(rest),
            None => {
                assert!(plain.iter().any(|begin| line.starts_with(begin)), "a line without a time: {line}")
            }
        }
    }
    let box_line = format!("║  {:20} │ SUCCESS  │ full  │ monthly   │ 00:00:0", vm.name());
    for words in [
        "===== VM BACKUP SESSION START =====",
        "[INFO] [cli::run] [-] ",
        " VM BACKUP SESSION SUMMARY ",
        "║  Total VMs: 1",
        "║  ✓ Backed Up: 1  (daily: 0, weekly: 0, monthly: 1, accumulate: 0)",
        "║  ○ Excluded:  0  (policy=never or pattern match)",
        "║  ◇ Skipped:   0  (offline/unchanged)",
        "║  ✗ Failed:    0",
        &box_line,
        "FINAL RESULTS: 1 backed up, 0 excluded, 0 skipped, 0 failed",
        "Backup location: ",
        "Full log: ",
        "===== VM BACKUP SESSION COMPLETE =====",
        &format!("{}: ║  BACKUP START: {}", vm.name(), vm.name()),
        &format!("{}: ║  BACKUP END: {}", vm.name(), vm.name()),
        &format!("{}: ║  Status:              SUCCESS", vm.name()),
        "[DEBUG] [engine::fail_point] [back_up] ",
    ] {
        assert!(messages.iter().any(|message| message.contains(words)), "no {words:?} in {log}");
    }
    assert!(log.trim_end().ends_with(&line), "the session is closed: {log}");

    let of_vm = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).expect("text").to_owned();
    let files: Vec<PathBuf> =
        fs::read_dir(&logs).expect("logs").flatten().map(|entry| entry.path()).collect();
    let own = files
        .iter()
        .find(|path| of_vm(path).starts_with(&format!("backup_{}_", vm.name())))
        .expect("its log");
    assert_eq!(lab.ask("SELECT log_file FROM vm_backups"), [own.display().to_string()]);
    let own = fs::read_to_string(own).expect("its log");
    assert!(own.contains("║  Status:              SUCCESS") && own.contains("stage copied"), "{own}");
    assert!(!own.contains("SESSION"), "{own}");
    assert_eq!(files.len(), 2, "{files:?}");

    // What ends before a session begins is in the log too.
    let output = lab.vmbackup(&["--run", "--vm", "nobody"]);
    assert!(!output.status.success());
    let log = fs::read_to_string(logs.join("vmbackup.log")).expect("a log");
    assert!(log.contains("VM 'nobody' does not exist"), "{log}");
}

#[test]
fn standard_error_is_written_for_who_reads_it() {
    let lab = Lab::new("stderr");
    lab.configure(&[("LOG_LEVEL", "WARN"), ("NO_SUCH_KEY", "x")]);
    let stderr = lab.path().join("stderr");
    let replicate = |lab: &Lab| {
        let file = File::create(&stderr).expect("a file");
        let about = file.metadata().expect("it is there");
        let mut command = lab.vmbackup_command();
        command.arg("--replicate-only").stdout(Stdio::null()).stderr(file);
        (command, format!("{}:{}", about.dev(), about.ino()))
    };
    let said = |mut command: Command| {
        assert!(command.status().expect("it runs").success());
        fs::read_to_string(&stderr).expect("what was said")
    };
    let (command, _) = replicate(&lab);
    let text = said(command);
    let warning = "Unknown key NO_SUCH_KEY is ignored";
    assert!(text.starts_with('[') && text.contains("] [WARN] [") && text.contains(warning), "{text}");
    assert!(!text.contains("[INFO]"), "{text}");

    let (mut command, stream) = replicate(&lab);
    command.env("JOURNAL_STREAM", stream);
    let text = said(command);
    assert!(text.starts_with("<4>") && text.contains(warning), "{text}");
    // Standard error was redirected since.
    let (mut command, _) = replicate(&lab);
    command.env("JOURNAL_STREAM", "1:2");
    assert!(said(command).starts_with('['));

    lab.configure(&[("LOG_FORMAT", "json"), ("NO_SUCH_KEY", "x")]);
    let (command, _) = replicate(&lab);
    let text = said(command);
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect(line));
    let lines: Vec<_> = lines.collect();
    assert!(
        lines.iter().any(|line| line["level"] == "warn" && line["message"].to_string().contains(warning)),
        "{text}"
    );
    assert!(lines.iter().all(|line| line["time"].is_string() && line["module"].is_string()), "{text}");
}

#[test]
fn a_log_that_cannot_be_written_stops_no_backup() {
    let lab = Lab::new("no_log");
    let vm = small_vm(&lab);
    lab.configure(&[]);
    fs::create_dir_all(lab.backup_path().join("_state")).expect("a folder");
    fs::write(lab.backup_path().join("_state/logs"), "in the way").expect("a file");
    let ended = lab.run_well(&vm);
    assert_eq!(ended.level(), "full", "{ended:#?}");
    assert!(ended.log.contains("cannot be written"), "{ended:#?}");
    // Elsewhere, on a disk that is full.
    fs::remove_file(lab.backup_path().join("_state/logs")).expect("ours");
    let full = lab.small_file_system("full", 1);
    let folder = full.path().join("logs");
    lab.configure(&[("LOG_DIR", folder.to_str().expect("text"))]);
    fs::create_dir(&folder).expect("a folder");
    let _ = fs::write(full.path().join("filler"), vec![1; 2 << 20]);
    vm.write("vda", 0, 512, 2).expect("a write");
    let ended = lab.run_well(&vm);
    assert_eq!(ended.level(), "incremental 1", "{ended:#?}");
    assert!(ended.log.contains("cannot be written"), "{ended:#?}");
}

#[test]
fn logs_go_where_they_are_told_and_end_in_time() {
    let lab = Lab::new("old_logs");
    let folder = lab.path().join("logs-of-ours");
    lab.configure(&[("LOG_DIR", folder.to_str().expect("text")), ("LOG_KEEP_DAYS", "10")]);
    let vm = small_vm(&lab);
    lab.run_well(&vm);
    let old = folder.join("backup_gone_1.log");
    let young = folder.join("backup_gone_2.log");
    for (path, days) in [(&old, 11), (&young, 9)] {
        File::create(path).expect("a file").set_modified(SystemTime::now() - DAY * days).expect("its time");
    }
    let log = folder.join("vmbackup.log");
    fs::write(&log, "[2026-01-02 01:00:00 UTC] [INFO] [a] [b] long ago\n").expect("a log");
    lab.vmbackup(&["--run", "--dry-run", "--vm", vm.name()]);
    assert!(old.exists() && !folder.join("vmbackup.log.1").exists(), "a dry run removes nothing");
    lab.run_well(&vm);
    assert!(!old.exists() && young.exists());
    let kept = fs::read_to_string(folder.join("vmbackup.log.1")).expect("the old log");
    assert!(kept.contains("long ago"), "{kept}");
    assert!(!fs::read_to_string(&log).expect("a log").contains("long ago"));
    assert!(!lab.backup_path().join("_state/logs").exists());
    assert!(!kept.contains("was not copied"), "the state folder is copied all the same: {kept}");
    let copies = fs::read_dir(lab.backup_path().join("_state/backups")).expect("a folder").count();
    assert_eq!(copies, 1);
    // As the template of the Bash program shows it: below the state folder.
    lab.configure(&[("LOG_DIR", "logs")]);
    lab.run_well(&vm);
    let log = fs::read_to_string(lab.backup_path().join("_state/logs/vmbackup.log")).expect("a log");
    assert!(log.contains("VM BACKUP SESSION COMPLETE"), "{log}");
}

#[test]
fn the_state_folder_is_copied_once_a_day() {
    let lab = Lab::new("state_copy");
    lab.configure(&[("STATE_BACKUP_KEEP_DAYS", "30")]);
    let vm = small_vm(&lab);
    let copies = lab.backup_path().join("_state/backups");
    let run = |day: &str, level: &str| {
        let ended = lab.run_at(&format!("{day}T10:00:00Z"), &[&vm]);
        assert_eq!(ended.level(), level, "{ended:#?}");
        ended
    };
    run("2026-11-02", "full");
    // Somebody reads the database: its last changes are in its log then, and stay there.
    let database = lab.database();
    // As a run leaves it that was killed, and the Bash program.
    database.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).expect("nobody else has it");
    let reading = database.unchecked_transaction().expect("a transaction");
    let rows = |database: &rusqlite::Connection| {
        let ask = "SELECT COUNT(*) FROM vm_backups";
        database.query_row(ask, [], |row| row.get::<_, u32>(0)).expect("a count")
    };
    assert_eq!(rows(&reading), 1);
    run("2026-11-03", "incremental 1");
    drop(reading);
    run("2026-11-04", "incremental 2");
    lab.vmbackup(&["--run", "--dry-run", "--vm", vm.name()]);
    let second = copies.join("state-20261103.tar.gz");
    let at = fs::metadata(&second).expect("a copy").modified().expect("its time");
    run("2026-11-03", "incremental 3");
    assert_eq!(fs::metadata(&second).expect("a copy").modified().expect("its time"), at, "one a day");
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(&copies).expect("copies").flatten().map(|e| e.file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["state-20261102.tar.gz", "state-20261103.tar.gz", "state-20261104.tar.gz"]);
    assert_eq!(about(&second), (0, backup_group(), 0o640));
    assert_eq!(about(&copies), (0, backup_group(), 0o2750));

    let opened = lab.new_dir("opened");
    must(Command::new("tar").arg("xzf").arg(copies.join("state-20261104.tar.gz")).arg("-C").arg(&opened));
    let copy = rusqlite::Connection::open(opened.join("vmbackup.db")).expect("a database");
    assert_eq!(rows(&copy), 2, "as it was when the third run began");
    let check = copy.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
    assert_eq!(check.as_deref(), Ok("ok"));
    assert!(opened.join("logs/vmbackup.log").is_file());
    for name in ["vmbackup.db-wal", "vmbackup.pid", "locks", "journal", "backups"] {
        assert!(!opened.join(name).exists(), "{name}");
    }
    let events = "SELECT setting_value, config_source FROM config_events WHERE event_type = 'state_backup' ORDER BY id LIMIT 1";
    let event = lab.ask(events).concat();
    assert!(event.starts_with("2026-11-02T1") && event.ends_with("backups/state-20261102.tar.gz"), "{event}");

    // Old ones go, also when no new one can be made; that stops no backup.
    lab.configure(&[("STATE_BACKUP_KEEP_DAYS", "1")]);
    fs::create_dir(copies.join("state-20261105.tar.gz")).expect("in the way");
    run("2026-11-05", "incremental 4");
    assert_eq!(names(), ["state-20261104.tar.gz", "state-20261105.tar.gz"]);
    lab.configure(&[("STATE_BACKUP_KEEP_DAYS", "0")]);
    run("2026-11-06", "incremental 5");
    assert_eq!(names().len(), 2, "0 makes none");
    fs::remove_dir_all(&copies).expect("ours");
    fs::write(&copies, "in the way").expect("a file");
    lab.configure(&[]);
    let ended = run("2026-11-07", "incremental 6");
    assert!(ended.log.contains("was not copied"), "{}", ended.log);
}

#[test]
fn backups_belong_to_root_and_the_group() {
    let lab = Lab::configured("owner");
    let vm = small_vm(&lab);
    let group = backup_group();
    let backups = lab.backup_path();
    let outside = lab.path().join("outside");
    fs::write(&outside, "not ours").expect("a file");
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o604)).expect("ours");
    chown(&outside, Some(12), Some(12)).expect("root may");
    let elsewhere = lab.new_dir("elsewhere");
    chown(&elsewhere, Some(12), Some(12)).expect("root may");
    // What somebody else left before the first run, and traps.
    let old = backups.join("old-vm/202601");
    let tpm = old.join("tpm-state");
    fs::create_dir_all(&tpm).expect("a folder");
    for file in [old.join("vda.full.data"), tpm.join("secret")] {
        fs::write(&file, "x").expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("ours");
        chown(&file, Some(12), Some(12)).expect("root may");
    }
    fs::set_permissions(&tpm, fs::Permissions::from_mode(0o700)).expect("ours");
    symlink(&outside, old.join("vda.link.data")).expect("a link");
    symlink(&elsewhere, backups.join("linked-vm")).expect("a link");
    chown(&old, Some(12), Some(12)).expect("root may");
    fs::set_permissions(&old, fs::Permissions::from_mode(0o755)).expect("ours");

    let before = about(&backups);
    let output = lab.vmbackup(&["--run", "--dry-run"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(about(&backups), before, "a dry run changes no owner");
    let ended = lab.run_well(&vm);
    assert!(ended.log.contains("now belong to root:backup, mode 2750"), "{}", ended.log);

    assert_eq!(about(&backups), (0, group, 0o2750));
    assert_eq!(about(&old), (0, group, 0o2755), "modes stay but for the group bit");
    assert_eq!(about(&old.join("vda.full.data")), (0, group, 0o600));
    assert_eq!(about(&tpm), (0, 0, 0o700), "what a TPM keeps is never the group's");
    assert_eq!(about(&tpm.join("secret")), (0, 0, 0o600));
    assert_eq!(about(&outside), (12, 12, 0o604), "links are not followed");
    assert_eq!(about(&elsewhere).0, 12, "links are not followed");
    let mut folders = vec![backups.join(vm.name()), backups.join("_state")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        assert_eq!(about(&folder), (0, group, 0o2750), "{}", folder.display());
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            files += 1;
            let (owner, of_group, mode) = about(&entry.path());
            assert_eq!(
                (owner, of_group, mode & 0o137),
                (0, group, 0),
                "{}: {mode:o}",
                entry.path().display()
            );
        }
    }
    assert!(files > 5, "{files}");

    // A second run has nothing to do; what another program made is put in order.
    let chain = lab.chain_dir(&vm);
    let stray = chain.join("notes.xml");
    fs::write(&stray, "x").expect("a file");
    chown(&stray, Some(12), Some(12)).expect("root may");
    vm.write("vda", 0, 512, 2).expect("a write");
    let ended = lab.run_well(&vm);
    assert!(!ended.log.contains("now belong"), "{}", ended.log);
    assert_eq!(about(&stray).0, 0);
}

#[test]
fn a_host_without_the_group_gets_it_or_is_told() {
    let lab = Lab::configured("group");
    // A view of /etc of its own for the run: without the group, and then also without a way to make it.
    let upper = lab.new_dir("etc");
    let script = r#"
        set -e
        mount -t tmpfs none "$1"; mkdir "$1/up" "$1/work"
        mount -t overlay overlay -o lowerdir=/etc,upperdir="$1/up",workdir="$1/work" /etc
        sed -i '/^backup:/d' /etc/group; sed -i '/^backup:/d' /etc/gshadow 2>/dev/null || true
        [ "$2" = can ] || mount --bind /etc/group /etc/group
        "$3" --config-dir "$4" --replicate-only || exit 9
        grep '^backup:' /etc/group || echo none
    "#;
    let run = |can: &str| {
        let config = lab.config_dir();
        let arguments = ["-m", "bash", "-c", script, "x", upper.to_str().expect("text"), can];
        let mut command = Command::new("unshare");
        command
            .args(arguments)
            .arg(env!("CARGO_BIN_EXE_vmbackup"))
            .arg(config)
            .env(lab::LIB_DIR, lab.lib_dir());
        let output = command.output().expect("unshare can be run");
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    let said = run("cannot");
    assert!(
        said.contains("There is no group 'backup' and none could be made (groupadd")
            && said.contains("none\n"),
        "{said}"
    );
    assert_eq!(about(&lab.backup_path()).2 & 0o2000, 0, "nothing is given to anybody");
    let said = run("can");
    assert!(said.contains("\nbackup:x:34:") || said.starts_with("backup:x:34:"), "{said}");
    assert_eq!(about(&lab.backup_path()), (0, 34, 0o2750));
}

/// Status, type and log of each session in the database, oldest first.
fn sessions(lab: &Lab) -> Vec<(String, String, String)> {
    let file = lab.backup_path().join("_state/vmbackup.db");
    let database = rusqlite::Connection::open(file).expect("a database");
    let mut ask = database
        .prepare("SELECT status, session_type, log_file FROM sessions WHERE end_time IS NOT NULL OR status = 'running' ORDER BY start_time, id DESC")
        .expect("the table of sessions");
    let rows = ask.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).expect("rows");
    rows.map(|row| row.expect("a row")).collect()
}

#[test]
fn the_row_of_a_session_ends_whatever_happens() {
    let lab = Lab::configured("rows");
    let vm = small_vm(&lab);
    vm.resume();
    let log = lab.backup_path().join("_state/logs/vmbackup.log").display().to_string();
    let mut want: Vec<(String, String, String)> = vec![];
    let mut expect = |status: &str, kind: &str| {
        want.push((status.to_owned(), kind.to_owned(), log.clone()));
        assert_eq!(sessions(&lab), want);
    };
    lab.run_well(&vm);
    expect("success", "targeted");
    assert!(!lab.vmbackup(&["--run", "--vm", "nobody"]).status.success());
    expect("failed", "targeted");
    assert!(lab.vmbackup(&["--replicate-only"]).status.success());
    expect("success", "replicate_only");
    let told = session_reports(&lab).into_iter().map(|session| {
        let end = session.end.expect("it ended").status;
        (end, session.session.kind)
    });
    let want = [
        (SessionStatus::Success, SessionKind::Targeted),
        (SessionStatus::Failed, SessionKind::Targeted),
        (SessionStatus::Success, SessionKind::ReplicateOnly),
    ];
    assert_eq!(told.collect::<Vec<_>>(), want);
    assert!(lab.vmbackup(&["--run", "--dry-run"]).status.success());
    assert!(lab.vmbackup(&["--replicate-only", "--dry-run"]).status.success());
    assert_eq!(sessions(&lab).len(), 3, "a dry run has no row");
    assert_eq!(session_reports(&lab).len(), 3, "nor a file");

    vm.write("vda", 0, 512, 3).expect("a write");
    let run = lab.run_held_at(&vm, FailPoint::Copying);
    run.signal(rustix::process::Signal::TERM);
    while !run.log().contains("stopping in order") {
        std::thread::sleep(Duration::from_millis(5));
    }
    run.release();
    assert_eq!(run.wait_for(Duration::from_secs(60)).status.code(), Some(143));
    expect("killed", "targeted");

    // Of one that died, the next session ends the row.
    lab.run_killed_at(&vm, FailPoint::Copying).wait();
    vm.wait_until_free(Duration::from_secs(30));
    assert_eq!(sessions(&lab).last().expect("a row").0, "running");
    lab.run_well(&vm);
    let rows = sessions(&lab);
    let last: Vec<&str> = rows.iter().rev().take(2).map(|(status, ..)| status.as_str()).collect();
    assert_eq!(last, ["success", "interrupted"]);
}

#[test]
fn a_second_signal_ends_the_program_at_once_and_the_guard_frees_the_guest() {
    let lab = Lab::configured("two_signals");
    let vm = small_vm(&lab);
    vm.resume();
    let run = lab.run_held_at(&vm, FailPoint::Copying);
    run.signal(rustix::process::Signal::INT);
    while !run.log().contains("stopping in order") {
        std::thread::sleep(Duration::from_millis(5));
    }
    // What comes at once is the same request.
    run.signal(rustix::process::Signal::INT);
    std::thread::sleep(Duration::from_millis(1500));
    run.signal(rustix::process::Signal::INT);
    // It is still held, so only the signal can end it.
    let ended = run.wait_for(Duration::from_secs(60));
    assert_eq!(ended.status.code(), Some(130), "{ended:#?}");
    vm.wait_until_free(Duration::from_secs(30));
    let ended = lab.run_well(&vm);
    assert!(ended.log.contains("ended in the middle"), "{ended:#?}");
    assert!(!lab.backup_path().join("_state/vmbackup.pid").exists());
}

#[test]
fn with_other_peoples_files_in_the_path_only_backups_get_an_owner() {
    let lab = Lab::configured("shared_path");
    let vm = small_vm(&lab);
    let group = backup_group();
    let backups = lab.backup_path();
    let theirs = [
        ("mail.mbox", 0o664),
        ("photos/202611/holiday.jpg", 0o666),
        ("photos/tpm-state/notes", 0o644),
        (".cache/bitlocker.recovery.key.C.txt", 0o644),
    ];
    for (file, mode) in theirs {
        let path = backups.join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, "theirs").expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
    }
    let old = backups.join("old-vm/202601");
    fs::create_dir_all(&old).expect("a folder");
    fs::write(old.join("vda.full.data"), "x").expect("a file");
    must(Command::new("chown").args(["-R", "12:12"]).arg(&backups));
    must(Command::new("chmod").arg("-R").arg("g+w,o+rx").arg(&backups));
    // What looks like a backup, in a folder that somebody made here.
    let planted = backups.join("evil");
    fs::create_dir(&planted).expect("a folder");
    for (name, mode) in [("vda.full.data", 0o644), ("shell", 0o4755)] {
        fs::write(planted.join(name), "x").expect("a file");
        must(Command::new("chown").arg("13:13").arg(planted.join(name)));
        fs::set_permissions(planted.join(name), fs::Permissions::from_mode(mode)).expect("ours");
    }
    must(Command::new("chown").arg("13:13").arg(&planted));
    fs::set_permissions(&backups, fs::Permissions::from_mode(0o1777)).expect("ours");
    let others: Vec<PathBuf> = [&backups]
        .into_iter()
        .cloned()
        .chain(["mail.mbox", "photos", "photos/202611", "photos/202611/holiday.jpg"].map(|p| backups.join(p)))
        .chain(["photos/tpm-state", "photos/tpm-state/notes", ".cache"].map(|p| backups.join(p)))
        .chain([backups.join(".cache/bitlocker.recovery.key.C.txt"), planted.clone(), planted.join("shell")])
        .collect();
    let before: Vec<_> = others.iter().map(|path| about(path)).collect();
    for _ in 0..2 {
        let ended = lab.run_well(&vm);
        assert!(ended.log.contains("keeps its owner and mode"), "{}", ended.log);
        let after: Vec<_> = others.iter().map(|path| about(path)).collect();
        assert_eq!(after, before, "{others:#?}");
        let chain = lab.chain_dir(&vm);
        for folder in [&backups.join("_state"), chain.parent().expect("the VM's"), &chain] {
            assert_eq!(about(folder), (0, group, 0o2750), "{}", folder.display());
        }
        assert_eq!(about(&chain.join("vda.full.data")), (0, group, 0o640));
        assert_eq!(about(&old).0, 0, "a backup that was there before");
        vm.write("vda", 0, 512, 2).expect("a write");
    }
    let said = text(&lab.vmbackup(&["--check"]));
    let words =
        ["mode 1777", "holds what is no backup: .cache, evil, mail.mbox and 1 more", "a folder of their own"];
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
}

#[test]
fn the_group_may_not_write_to_backups() {
    let lab = Lab::configured("group_write");
    let vm = small_vm(&lab);
    let group = backup_group();
    lab.run_well(&vm);
    let (backups, chain) = (lab.backup_path(), lab.chain_dir(&vm));
    let full = chain.join("vda.full.data");
    for (path, mode) in [(&backups, 0o2770), (&chain, 0o2770), (&full, 0o660)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
    }
    // Whoever runs a stranger's file must not get root's rights with it.
    let shell = chain.join("shell");
    fs::write(&shell, "x").expect("a file");
    must(Command::new("chown").arg("13:13").arg(&shell));
    fs::set_permissions(&shell, fs::Permissions::from_mode(0o6755)).expect("ours");
    let said = text(&lab.vmbackup(&["--check"]));
    assert!(said.contains("look  owner: ") && said.contains("mode 2770"), "{said}");
    vm.write("vda", 0, 512, 2).expect("a write");
    lab.run_well(&vm);
    assert_eq!(about(&backups), (0, group, 0o2750));
    assert_eq!(about(&chain), (0, group, 0o2750));
    assert_eq!(about(&full), (0, group, 0o640));
    assert_eq!(about(&shell), (0, group, 0o755));
}

#[test]
fn nothing_is_written_through_a_link() {
    let lab = Lab::configured("links");
    let vm = small_vm(&lab);
    let victim = lab.path().join("victim");
    fs::write(&victim, "somebody's").expect("a file");
    // Everybody may write to a scratch directory, and can guess a process number.
    let scratch = lab.scratch_dir();
    fs::set_permissions(&scratch, fs::Permissions::from_mode(0o1777)).expect("ours");
    let script = r#"
        for folder in "$2" "$3"; do ln -s "$1" "$folder/.vmbackup-test-$$"; done
        shift 3; exec "$@"
    "#;
    let run = lab.run_command(&[&vm]);
    let mut planted = Command::new("bash");
    planted.args(["-c", script, "x"]).arg(&victim).arg(&scratch).arg(lab.backup_path());
    planted.arg(run.get_program()).args(run.get_args());
    planted.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ended = lab.begin_run(planted).wait();
    assert!(ended.status.success(), "{ended:#?}");
    assert_eq!(fs::read_to_string(&victim).expect("it is there"), "somebody's");

    // Names of files on their way are known beforehand.
    let chain = lab.chain_dir(&vm);
    for name in
        ["vda.inc.virtnbdbackup.1.data", "vda.inc.virtnbdbackup.1.idx", "vmconfig.virtnbdbackup.1.xml"]
    {
        symlink(&victim, chain.join(format!("{name}.partial"))).expect("a link");
    }
    symlink(&victim, chain.join(format!("{}.cpt.partial", vm.name()))).expect("a link");
    symlink(&victim, lab.backup_path().join(format!("_state/journal/{}.new", vm.name()))).expect("a link");
    vm.write("vda", 0, 512, 2).expect("a write");
    assert_eq!(lab.run_well(&vm).level(), "incremental 1");
    assert_eq!(fs::read_to_string(&victim).expect("it is there"), "somebody's");
    let raw = lab::extract(&lab, &chain, "vda", None);
    assert_eq!(vm.shadow("vda").equals(&raw), Ok(()));

    // A database that is a link is not used, and stops no backup.
    let database = lab.backup_path().join("_state/vmbackup.db");
    fs::remove_file(&database).expect("ours");
    symlink(&victim, &database).expect("a link");
    vm.write("vda", 0, 512, 3).expect("a write");
    let ended = lab.run_well(&vm);
    assert!(ended.log.contains("cannot be used"), "{}", ended.log);
    assert_eq!(fs::read_to_string(&victim).expect("it is there"), "somebody's");
}

/// With a write-ahead log SQLite wants to write beside the database, which only root may.
#[test]
fn who_may_read_the_backups_can_ask_the_database_between_runs() {
    let lab = Lab::new("group_asks");
    lab.configure(&[]);
    let vm = small_vm(&lab);
    for count in ["1\n", "2\n"] {
        vm.write("vda", 0, 512, count.as_bytes()[0]).expect("a write");
        lab.run_well(&vm);
        let database = lab.backup_path().join("_state/vmbackup.db");
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", &backup_group().to_string(), "--clear-groups"]);
        command.args(["sqlite3", "-readonly"]).arg(&database).arg("SELECT COUNT(*) FROM vm_backups");
        let said = command.output().expect("setpriv and sqlite3 can be run");
        assert_eq!(text(&said), count, "{said:?}");
        let beside = fs::read_dir(database.parent().expect("a folder")).expect("a folder").flatten();
        let left: Vec<_> = beside
            .map(|entry| entry.file_name())
            .filter(|name| name.to_string_lossy().starts_with("vmbackup.db-"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
