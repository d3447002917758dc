//! A chain as an SVG: points from top to bottom, the disk from left to right.

use std::fmt::Write;
use vmstream::chain::DiskTarget;
use vmstream::restore::picture::{Cell, Picture};
use vmstream::text;

/// Parts of the disk in the drawing, and their width.
pub(super) const PARTS: usize = 600;

const LEFT: f64 = 256.0;
const WIDTH: f64 = LEFT + PARTS as f64 + 84.0;
const MARGIN: f64 = 10.0;

/// A line of text.
const LINE: f64 = 18.0;

/// Characters of a title that fit on a line.
const TITLE_LEN: usize = 110;

/// All rows together are about so high, whatever their number …
const ROWS_HEIGHT: f64 = 3000.0;
/// … as long as one has this height; of more, several are drawn as one.
const ROW_LEAST: f64 = 1.5;
const ROW_MOST: f64 = 20.0;

/// Labels this far apart can be read.
const LABEL_DISTANCE: f64 = 15.0;

/// At most so many steps on the axis.
const STEPS: u64 = 6;

const KINDS: [(Cell, &str, &str); 3] = [
    (Cell::Used, "#2868b0", "data that the disk takes from here"),
    (Cell::Superseded, "#b8d0ea", "data that newer points have again"),
    (Cell::Zeros, "#d0d0d0", "zeros"),
];

/// One disk.
pub(super) struct Drawing {
    pub(super) disk: DiskTarget,
    pub(super) picture: Picture,
    /// When each row's point was taken.
    pub(super) taken: Vec<Option<String>>,
}

/// Draws disks under a title.
pub(super) fn svg(title: &str, drawings: &[Drawing]) -> String {
    let rows: usize = drawings.iter().map(|drawing| drawing.picture.rows.len()).sum();
    let height = (ROWS_HEIGHT / rows.max(1) as f64).min(ROW_MOST);
    let group = (ROW_LEAST / height).ceil().max(1.0) as usize;
    let mut canvas = Canvas { body: String::new(), y: MARGIN, row: height * group as f64, group };
    for line in wrapped(title) {
        canvas.line(MARGIN, &line, r#" font-weight="bold""#);
    }
    drawings.iter().for_each(|drawing| canvas.disk(drawing));
    canvas.legend();
    let height = canvas.y + MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" \
         height=\"{height:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{}</svg>\n",
        canvas.body
    )
}

struct Canvas {
    body: String,
    /// Where the next thing comes.
    y: f64,
    /// Height of a row.
    row: f64,
    /// So many points are one row.
    group: usize,
}

