//! `vmstream doctor`: names backups that may have lost changes when they were written.

use super::document::Node;
use super::exit::Exit;
use super::failure::Failure;
use super::output::Out;
use super::subject::{Reach, Subjects};
use serde_json::{Value, json};
use std::path::PathBuf;
use vmstream::causes::with_causes;
use vmstream::chain::BackupSet;
use vmstream::chain::times::{SetTimeError, put_in_order};
use vmstream::doctor::{Diagnosis, Suspicion, Unknown, Writer, diagnose};
use vmstream::text;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vmstream doctor /backup
  vmstream doctor /backup/vm/202611 --json
  vmstream doctor /replica --repair-times

Exit codes: 0 nothing to fear, 1 some may lack changes, or their times are not
            in order, 2 cannot tell, or not repair")]
pub(super) struct Args {
    /// Folders of backup sets, or folders with many of them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    reach: Reach,
    /// Put the times of streams back in order, where a copy lost it; nothing else is changed
    #[arg(long)]
    repair_times: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

const ADVICE: &str = "
What to do: take a new full backup of these domains now, with a program that has
neither defect. Both are in how the increments were written: no repair and no
checksum can bring back what was left out. A restore of the points that are not
named sound may have old data in some places; keep them until the new full is
verified. Whether one of them is right can be seen only against an image of that
moment: vmstream compare.
";

pub(super) fn run(args: &Args) -> Exit {
    let mut subjects = match Subjects::open(&args.paths, &args.reach) {
        Err(failure) => return failure.report(args.json),
        Ok(subjects) => subjects,
    };
    for file in std::mem::take(&mut subjects.files) {
        let text = format!("{} is a file: name the folder of its backup set", file.path().display());
        if subjects.dirs.is_empty() {
            return Failure::refused(text).report(args.json);
        }
        subjects.unreadable.push(text);
    }
    let mut out = if args.json { Out::json() } else { Out::text() };
    let totals = Totals { repairs: args.repair_times, ..Totals::default() };
    let totals = match args.json {
        true => tell_json(subjects, totals, &mut out),
        false => tell_text(subjects, totals, &mut out),
    };
    let cannot_tell = totals.unknown_sets + totals.unreadable + totals.not_repaired;
    Exit::of_counts(totals.suspects + totals.out_of_order, cannot_tell).unless(out.finish())
}

/// What is known of all sets, when each is let go.
#[derive(Default)]
struct Totals {
    sets: usize,
    suspects: usize,
    unknown: usize,
    /// Sets of which not all can be told.
    unknown_sets: usize,
    unreadable: usize,
    /// Times are to be put in order.
    repairs: bool,
    /// Streams whose times are not in order, and stay so.
    out_of_order: usize,
    not_repaired: usize,
}

/// What is known of one set.
struct Told {
    found: Diagnosis,
    /// How many times were set, or why not; `None` where nothing was to be done.
    repaired: Option<Result<usize, SetTimeError>>,
}

impl Totals {
    fn set(&mut self, set: &BackupSet) -> Told {
        let found = diagnose(set);
        let is_repaired = self.repairs && !found.out_of_order.is_empty();
        let repaired = is_repaired.then(|| put_in_order(set));
        match &repaired {
            None => self.out_of_order += found.out_of_order.len(),
            Some(done) => self.not_repaired += usize::from(done.is_err()),
        }
        self.sets += 1;
        self.suspects += found.suspects.len();
        self.unknown += found.unknown.len();
        self.unknown_sets += usize::from(!found.unknown.is_empty() || set.points.is_empty());
        Told { found, repaired }
    }
}

fn tell_text(mut subjects: Subjects, mut totals: Totals, out: &mut Out) -> Totals {
    subjects.each_set(|set| {
        out.say(&text::wrapped(&set_text(set, &totals.set(set))));
        out.flush();
    });
    subjects.unreadable.iter().for_each(|text| out.say(&text::wrapped(&format!("unreadable: {text}\n"))));
    totals.unreadable = subjects.unreadable.len();
    if totals.suspects > 0 {
        out.say(ADVICE);
    }
    totals
}

/// The document, part by part.
fn tell_json(mut subjects: Subjects, mut totals: Totals, out: &mut Out) -> Totals {
    let mut document = Node::document(out, "vmstream/doctor/1");
    let mut sets = document.list("sets");
    subjects.each_set(|set| sets.item(&set_json(set, &totals.set(set))));
    sets.close();
    totals.unreadable = subjects.unreadable.len();
    document.member("unreadable", &subjects.unreadable.into());
    let Totals { sets, suspects, unknown, out_of_order, .. } = totals;
    let of_all =
        json!({"sets": sets, "suspects": suspects, "unknown": unknown, "out_of_order": out_of_order});
    document.member("totals", &of_all);
    document.close();
    totals
}

fn set_text(set: &BackupSet, told: &Told) -> String {
    let Told { found, .. } = told;
    let times = times_text(set, told);
    let domain = set.domain.as_deref().map_or(String::new(), |domain| format!("{domain} in "));
    let name = format!("{domain}{}", set.dir.display());
    let unknown = unknown_text(&name, set, found);
    if found.suspects.is_empty() {
        return match (unknown.is_empty(), times) {
            (true, None) => format!("{name}: nothing to fear\n"),
            (_, times) => unknown + &times.map_or_else(String::new, |times| format!("{name}: {times}\n")),
        };
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
    let times = times.map_or_else(String::new, |times| format!("{name}: {times}\n"));
    format!(
        "{unknown}{times}{name}: {} written by virtnbdbackup may not hold all they should\n\n{}\n  sound: {sound}\n",
        text::count(found.suspects.len(), "stream"),
        text::table(&rows)
    )
}

/// What is to be said of the times of its streams.
fn times_text(set: &BackupSet, told: &Told) -> Option<String> {
    let lost = told.found.out_of_order.len();
    Some(match &told.repaired {
        None if lost == 0 => return None,
        None => format!(
            "the times of {} are not in order, as after a copy that keeps no times: virtnbdrestore, which goes by them, would put \
             wrong disks together; vmstream does not. Repair: vmstream doctor --repair-times '{}'",
            text::count(lost, "stream"),
            set.dir.display()
        ),
        Some(Ok(changed)) => format!("the times of {} were put in order", text::count(*changed, "stream")),
        Some(Err(error)) => with_causes(error),
    })
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
        Suspicion::ZeroesLost => "zeroed or discarded ranges may be missing",
        Suspicion::Empty => "empty: nothing changed, or the changes were lost",
        Suspicion::EmptyAndFragmented { .. } => "EMPTY, a very fragmented disk: changes likely lost",
        Suspicion::Fragmented { .. } => "a very fragmented disk: changes likely lost or misplaced",
    }
}

fn set_json(set: &BackupSet, Told { found, repaired }: &Told) -> Value {
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
        "out_of_order": found.out_of_order.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
        "repaired_times": repaired.as_ref().and_then(|done| done.as_ref().ok()),
        "not_repaired": repaired.as_ref().and_then(|done| done.as_ref().err()).map(|error| with_causes(error)),
        "sound_points": found.sound_points.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
