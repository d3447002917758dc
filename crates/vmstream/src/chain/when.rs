//! When a point was taken: local time without a zone, as its streams say, so that text sorts as time.

use super::point::{Point, PointDisk};

impl Point {
    /// When it was taken, as its streams say, or what says that it has none: `2026-11-22T20:03:59`. `None` where nothing but
    /// the times of its files tells.
    pub fn taken(&self) -> Option<&str> {
        if let Some(definition) = &self.definition {
            return definition.taken.split('.').next();
        }
        self.disks.values().find_map(|content| match content {
            PointDisk::Stream(entry) => {
                let date = &entry.meta.as_ref().ok()?.date;
                date.split('.').next().filter(|date| !date.is_empty())
            }
            PointDisk::Raw(_) => None,
        })
    }
}

/// A moment to the second.
pub fn seconds(date: &str) -> &str {
    date.get(..19).unwrap_or(date)
}

/// The last second of a day, a minute or a second: `2026-11-22`, `2026-11-22 20:03`, `2026-11-22T20:03:07`.
pub fn last_second(text: &str) -> Option<String> {
    const SHAPE: &str = "dddd-dd-dd dd:dd:dd";
    let fits = text.bytes().zip(SHAPE.bytes()).all(|(byte, shape)| match shape {
        b'd' => byte.is_ascii_digit(),
        b' ' => byte == b' ' || byte == b'T',
        _ => byte == shape,
    });
    let rest = match text.len() {
        10 => "T23:59:59",
        16 => ":59",
        19 => "",
        _ => return None,
    };
    fits.then(|| format!("{}{rest}", text.replace(' ', "T")))
}
