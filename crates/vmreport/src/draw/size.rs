//! Sizes as the frame in the log has them. Those of tables and messages are [`vmstream::text::size`].

/// `5B`, `1.2GiB`: below ten with one decimal, and never less than it is.
///
/// Source: numfmt(1) with `--to=iec-i --suffix=B`, which rounds away from zero.
pub(super) fn iec(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let (mut unit, mut size) = (1_usize, 1024_u128);
    loop {
        let tenths = (u128::from(bytes) * 10).div_ceil(size);
        let whole = u128::from(bytes).div_ceil(size);
        if tenths < 100 {
            return format!("{}.{}{}B", tenths / 10, tenths % 10, UNITS[unit]);
        }
        if whole < 1024 || unit + 1 == UNITS.len() {
            return format!("{whole}{}B", UNITS[unit]);
        }
        (unit, size) = (unit + 1, size << 10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What numfmt(1) of coreutils says.
    fn numfmt(bytes: u64) -> String {
        let number = bytes.to_string();
        let arguments = ["--to=iec-i", "--suffix=B", number.as_str()];
        let output =
            std::process::Command::new("numfmt").args(arguments).env("LC_ALL", "C").output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn sizes_are_those_of_numfmt() {
        let mut sizes =
            vec![0, 5, 1023, 1024, 1025, 10239, 10240, 10241, 102_400, 1_048_575, 1_048_576, 1_048_577];
        sizes.extend([(1 << 30) - 1, 1 << 30, 5 << 30, 1_288_490_188, 1 << 40, 123_456_789_012_345]);
        sizes.extend((1..200).map(|n: u64| n * n * n * n * 7_919));
        for bytes in sizes {
            assert_eq!(iec(bytes), numfmt(bytes), "{bytes}");
        }
    }
}
