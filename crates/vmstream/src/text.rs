//! Text for people: sizes, counts, tables, lines that fit a terminal. For both programs, so that they look alike.
//!
//! Must not live here: printing, and formats that other programs read.

/// Lines are no longer than this, where that can be had: also on a terminal that is wider, so that help and tables look
/// the same everywhere.
pub const WIDTH: usize = 80;

/// A size with three significant digits in IEC units.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 999.5 and more would print as four digits.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// `1 stream`, `2 streams`.
pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// The first of a list that may be long: `a, b, c and 4 more`.
pub fn few<T: ToString>(items: &[T], shown: usize) -> String {
    let first = items.iter().take(shown).map(T::to_string).collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(shown) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// Rows as columns of equal width, two blanks apart, without blanks at line ends.
pub fn aligned<R: AsRef<[String]>>(rows: &[R]) -> String {
    let columns = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.as_ref().get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &R| {
        let cells = row.as_ref().iter().zip(&widths);
        let cells: Vec<_> = cells.map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// The same below a line that says what it is: two blanks to the right.
pub fn table<R: AsRef<[String]>>(rows: &[R]) -> String {
    aligned(rows).lines().map(|line| format!("  {line}\n")).collect()
}

/// A table whose rows are printed as they come: the widths of its columns are settled before.
pub struct Columns(Vec<Option<usize>>);

impl Columns {
    /// Columns of these widths, without some of them, the first of `dispensable` first, as far as that is needed for
    /// lines of [`WIDTH`]. A cell that is wider than its column pushes the others to the right.
    pub fn new(widths: &[usize], dispensable: &[usize]) -> Self {
        let mut columns = Self(widths.iter().copied().map(Some).collect());
        for column in dispensable {
            if columns.0.iter().flatten().map(|width| width + 2).sum::<usize>() <= WIDTH {
                break;
            }
            columns.0[*column] = None;
        }
        columns
    }

    /// One row.
    pub fn row<T: AsRef<str>>(&self, cells: &[T]) -> String {
        let shown = cells.iter().zip(&self.0).filter_map(|(cell, width)| Some((cell.as_ref(), (*width)?)));
        let cells: Vec<_> = shown.map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("  {}\n", cells.join("  ").trim_end())
    }
}

/// The same with lines of [`WIDTH`] at most, where blanks allow that. What goes on stands two further to the right.
pub fn wrapped(text: &str) -> String {
    text.split_inclusive('\n')
        .map(|line| if fits(line) { line.to_owned() } else { wrapped_line(line) })
        .collect()
}

fn wrapped_line(line: &str) -> String {
    let (mut rest, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
    let indent = rest.len() - rest.trim_start_matches(' ').len();
    let (mut out, mut begin) = (String::new(), indent);
    loop {
        let room = rest.char_indices().nth(WIDTH - if out.is_empty() { 0 } else { begin }).map(|(at, _)| at);
        // The last blank before the edge, or the first after a word that is too long.
        let lead = if out.is_empty() { indent } else { 0 };
        let break_at = room.and_then(|room| {
            let before = rest[lead..=room].rfind(' ').filter(|at| *at > 0).map(|at| lead + at);
            before.or_else(|| rest[room..].find(' ').map(|at| room + at))
        });
        let (head, tail) = break_at.map_or((rest, ""), |at| rest.split_at(at));
        out.push_str(head.trim_end());
        rest = tail.trim_start();
        if rest.is_empty() {
            return out + end;
        }
        begin = indent + 2;
        out.push_str(&format!("\n{:begin$}", ""));
    }
}

/// True when no line is longer than [`WIDTH`].
pub fn fits(text: &str) -> bool {
    text.lines().all(|line| line.chars().count() <= WIDTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (10 << 10, "10.0 KiB"),
            (483_699, "472 KiB"),
            (1_023_500, "0.98 MiB"),
            (100_663_296, "96.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, want) in cases {
            assert_eq!(size(bytes), want, "{bytes}");
        }
    }

    #[test]
    fn long_lists_are_cut_short() {
        assert_eq!((few::<u8>(&[], 2), few(&[1, 2], 2)), (String::new(), "1, 2".to_owned()));
        assert_eq!(few(&["a", "b", "c", "d"], 3), "a, b, c and 1 more");
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "bb".to_owned()], vec!["ccc".to_owned(), "d".to_owned()]];
        assert_eq!(aligned(&rows), "a    bb\nccc  d\n");
        assert_eq!(table(&rows), "  a    bb\n  ccc  d\n");
        let columns = Columns::new(&[3, 70, 9], &[2, 1]);
        assert_eq!(columns.row(&["a", "long", "x"]), "  a    long\n");
        assert_eq!(Columns::new(&[2, 2], &[1]).row(&["abc", "d"]), "  abc  d\n");
    }

    #[test]
    fn long_lines_are_wrapped_at_blanks() {
        let word = "x".repeat(90);
        let cases = [
            ("short\n".to_owned(), "short\n".to_owned()),
            (format!("{} bb cc\n", "a".repeat(77)), format!("{} bb\n  cc\n", "a".repeat(77))),
            (format!("  p  {word} end"), format!("  p\n    {word}\n    end")),
            (format!("{word}\nb\n"), format!("{word}\nb\n")),
            (format!("{} b\n", "é".repeat(80)), format!("{}\n  b\n", "é".repeat(80))),
            (format!("  {} b\n", "é".repeat(76)), format!("  {} b\n", "é".repeat(76))),
        ];
        for (text, want) in cases {
            assert_eq!(wrapped(&text), want);
        }
        let long = wrapped(&"several words ".repeat(30));
        assert!(
            fits(&long)
                && long.lines().skip(1).all(|line| line.starts_with("  s") || line.starts_with("  w"))
        );
    }
}
