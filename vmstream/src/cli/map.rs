//! `vmstream map`

use super::exit::Exit;
use super::progress::Bar;
use super::{fail, say, tell, text, warn};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;
use vmstream::chain::{BackupSet, DiskTarget, PointId};
use vmstream::restore::picture::{Cell, Picture, Row, picture, supplies};
use vmstream::restore::{ExtractError, check_streams};
use vmstream::verify::{Depth, Watch, total_bytes};

/// Parts of the disk in the picture on a terminal.
const TEXT_PARTS: usize = 60;

/// Parts of the disk in the drawing, and their width.
const SVG_PARTS: usize = 600;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of the backup set
    dir: PathBuf,
    /// Disk target, such as vda [default: all]
    #[arg(long)]
    disk: Option<DiskTarget>,
    /// Restore point: virtnbdbackup.N, diff.EPOCH or copy [default: the newest]
    #[arg(long, value_name = "POINT")]
    until: Option<PointId>,
    /// List every range with the point that supplies it
    #[arg(long)]
    ranges: bool,
    /// Draw the picture into a file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Do not read the streams that only a checksum file proves
    #[arg(long)]
    no_check: bool,
    /// Print JSON, with every range
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Exit {
    let (set, point) = match super::open_at(&args.dir, args.until) {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let disks = match (&args.disk, set.point(point)) {
        (_, Err(error)) => return fail(&error, Exit::CannotTell),
        (Some(disk), _) => vec![disk.clone()],
        (None, Ok(point)) => set.disks_at(point),
    };
    let checked = if args.no_check { Ok(()) } else { check(&set, &disks, point) };
    match checked.and_then(|()| draw(args, &set, &disks, point)) {
        Err(error) => {
            let exit = super::extract::exit_of(&error);
            fail(&error, exit)
        }
        Ok((out, svg)) => {
            if let (Some(path), Some(svg)) = (&args.svg, svg) {
                if let Err(error) = std::fs::write(path, svg) {
                    tell(&format!("error: Cannot write {}: {error}\n", path.display()));
                    return Exit::CannotTell;
                }
            }
            say(&out)
        }
    }
}

/// A stream without a usable sidecar may be another than was written: only all of its bytes tell.
fn check(set: &BackupSet, disks: &[DiskTarget], point: PointId) -> Result<(), ExtractError> {
    let bar = Bar::new(total_bytes(set, Depth::Content));
    let checked = disks.iter().try_for_each(|disk| {
        let unused = check_streams(set, disk, point, &|bytes| bar.read(bytes))?;
        unused.iter().for_each(warn);
        Ok(())
    });
    bar.clear();
    checked
}

fn draw(
    args: &Args,
    set: &BackupSet,
    disks: &[DiskTarget],
    point: PointId,
) -> Result<(String, Option<String>), ExtractError> {
    let mut values = Vec::new();
    let mut out = String::new();
    let mut drawings = Vec::new();
    for disk in disks {
        let found = picture(set, disk, point, TEXT_PARTS)?;
        if args.svg.is_some() {
            drawings.push((disk.clone(), picture(set, disk, point, SVG_PARTS)?));
        }
        if args.json {
            values.push(disk_json(set, disk, point, &found)?);
            continue;
        }
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&disk_text(disk, point, &found));
        if args.ranges {
            out.push('\n');
            for (range, by) in supplies(set, disk, point)? {
                let by = by.map_or("zero".to_owned(), |by| by.to_string());
                let _ = writeln!(out, "  {:>16} {:>16}  {by}", range.start, range.end);
            }
        }
    }
    if args.json {
        let value =
            json!({"dir": set.dir.display().to_string(), "point": point.to_string(), "disks": values});
        out = format!("{value:#}\n");
    } else {
        out.push_str(
            "\n  # the disk takes it from here   o newer points have it again   0 zeros   . nothing\n",
        );
    }
    let svg = args.svg.as_ref().map(|_| svg(set, point, &drawings));
    Ok((out, svg))
}

