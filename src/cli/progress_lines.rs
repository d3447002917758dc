//! How far a run has come, as lines that fit a terminal: one for each disk, one for all of it.
//!
//! Must not live here: the terminal (`vmstream::terminal`).

use std::time::Duration;

use vmstream::terminal::{Bar, MARGIN, fitted, rate_text};
use vmstream::text::size;

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
    let longest = shown.iter().map(|disk| disk.vm.chars().count() + 1 + disk.target.chars().count()).max();
    let name_columns = longest.unwrap_or_default().min(columns.saturating_sub(MARGIN) / 3);
    let mut lines: Vec<String> = shown.iter().map(|disk| disk_line(disk, name_columns, columns)).collect();
    lines.push(fitted(&run_line(run), columns));
    lines
}

fn disk_line(disk: &DiskLine<'_>, name_columns: usize, columns: usize) -> String {
    let DiskLine { vm, target, size_bytes, position, rate, elapsed } = *disk;
    Bar { name: name(vm, target, name_columns), size_bytes, position, rate, elapsed }.line(columns)
}

fn run_line(run: &RunLine) -> String {
    let RunLine { vms, ended_vms, disks, read_bytes, rate } = run;
    let rate = rate.map(|rate| format!(", {}", rate_text(rate))).unwrap_or_default();
    format!("VMs done: {ended_vms} of {vms}, disks under way: {disks}, read: {}{rate}", size(*read_bytes))
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
    fn what_has_no_room_is_left_out_and_the_run_stays() {
        let disks: Vec<_> = (0..24).map(|_| disk("web", "vda", 0, 0)).collect();
        for (rows, want) in [(24, 23), (10, 9), (2, 2), (0, 2), (60, 25)] {
            let lines = lines(&disks, &run(), 80, rows);
            assert_eq!(lines.len(), want, "{rows} rows");
            assert!(lines.last().unwrap().starts_with("VMs done: 10 of 100"));
        }
    }
}
