//! `verify --json`: the document, part by part.

use super::findings::finding_json;
use super::points::{WORTHS, point_json};
use super::totals::Totals;
use crate::cli::document::Node;
use crate::cli::output::Out;
use crate::cli::subject::Subjects;
use serde_json::{Value, json};
use vmstream::verify::{
    Depth, DiskDigest, FileReport, PointVerdict, Proof, SetReport, StreamReport, VerifyOptions, Worth,
};

/// The document, and the totals at its end.
pub(super) fn tell(mut subjects: Subjects, options: VerifyOptions, out: &mut Out) -> Totals {
    let mut totals = Totals::default();
    let mut document = Node::document(out, "vmstream/verify/1");
    document.member("depth", &depth_word(options.depth).into());
    let mut sets = document.list("sets");
    subjects.each_set(|set| {
        let (report, doubtful) = totals.set(set, options);
        let mut value = as_json(&report);
        value["may_lack_changes"] = doubtful.into();
        sets.item(&value);
    });
    sets.close();
    let mut files = document.list("files");
    subjects.files.iter().for_each(|file| files.item(&file_json(&totals.file(file, options))));
    files.close();
    totals.unreadable = subjects.unreadable.len();
    document.member("unreadable", &subjects.unreadable.into());
    document.member("verdict", &totals.verdict().word().into());
    document.member("totals", &totals_json(&totals));
    document.close();
    totals
}

fn totals_json(totals: &Totals) -> Value {
    let mut value = json!({
        "sets": totals.sets,
        "files": totals.files,
        "good": totals.good,
        "damaged": totals.damaged,
        "cannot_tell": totals.cannot_tell,
        "points": totals.points.all,
    });
    for ((_, name), count) in WORTHS.iter().zip(totals.points.counts) {
        value[format!("{name}_points")] = count.into();
    }
    value
}

fn as_json(report: &SetReport) -> Value {
    let ids = |wanted: fn(&PointVerdict) -> bool| -> Vec<String> {
        report.points.iter().filter(|point| wanted(point)).map(|point| point.id.to_string()).collect()
    };
    let digest = |found: &DiskDigest| {
        json!({
            "point": found.point.to_string(),
            "disk": found.disk.to_string(),
            "disk_bytes": found.size,
            "blake3_of_mib_of_64k_blake3": found.digest,
            "proven_bytes": found.checked.as_ref().map(|checked| checked.proven_bytes),
            "unproven_bytes": found.checked.as_ref().map(|checked| checked.unproven_bytes),
        })
    };
    json!({
        "dir": report.dir.display().to_string(),
        "domain": report.domain,
        "verdict": report.verdict().word(),
        "depth": depth_word(report.depth),
        "good_points": ids(PointVerdict::is_good),
        "proven_points": ids(|point| point.worth() == Worth::Proven),
        "unproven_points": ids(|point| point.worth() == Worth::Unproven),
        "lost_points": ids(PointVerdict::is_lost),
        "points": report.points.iter().map(point_json).collect::<Vec<_>>(),
        "streams": report.streams.iter().map(stream_json).collect::<Vec<_>>(),
        "digests": report.digests.iter().map(digest).collect::<Vec<_>>(),
        "findings": report.findings.iter().map(finding_json).collect::<Vec<_>>(),
    })
}

fn stream_json(stream: &StreamReport) -> Value {
    json!({
        "file": stream.path.display().to_string(),
        "frames": stream.frame_count,
        "data_bytes": stream.data_bytes,
        "proof": stream.proof.map(|proof| match proof {
            Proof::Sidecar => "sidecar",
            Proof::Checksum => "checksum",
            Proof::Empty => "empty",
        }),
    })
}

fn file_json(report: &FileReport) -> Value {
    json!({
        "file": report.path.display().to_string(),
        "verdict": report.verdict().word(),
        "depth": depth_word(report.depth),
        "stream": report.stream.as_ref().map(stream_json),
        "findings": report.findings.iter().map(finding_json).collect::<Vec<_>>(),
    })
}

fn depth_word(depth: Depth) -> &'static str {
    match depth {
        Depth::Quick => "quick",
        Depth::Content => "content",
        Depth::Deep => "deep",
    }
}
