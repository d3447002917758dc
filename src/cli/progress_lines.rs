//! How far a run has come, as lines that fit a terminal: one for each disk, one for all of it.
//!
//! Must not live here: the terminal (`drawing`).

use std::time::Duration;

use vmstream::text::size;

/// Columns that stay free on the right: a terminal shows `^C` behind the last line, which must not begin another one.
const MARGIN: usize = 3;

/// From so many columns on there is room for how much of the disk that is.
const WIDE: usize = 120;

/// What a bar has at least and at most.
const BAR_COLUMNS: (usize, usize) = (10, 50);

const RATE_COLUMNS: usize = 12;
const LEFT_COLUMNS: usize = 12;
const BYTES_COLUMNS: usize = 25;

/// What is left cannot be told before so much time, and before so much of the disk.
const GUESS_AFTER: Duration = Duration::from_secs(3);
const GUESS_AFTER_PERCENT: u64 = 1;

/// A disk that is copied.
pub(super) struct DiskLine<'a> {
    pub(super) vm: &'a str,
    pub(super) target: &'a str,
    pub(super) size_bytes: u64,
    pub(super) position: u64,
    /// Bytes a second that were read; `None` before that can be told.
    pub(super) rate: Option<u64>,
    pub(super) elapsed: Duration,
}

/// All of a run.
pub(super) struct RunLine {
    pub(super) vms: usize,
    pub(super) ended_vms: usize,
    pub(super) disks: usize,
    pub(super) read_bytes: u64,
    pub(super) rate: Option<u64>,
}