fn disk_text(disk: &DiskTarget, point: PointId, found: &Picture) -> String {
    let mut out = format!(
        "{disk} at {point}: {}, {} of it zero because no stream has it\n\n",
        text::size(found.size),
        text::size(found.unset_bytes)
    );
    let row = |row: &Row| {
        let cells: String = row
            .cells
            .iter()
            .map(|cell| match cell {
                Cell::Nothing => '.',
                Cell::Zeros => '0',
                Cell::Superseded => 'o',
                Cell::Used => '#',
            })
            .collect();
        let used = format!("{} of {}", text::size(row.used_bytes), text::size(row.data_bytes));
        vec![row.point.to_string(), cells, used]
    };
    out.push_str(&text::table(&found.rows.iter().map(row).collect::<Vec<_>>()));
    out
}

fn disk_json(
    set: &BackupSet,
    disk: &DiskTarget,
    point: PointId,
    found: &Picture,
) -> Result<Value, ExtractError> {
    let streams: Vec<_> = found
        .rows
        .iter()
        .map(|row| {
            json!({
                "point": row.point.to_string(),
                "data_bytes": row.data_bytes,
                "used_bytes": row.used_bytes,
                "zero_bytes": row.zero_bytes,
            })
        })
        .collect();
    let ranges: Vec<_> = supplies(set, disk, point)?
        .into_iter()
        .map(|(range, by)| json!([range.start, range.end, by.map(|by| by.to_string())]))
        .collect();
    Ok(json!({
        "disk": disk.to_string(),
        "disk_bytes": found.size,
        "unset_bytes": found.unset_bytes,
        "streams": streams,
        "ranges": ranges,
    }))
}

/// Points from top to bottom, the disk from left to right.
fn svg(set: &BackupSet, point: PointId, drawings: &[(DiskTarget, Picture)]) -> String {
    const LEFT: usize = 150;
    const ROW: usize = 20;
    const WIDTH: usize = LEFT + SVG_PARTS + 130;
    const KINDS: [(Cell, &str, &str); 3] = [
        (Cell::Used, "#2868b0", "data that the disk takes from here"),
        (Cell::Superseded, "#b8d0ea", "data that newer points have again"),
        (Cell::Zeros, "#dddddd", "zeros"),
    ];
    let colour = |cell| KINDS.iter().find(|(kind, ..)| *kind == cell).map_or("none", |(_, colour, _)| colour);
    let mut body = String::new();
    let mut label = |x: usize, y: usize, words: &str| {
        let _ = writeln!(body, r#"<text x="{x}" y="{y}">{}</text>"#, escape(words));
    };
    let domain = set.domain.as_deref().map_or(String::new(), |domain| format!("{domain}, "));
    label(10, 22, &format!("{domain}{} at {point}", set.dir.display()));
    let mut y = 40;
    for (disk, found) in drawings {
        label(10, y + 14, &format!("{disk}, {}", text::size(found.size)));
        y += ROW;
        for row in &found.rows {
            label(10, y + 14, &row.point.to_string());
            label(LEFT + SVG_PARTS + 8, y + 14, &text::size(row.used_bytes));
            y += ROW;
        }
        y += ROW / 2;
    }
    for (number, (_, _, words)) in KINDS.iter().enumerate() {
        label(LEFT + 20, y + 14 + number * ROW, words);
    }
    let rect = |body: &mut String, x: usize, y: usize, width: usize, fill: &str| {
        let height = ROW - 4;
        let _ = writeln!(body, r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}"/>"#);
    };
    for (number, (_, fill, _)) in KINDS.iter().enumerate() {
        rect(&mut body, LEFT, y + number * ROW, 14, fill);
    }
    let height = y + KINDS.len() * ROW + 10;
    let mut y = 40;
    for (_, found) in drawings {
        y += ROW;
        for row in &found.rows {
            rect(&mut body, LEFT, y, SVG_PARTS, "#f7f7f7");
            let mut x = 0;
            for run in row.cells.chunk_by(|one, other| one == other) {
                if run[0] != Cell::Nothing {
                    rect(&mut body, LEFT + x, y, run.len(), colour(run[0]));
                }
                x += run.len();
            }
            y += ROW;
        }
        y += ROW / 2;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
