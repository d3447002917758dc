//! `vmstream doctor`

use super::exit::Exit;
use super::failure::Failure;
use super::subject::{self, Sets, Subject};
use super::{say, text};
use serde_json::{Value, json};
use std::path::PathBuf;
use vmstream::chain::BackupSet;
use vmstream::doctor::{Diagnosis, Suspicion, Unknown, Writer, diagnose};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vmstream doctor /backup
  vmstream doctor /backup/vm/202611 --json

Exit codes: 0 nothing to fear, 1 some may lack changes, 2 cannot tell")]
pub(super) struct Args {
    /// Folder of a backup set, or folder with many of them
    path: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// What helps.
const ADVICE: &str = "
What to do: take a new full backup of these domains now, with a program that has neither defect. Both are in how the
increments were written: no repair and no checksum can bring back what was left out. A restore of the points that are
not named sound may have old data in some places; keep them until the new full is verified. Whether one of them is
right can be seen only against an image of that moment: vmstream compare.
";

pub(super) fn run(args: &Args) -> Exit {
    let sets = match subject::open(&args.path) {
        Err(failure) => return failure.report(args.json),
        Ok(Subject::File(_)) => {
            let text = format!("{} is a file: name the folder of its backup set", args.path.display());
            return Failure::refused(text).report(args.json);
        }
        Ok(Subject::Set(set)) => Sets { root_is_set: true, sets: vec![*set], unreadable: Vec::new() },
        Ok(Subject::Sets(sets)) => sets,
    };
    let found: Vec<_> = sets.sets.iter().map(|set| (set, diagnose(set))).collect();
    let ill = found.iter().any(|(_, diagnosis)| !diagnosis.suspects.is_empty());
    let unknown = found.iter().any(|(set, diagnosis)| !diagnosis.unknown.is_empty() || set.points.is_empty());
    let written = if args.json {
        let list: Vec<_> = found.iter().map(|(set, diagnosis)| set_json(set, diagnosis)).collect();
        let value = json!({"sets": list, "unreadable": sets.unreadable});
        say(&format!("{value:#}\n"))
    } else {
        let mut out: String = found.iter().map(|(set, diagnosis)| set_text(set, diagnosis)).collect();
        sets.unreadable.iter().for_each(|text| out.push_str(&format!("unreadable: {text}\n")));
        if ill {
            out.push_str(ADVICE);
        }
        say(&out)
    };
    let found = match (ill, sets.unreadable.is_empty() && !unknown) {
        (true, _) => Exit::Damaged,
        (false, false) => Exit::CannotTell,
        (false, true) => Exit::Good,
    };
    found.unless(written)
}

fn set_text(set: &BackupSet, found: &Diagnosis) -> String {
    let domain = set.domain.as_deref().map_or(String::new(), |domain| format!("{domain} in "));
    let name = format!("{domain}{}", set.dir.display());
    let unknown = unknown_text(&name, set, found);
    if found.suspects.is_empty() {
        return if unknown.is_empty() { format!("{name}: nothing to fear\n") } else { unknown };
    }
    let rows: Vec<_> = found
        .suspects
        .iter()
        .map(|suspect| {
            vec![suspect.point.to_string(), suspect.disk.to_string(), words(suspect.suspicion).to_owned()]
        })
        .collect();
    let sound: Vec<_> = found.sound_points.iter().map(ToString::to_string).collect();
    let sound = if sound.is_empty() { "none".to_owned() } else { sound.join(", ") };
    format!(
        "{unknown}{name}: {} written by virtnbdbackup may not hold all they should\n\n{}\n  sound: {sound}\n",
        text::count(found.suspects.len(), "stream"),
        text::table(&rows)
    )
}

/// What cannot be looked at.
fn unknown_text(name: &str, set: &BackupSet, found: &Diagnosis) -> String {
    if set.points.is_empty() {
        return format!("{name}: cannot tell, there is no restore point\n");
    }
    if found.unknown.is_empty() {
        return String::new();
    }
    let row = |one: &Unknown| vec![one.point.to_string(), one.disk.to_string(), one.reason.clone()];
    let rows: Vec<_> = found.unknown.iter().map(row).collect();
    let count = text::count(rows.len(), "stream");
    format!(
        "{name}: cannot tell of {count} that cannot be looked at (vmstream verify says more)\n\n{}\n",
        text::table(&rows)
    )
}

fn words(suspicion: Suspicion) -> &'static str {
    match suspicion {
        Suspicion::ZeroesLost => "what was zeroed or discarded since the point before may be missing",
        Suspicion::Empty => "empty: nothing changed, or the changes were lost",
        Suspicion::EmptyAndFragmented { .. } => {
            "EMPTY, and the disk is very fragmented: the changes were likely lost"
        }
        Suspicion::Fragmented { .. } => "the disk is very fragmented: changes were likely lost or misplaced",
    }
}

fn set_json(set: &BackupSet, found: &Diagnosis) -> Value {
    let writer = |writer: &Writer| match writer {
        Writer::Vmbackup => "vmbackup",
        Writer::Virtnbdbackup => "virtnbdbackup",
        Writer::Unknown => "unknown",
    };
    let writers: serde_json::Map<String, Value> = found
        .writers
        .iter()
        .map(|(point, writers)| (point.to_string(), writers.iter().map(writer).collect::<Vec<_>>().into()))
        .collect();
    let suspects: Vec<_> = found
        .suspects
        .iter()
        .map(|suspect| {
            let (word, frames) = match suspect.suspicion {
                Suspicion::ZeroesLost => ("zeroes-lost", None),
                Suspicion::Empty => ("empty", None),
                Suspicion::EmptyAndFragmented { frames } => ("empty-and-fragmented", Some(frames)),
                Suspicion::Fragmented { frames } => ("fragmented", Some(frames)),
            };
            json!({
                "point": suspect.point.to_string(),
                "disk": suspect.disk.to_string(),
                "suspicion": word,
                "frames": frames,
            })
        })
        .collect();
    let unknown: Vec<_> = found
        .unknown
        .iter()
        .map(
            |one| json!({"point": one.point.to_string(), "disk": one.disk.to_string(), "reason": one.reason}),
        )
        .collect();
    json!({
        "dir": set.dir.display().to_string(),
        "domain": set.domain,
        "writers": writers,
        "suspects": suspects,
        "unknown": unknown,
        "sound_points": found.sound_points.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