/// The lines of a run on a terminal of that size. Disks for which there is no room are left out.
pub(super) fn lines(disks: &[DiskLine<'_>], run: &RunLine, columns: usize, rows: usize) -> Vec<String> {
    // One for the run, one for whatever else is shown.
    let shown = &disks[..disks.len().min(rows.saturating_sub(2).max(1))];
    let columns = columns.saturating_sub(MARGIN);
    let longest = shown.iter().map(|disk| disk.vm.chars().count() + 1 + disk.target.chars().count()).max();
    let name_columns = longest.unwrap_or_default().min(columns / 3);
    let mut lines: Vec<String> = shown.iter().map(|disk| disk_line(disk, name_columns, columns)).collect();
    lines.push(run_line(run));
    lines.iter().map(|line| line.chars().take(columns).collect::<String>().trim_end().to_owned()).collect()
}

fn disk_line(disk: &DiskLine<'_>, name_columns: usize, columns: usize) -> String {
    let name = name(disk.vm, disk.target, name_columns);
    let percent = disk.position.min(disk.size_bytes) * 100 / disk.size_bytes.max(1);
    let rate = disk.rate.map(rate_text).unwrap_or_default();
    let left = left(disk, percent).map(|left| format!("{} left", time_text(left))).unwrap_or_default();
    let bytes = format!("{} of {}", size(disk.position), size(disk.size_bytes));
    let bytes = if columns + MARGIN < WIDE { String::new() } else { format!("  {bytes:>BYTES_COLUMNS$}") };
    let rest = format!(" {percent:>3}%{bytes} {rate:>RATE_COLUMNS$} {left:>LEFT_COLUMNS$}");
    let (least, most) = BAR_COLUMNS;
    let room = columns.saturating_sub(name_columns + 3 + rest.chars().count());
    format!("{name} [{}]{rest}", bar(percent, room.clamp(least, most)))
}

fn run_line(run: &RunLine) -> String {
    let RunLine { vms, ended_vms, disks, read_bytes, rate } = run;
    let rate = rate.map(|rate| format!(", {}", rate_text(rate))).unwrap_or_default();
    format!("VMs done: {ended_vms} of {vms}, disks under way: {disks}, read: {}{rate}", size(*read_bytes))
}

fn rate_text(bytes: u64) -> String {
    format!("{}/s", size(bytes))
}

/// VM and disk in so many columns. A long name of a VM is cut in its middle; the disk is whole.
fn name(vm: &str, target: &str, columns: usize) -> String {
    let (vm, room): (Vec<char>, _) =
        (vm.chars().collect(), columns.saturating_sub(target.chars().count() + 1));
    let vm: String = if vm.len() <= room {
        vm.into_iter().collect()
    } else {
        let kept = room.saturating_sub(1);
        let (head, tail) = (kept.div_ceil(2), kept / 2);
        vm[..head].iter().chain(['…'].iter().take(room)).chain(&vm[vm.len() - tail..]).collect()
    };
    format!("{:columns$}", format!("{vm} {target}").trim_start())
}

fn bar(percent: u64, columns: usize) -> String {
    let full = columns * usize::try_from(percent).unwrap_or(0) / 100;
    let head = if full < columns { ">" } else { "" };
    format!("{:columns$}", format!("{}{head}", "=".repeat(full)))
}

/// How long the rest takes if it goes on as so far.
fn left(disk: &DiskLine<'_>, percent: u64) -> Option<Duration> {
    if disk.elapsed < GUESS_AFTER || percent < GUESS_AFTER_PERCENT {
        return None;
    }
    let rest = disk.size_bytes.saturating_sub(disk.position) as f64 / disk.position as f64;
    Some(disk.elapsed.mul_f64(rest))
}

/// Two units at most: the rest is a guess.
fn time_text(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (0, hours, minutes, _) => format!("{hours}h{minutes:02}m"),
        (days, hours, ..) => format!("{days}d{hours:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn disk<'a>(vm: &'a str, target: &'a str, position: u64, seconds: u64) -> DiskLine<'a> {
        let rate = (seconds > 0).then_some(118 << 20);
        DiskLine { vm, target, size_bytes: 40 * GIB, position, rate, elapsed: Duration::from_secs(seconds) }
    }

    fn run() -> RunLine {
        RunLine { vms: 100, ended_vms: 10, disks: 24, read_bytes: 1023 * GIB, rate: Some(1023 << 20) }
    }

    #[test]
    fn every_line_fits_and_names_its_disk() {
        let long = "a-very-long-name-of-a-database-server.production.example.org";
        let disks = [
            disk(long, "vda", 30 * GIB, 300),
            disk("übung", "sdaa", 0, 0),
            disk("web", "vdb", 40 * GIB, 90_000),
        ];
        for columns in [20, 40, 80, 100, 119, 120, 200, 400] {
            let lines = lines(&disks, &run(), columns, 24);
            assert_eq!(lines.len(), 4);
            for line in &lines {
                assert!(line.chars().count() <= columns - MARGIN, "{columns}: {line}");
            }
            if columns >= 40 {
                for (line, target) in lines.iter().zip([" vda ", " sdaa ", " vdb "]) {
                    assert!(line.contains(target), "{columns}: {line}");
                }
            }
        }
        assert_eq!(
            lines(&disks, &run(), 80, 24),
            [
                "a-very-lon…xample.org vda [=============>    ]  75%    118 MiB/s   1m40s left",
                "übung sdaa                [>                 ]   0%",
                "web vdb                   [==================] 100%    118 MiB/s      0s left",
                "VMs done: 10 of 100, disks under way: 24, read: 1.00 TiB, 1.00 GiB/s",
            ]
        );
        assert!(lines(&disks, &run(), 200, 24)[0].starts_with(&format!("{long} vda [")));
        assert!(lines(&disks, &run(), 200, 24)[0].contains("30.0 GiB of 40.0 GiB"));
    }

    #[test]
    fn nothing_is_guessed_before_there_is_something_to_guess_from() {
        for (position, seconds, want) in [
            (20 * GIB, 2, None),
            (0, 600, None),
            (GIB / 4, 600, None),
            (10 * GIB, 10, Some("30s")),
            (10 * GIB, 1000, Some("50m00s")),
            (10 * GIB, 10_000, Some("8h20m")),
            (10 * GIB, 100_000, Some("3d11h")),
        ] {
            let disk = disk("web", "vda", position, seconds);
            let line = &lines(&[disk], &run(), 80, 24)[0];
            assert_eq!(line.contains("left"), want.is_some(), "{line}");
            assert!(line.contains(want.unwrap_or_default()), "{line}");
        }
    }

    #[test]
    fn what_has_no_room_is_left_out_and_the_run_stays() {
        let disks: Vec<_> = (0..24).map(|_| disk("web", "vda", 0, 0)).collect();
        for (rows, want) in [(24, 23), (10, 9), (2, 2), (0, 2), (60, 25)] {
            let lines = lines(&disks, &run(), 80, rows);
            assert_eq!(lines.len(), want, "{rows} rows");
            assert!(lines.last().unwrap().starts_with("VMs done: 10 of 100"));
        }
    }
}
