//! Sizes as `du -h` prints them: rounded up, with one digit behind the point below ten.

pub(super) fn du(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    if bytes == 0 {
        return "0".to_owned();
    }
    if bytes < 1024 {
        return bytes.to_string();
    }
    let mut unit = 0;
    let mut in_unit = 1024_u128;
    let bytes = u128::from(bytes);
    loop {
        let tenths = (bytes * 10).div_ceil(in_unit);
        let whole = bytes.div_ceil(in_unit);
        let last = unit + 1 == UNITS.len();
        if tenths < 100 {
            return format!("{}.{}{}", tenths / 10, tenths % 10, UNITS[unit]);
        }
        if whole < 1024 || last {
            return format!("{whole}{}", UNITS[unit]);
        }
        unit += 1;
        in_unit *= 1024;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_du() {
        let cases = [
            (0, "0"),
            (512, "512"),
            (4096, "4.0K"),
            (1025, "1.1K"),
            (10 << 10, "10K"),
            ((10 << 10) + 1, "11K"),
            ((1 << 20) - 1, "1.0M"),
            (5 << 30, "5.0G"),
            (u64::MAX, "16E"),
        ];
        for (bytes, want) in cases {
            assert_eq!(du(bytes), want, "{bytes}");
        }
    }
}
