//! Sizes and tables for people.

/// Lines are no longer than this, where that can be had: also on a terminal that is wider, so that help and tables look
/// the same everywhere.
pub(crate) const WIDTH: usize = 80;

/// A size with three significant digits in IEC units.
pub(crate) fn size(bytes: u64) -> String {
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
pub(crate) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Rows as columns of equal width, two blanks apart, without blanks at line ends.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("  {}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// A table whose rows are printed as they come: the widths of its columns are settled before.
pub(crate) struct Columns(Vec<Option<usize>>);

impl Columns {
    /// Columns of these widths, without some of them, the first of `dispensable` first, as far as that is needed for
    /// lines of [`WIDTH`]. A cell that is wider than its column pushes the others to the right.
    pub(crate) fn new(widths: &[usize], dispensable: &[usize]) -> Self {
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
    pub(crate) fn row<T: AsRef<str>>(&self, cells: &[T]) -> String {
        let shown = cells.iter().zip(&self.0).filter_map(|(cell, width)| Some((cell.as_ref(), (*width)?)));
        let cells: Vec<_> = shown.map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("  {}\n", cells.join("  ").trim_end())
    }
}

/// The same with lines of [`WIDTH`] at most, where blanks allow that. What goes on stands two further to the right.
pub(crate) fn wrapped(text: &str) -> String {
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
pub(crate) fn fits(text: &str) -> bool {
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
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "bb".to_owned()], vec!["ccc".to_owned(), "d".to_owned()]];
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