impl Canvas {
    fn label(&mut self, x: f64, y: f64, words: &str, more: &str) {
        let _ = writeln!(self.body, r#"<text x="{x:.1}" y="{y:.1}"{more}>{}</text>"#, escape(words));
    }

    fn line(&mut self, x: f64, words: &str, more: &str) {
        self.label(x, self.y + 13.0, words, more);
        self.y += LINE;
    }

    fn disk(&mut self, drawing: &Drawing) {
        let Picture { size, rows, .. } = &drawing.picture;
        self.y += LINE / 2.0;
        self.line(MARGIN, &format!("{}, {}", drawing.disk, text::size(*size)), r#" font-weight="bold""#);
        if self.group > 1 {
            self.line(MARGIN, &format!("Each row is {} points", self.group), "");
        }
        let (top, mut labelled) = (self.y, f64::NEG_INFINITY);
        let mut rows = rows.chunks(self.group).zip(drawing.taken.chunks(self.group)).peekable();
        while let Some((points, taken)) = rows.next() {
            let is_last = rows.peek().is_none();
            // The last one is the point that is drawn; one right before it gives way.
            if self.y - labelled >= LABEL_DISTANCE && (is_last || self.before_last(rows.len())) {
                labelled = self.y;
                let base = self.y + self.row / 2.0 + 4.0;
                let date = taken[0].as_deref().unwrap_or("").replace('T', " ");
                self.label(MARGIN, base, &points[0].point.to_string(), "");
                self.label(
                    LEFT - 8.0,
                    base,
                    date.get(..16).unwrap_or(&date),
                    r##" text-anchor="end" fill="#555""##,
                );
                let used = points.iter().map(|row| row.used_bytes).sum();
                self.label(LEFT + PARTS as f64 + 8.0, base, &text::size(used), r##" fill="#555""##);
            }
            let cells = points[1..].iter().fold(points[0].cells.clone(), |mut cells, row| {
                cells.iter_mut().zip(&row.cells).for_each(|(cell, other)| *cell = (*cell).max(*other));
                cells
            });
            self.bar(&cells);
            self.y += self.row;
        }
        self.axis(top, *size);
    }

    /// True when so many rows follow that the last one's label has room below this one's.
    fn before_last(&self, following: usize) -> bool {
        following as f64 * self.row >= LABEL_DISTANCE
    }

    fn bar(&mut self, cells: &[Cell]) {
        let gap = if self.row >= 8.0 { 4.0 } else { 0.0 };
        let (y, height) = (self.y + gap / 2.0, self.row - gap);
        let _ = writeln!(
            self.body,
            r##"<rect x="{LEFT}" y="{y:.1}" width="{PARTS}" height="{height:.1}" fill="#f4f4f4"/>"##
        );
        for (kind, fill, _) in KINDS {
            let (mut path, mut x) = (String::new(), 0);
            for run in cells.chunk_by(|one, other| one == other) {
                if run[0] == kind {
                    let (left, width) = (LEFT + x as f64, run.len());
                    let _ = write!(path, "M{left} {y:.1}h{width}v{height:.1}h-{width}z");
                }
                x += run.len();
            }
            if !path.is_empty() {
                let _ = writeln!(self.body, r#"<path fill="{fill}" d="{path}"/>"#);
            }
        }
    }

    fn axis(&mut self, top: f64, size: u64) {
        let bottom = self.y + 4.0;
        let _ = writeln!(self.body, r##"<path stroke="#777" fill="none" d="M{LEFT} {bottom:.1}h{PARTS}"/>"##);
        let step = size.div_ceil(STEPS).max(1).checked_next_power_of_two().unwrap_or(size.max(1));
        let mut at = 0;
        while at <= size {
            let x = LEFT + at as f64 / size.max(1) as f64 * PARTS as f64;
            let _ = writeln!(
                self.body,
                r##"<path stroke="#777" stroke-opacity="0.4" fill="none" d="M{x:.1} {top:.1}V{:.1}"/>"##,
                bottom + 4.0
            );
            let words = text::size(at).replacen(".00 ", " ", 1).replacen(".0 ", " ", 1);
            self.label(x, bottom + 18.0, &words, r#" text-anchor="middle""#);
            let Some(next) = at.checked_add(step) else { break };
            at = next;
        }
        self.y = bottom + 18.0 + LINE / 2.0;
    }

    fn legend(&mut self) {
        self.y += LINE / 2.0;
        for (_, fill, words) in KINDS {
            let y = self.y + 2.0;
            let _ =
                writeln!(self.body, r#"<rect x="{LEFT}" y="{y:.1}" width="14" height="12" fill="{fill}"/>"#);
            self.line(LEFT + 22.0, words, "");
        }
    }
}

/// A title in lines, cut at blanks and slashes where there are some.
fn wrapped(title: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for part in title.split_inclusive([' ', '/']) {
        let mut part: Vec<char> = part.chars().collect();
        loop {
            let line = lines.last_mut().map_or(0, |line| line.chars().count());
            if line + part.len() <= TITLE_LEN {
                break;
            }
            // One word that is longer than a line is cut anywhere.
            let cut = if line == 0 { TITLE_LEN } else { 0 };
            let rest = part.split_off(cut);
            push(&mut lines, part);
            lines.push(String::new());
            part = rest;
        }
        push(&mut lines, part);
    }
    lines
}

fn push(lines: &mut [String], part: Vec<char>) {
    if let Some(line) = lines.last_mut() {
        line.extend(part);
    }
}

/// As text of XML, which has no place for most control characters.
fn escape(text: &str) -> String {
    let visible: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    visible.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_titles_are_cut_where_a_person_would() {
        let long = format!("vm, /srv/{}/{}/chain at virtnbdbackup.3", "a".repeat(80), "b".repeat(150));
        let lines = wrapped(&long);
        assert_eq!(lines.concat(), long);
        assert!(lines.iter().all(|line| line.chars().count() <= TITLE_LEN), "{lines:?}");
        assert_eq!(lines[0], format!("vm, /srv/{}/", "a".repeat(80)));
    }
}
