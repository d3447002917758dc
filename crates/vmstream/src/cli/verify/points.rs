//! What is said of restore points: how many are worth what, and a row or an entry for each.

use serde_json::{Value, json};
use std::path::PathBuf;
use vmstream::text;
use vmstream::verify::{Depth, DiskVerdict, PointVerdict, SetReport, Worth};

/// What restore points are worth, in words.
pub(super) const WORTHS: [(Worth, &str); 4] = [
    (Worth::Proven, "proven"),
    (Worth::Unproven, "unproven"),
    (Worth::Unknown, "unknown"),
    (Worth::Damaged, "damaged"),
];

/// How many restore points are worth what.
#[derive(Default)]
pub(super) struct PointCounts {
    pub(super) all: usize,
    /// In the order of [`WORTHS`].
    pub(super) counts: [usize; WORTHS.len()],
    read: bool,
}

impl PointCounts {
    pub(super) fn of(report: &SetReport) -> Self {
        let mut counts = Self::default();
        counts.add(report);
        counts
    }

    pub(super) fn add(&mut self, report: &SetReport) {
        self.all += report.points.len();
        self.read |= report.depth != Depth::Quick;
        WORTHS.iter().zip(&mut self.counts).for_each(|((worth, _), count)| *count += report.count(*worth));
    }

    /// `8 restore points: 4 proven, 3 unproven, 1 damaged`
    pub(super) fn text(&self) -> String {
        let word = |worth, word| if !self.read && worth == Worth::Proven { "seem whole" } else { word };
        let counted = WORTHS.iter().zip(self.counts).filter(|(_, count)| *count > 0);
        let counted: Vec<_> =
            counted.map(|((worth, name), count)| format!("{count} {}", word(*worth, name))).collect();
        let colon = if counted.is_empty() { "" } else { ": " };
        format!("{}{colon}{}", text::count(self.all, "restore point"), counted.join(", "))
    }
}

pub(super) fn point_row(report: &SetReport, point: &PointVerdict) -> Vec<String> {
    let mut row = vec![point.id.to_string()];
    row.extend(point.definition.map(|worth| definition_text(worth).to_owned()));
    row.extend(point.disks.iter().map(|(disk, verdict)| format!("{disk}: {}", disk_text(report, verdict))));
    row
}

/// A line for each disk of each point, where one for all of them would be too long.
pub(super) fn tall_rows(report: &SetReport) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for point in &report.points {
        let mut head = point.id.to_string();
        if let Some(worth) = point.definition {
            rows.push(vec![std::mem::take(&mut head), definition_text(worth).to_owned()]);
        }
        for (disk, verdict) in &point.disks {
            // The others of a point stand below it.
            rows.push(vec![std::mem::take(&mut head), format!("{disk}: {}", disk_text(report, verdict))]);
        }
    }
    rows
}

fn definition_text(worth: Worth) -> &'static str {
    match worth {
        Worth::Proven | Worth::Unproven => "definition only",
        Worth::Unknown => "definition only: UNKNOWN",
        Worth::Damaged => "definition only: DAMAGED",
    }
}

fn disk_text(report: &SetReport, verdict: &DiskVerdict) -> String {
    let names = |files: &[PathBuf]| match files {
        [] => String::new(),
        [first, more @ ..] => {
            let name = first.strip_prefix(&report.dir).unwrap_or(first).display().to_string();
            if more.is_empty() { name } else { format!("{name} and {} more", more.len()) }
        }
    };
    match verdict {
        DiskVerdict::Good if report.depth == Depth::Quick => "seems whole".to_owned(),
        DiskVerdict::Good => "good".to_owned(),
        DiskVerdict::Unproven { .. } => "unproven".to_owned(),
        DiskVerdict::Unknown { files } => format!("UNKNOWN, cannot read {}", names(files)),
        DiskVerdict::Lost { missing: Some(point), .. } => format!("LOST, stream of {point} missing"),
        DiskVerdict::Lost { files, .. } => format!("LOST by {}", names(files)),
    }
}

pub(super) fn point_json(point: &PointVerdict) -> Value {
    let disks: serde_json::Map<String, Value> =
        point.disks.iter().map(|(disk, verdict)| (disk.to_string(), Value::from(verdict.word()))).collect();
    json!({"point": point.id.to_string(), "disks": disks, "definition_only": point.definition.is_some()})
}
