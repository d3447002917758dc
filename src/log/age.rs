//! Removes logs that are older than `LOG_KEEP_DAYS`, and begins a log file anew that has become so old.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::civil::Date;

/// Where a log tells its age at the latest.
const FIRST_LINES: usize = 200;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Removes logs that were last written to more than `keep_days` days before `now`: of VMs, of replications,
/// the parts of sessions, and copies of mails. Only plain files of those names, and nothing behind a link. Returns how many went, and what could not.
pub fn remove_old(state: &Path, logs: &Path, keep_days: u32, now: SystemTime) -> (usize, Vec<String>) {
    let Some(limit) = now.checked_sub(DAY * keep_days) else { return (0, vec![]) };
    let replication = state.join("replication_logs");
    let mut folders: Vec<(PathBuf, &str, &str)> = vec![
        (logs.to_owned(), "backup_", ".log"),
        (state.join("email"), "email-", ".txt"),
        (state.join("report"), "session-", ".jsonl"),
    ];
    for kind in ["local", "cloud"] {
        folders.push((replication.join(kind), "", ".log"));
    }
    let (mut removed, mut failed) = (0, Vec::new());
    for (folder, begin, end) in folders {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let fits = name.to_str().is_some_and(|name| name.starts_with(begin) && name.ends_with(end));
            let is_old = |about: fs::Metadata| about.is_file() && about.modified().is_ok_and(|at| at < limit);
            if !fits || !entry.metadata().is_ok_and(is_old) {
                continue;
            }
            match fs::remove_file(entry.path()) {
                Ok(()) => removed += 1,
                Err(error) => failed.push(format!("{}: {error}", entry.path().display())),
            }
        }
    }
    (removed, failed)
}

/// Renames a log whose first line is more than `keep_days` days old to `NAME.1`, over the one before: so it holds what
/// is that young, and at most as much again is kept. True when it did.
pub fn begin_anew_when_old(log: &Path, keep_days: u32, today: Date) -> std::io::Result<bool> {
    let is_plain = fs::symlink_metadata(log).is_ok_and(|about| about.is_file());
    let begun = if is_plain { first_date(log) } else { None };
    let is_old =
        begun.is_some_and(|begun| (today - begun).get_days() > i32::try_from(keep_days).unwrap_or(i32::MAX));
    if is_old {
        let mut kept = log.as_os_str().to_owned();
        kept.push(".1");
        fs::rename(log, PathBuf::from(kept))?;
    }
    Ok(is_old)
}

/// The date of the first line that has one.
fn first_date(log: &Path) -> Option<Date> {
    let lines = BufReader::new(File::open(log).ok()?).split(b'\n').take(FIRST_LINES);
    let date = |line: Vec<u8>| {
        let text = line.strip_prefix(b"[")?.get(..10)?;
        std::str::from_utf8(text).ok()?.parse::<Date>().ok()
    };
    lines.map_while(Result::ok).find_map(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_enough_goes_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (state, logs) = (dir.path().to_owned(), dir.path().join("logs"));
        let now = SystemTime::now();
        let folders = ["logs", "email", "report", "replication_logs/local", "replication_logs/cloud"];
        folders.iter().for_each(|folder| fs::create_dir_all(state.join(folder)).unwrap());
        let files = [
            ("logs/backup_web_1.log", 31, true),
            ("logs/backup_web_2.log", 29, false),
            ("logs/vmbackup.log", 400, false),
            ("logs/notes.txt", 400, false),
            ("email/email-2026-01-01_000000.txt", 31, true),
            ("email/other.txt", 400, false),
            ("report/session-1.jsonl", 31, true),
            ("report/session-2.jsonl", 29, false),
            ("report/index.html", 400, false),
            ("replication_logs/local/nas_2026.log", 31, true),
            ("replication_logs/cloud/s3_2026.log", 30, false),
        ];
        for (name, days, _) in files {
            let file = File::create(state.join(name)).unwrap();
            file.set_modified(now - DAY * days + Duration::from_secs(60)).unwrap();
        }
        fs::create_dir(logs.join("backup_folder.log")).unwrap();
        assert_eq!(remove_old(&state, &logs, 30, now), (4, vec![]));
        for (name, _, goes) in files {
            assert_eq!(!state.join(name).exists(), goes, "{name}");
        }
        assert!(logs.join("backup_folder.log").exists());
    }

    #[test]
    fn a_log_that_is_old_begins_anew_and_is_kept_once() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("vmbackup.log");
        let today = jiff::civil::date(2026, 11, 22);
        assert!(!begin_anew_when_old(&log, 30, today).unwrap());
        fs::write(&log, "\n====\nno date\n[2026-10-23 01:00:00 UTC] [INFO] [a] [b] c\n").unwrap();
        assert!(!begin_anew_when_old(&log, 30, today).unwrap());
        assert!(begin_anew_when_old(&log, 29, today).unwrap());
        assert!(!log.exists() && dir.path().join("vmbackup.log.1").exists());
        fs::write(&log, "[2026-01-01 01:00:00 UTC] [INFO] [a] [b] newer\n").unwrap();
        assert!(begin_anew_when_old(&log, 30, today).unwrap());
        assert!(fs::read_to_string(dir.path().join("vmbackup.log.1")).unwrap().contains("newer"));
        // A clock that went back makes nothing old.
        fs::write(&log, "[2027-01-01 01:00:00 UTC] [INFO] [a] [b] c\n").unwrap();
        assert!(!begin_anew_when_old(&log, 30, today).unwrap());
    }
}
