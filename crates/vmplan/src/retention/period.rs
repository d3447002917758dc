//! The name of a period, and which rotation it belongs to.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::RotationPolicy;

/// Which rotation writes periods of this form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PeriodKind {
    Daily,
    /// `2026-W06`
    Weekly,
    Monthly,
    /// No folder: the chain stands in the VM's folder itself.
    Accumulate,
}

/// A period of one VM. Its text is one plain path component, never `.` or `..`.
///
/// Only the form is checked: what day it stands for, the data inside says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeriodId {
    text: Box<str>,
    kind: PeriodKind,
}

impl PeriodId {
    /// The period that a folder holds, by the folder's name. `None` for other folders.
    pub fn of_folder(name: &str) -> Option<Self> {
        let digits = |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
        let kind = match name.split_once("-W") {
            Some((year, week)) if digits(year, 4) && digits(week, 2) => PeriodKind::Weekly,
            None if digits(name, 8) => PeriodKind::Daily,
            None if digits(name, 6) => PeriodKind::Monthly,
            _ => return None,
        };
        Some(Self { text: name.into(), kind })
    }

    /// The period of a chain that accumulates.
    pub fn accumulate() -> Self {
        Self { text: "accumulate".into(), kind: PeriodKind::Accumulate }
    }

    /// A period as people name it: a folder's name, or `accumulate`.
    pub fn parse(text: &str) -> Option<Self> {
        let accumulate = Self::accumulate();
        if text == &*accumulate.text { Some(accumulate) } else { Self::of_folder(text) }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Which rotation writes it.
    pub fn kind(&self) -> PeriodKind {
        self.kind
    }

    /// The folder below the VM's folder; `None` when it is the VM's folder itself.
    pub fn folder(&self) -> Option<&str> {
        (self.kind != PeriodKind::Accumulate).then_some(&*self.text)
    }
}

impl PeriodKind {
    /// The rotation that writes such periods.
    pub fn policy(self) -> RotationPolicy {
        match self {
            Self::Daily => RotationPolicy::Daily,
            Self::Weekly => RotationPolicy::Weekly,
            Self::Monthly => RotationPolicy::Monthly,
            Self::Accumulate => RotationPolicy::Accumulate,
        }
    }
}

impl fmt::Display for PeriodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl Serialize for PeriodId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for PeriodId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("{text} is no period")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_four_forms_are_periods() {
        let cases = [
            ("20260206", PeriodKind::Daily),
            ("2026-W06", PeriodKind::Weekly),
            ("202602", PeriodKind::Monthly),
            ("accumulate", PeriodKind::Accumulate),
        ];
        for (text, kind) in cases {
            let period = PeriodId::parse(text).unwrap();
            assert_eq!((period.kind(), period.as_str()), (kind, text));
        }
        let others = [
            "",
            ".",
            "..",
            "../202602",
            "202602/",
            "2026-w06",
            "2026-W6",
            "2026-W006",
            "2026021",
            "٢٠٢٦٠٢",
            "config",
        ];
        for text in others {
            assert_eq!(PeriodId::parse(text), None, "{text}");
        }
        assert_eq!(PeriodId::of_folder("accumulate"), None, "a folder of that name is no period");
    }
}
