//! The word by which a person says what `--prune` is to remove: its forms, and nothing else.
//!
//! Must not live here: what it selects (`select`).

use vmplan::retention::PeriodId;

/// What a person wants removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nothing: show what there is.
    List,
    /// Every archived chain.
    Archives,
    /// The archived chains of one period.
    ArchivesOf(PeriodId),
    /// One archived chain.
    Chain(String),
    /// One period with its archives.
    Period(PeriodId),
    /// Everything of a VM.
    All,
}

/// A word that is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not one of the forms.
    #[error(
        "'{0}' is nothing that can be pruned: use list, archives, archives:PERIOD, chain:NAME, period:PERIOD or all"
    )]
    Unknown(String),
    /// Not the form of a period.
    #[error(
        "'{0}' is no period: those are called 20261122, 2026-W47, 202611 or accumulate; see --prune list"
    )]
    Period(String),
    /// Not the form of an archived chain.
    #[error("'{0}' is no archived chain: those are called chain-2026-11-22; see --prune list --vm NAME")]
    Chain(String),
}

impl Target {
    /// Reads a target.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let period = |name: &str| PeriodId::parse(name).ok_or_else(|| TargetError::Period(name.to_owned()));
        match text.split_once(':') {
            None if text == "list" => Ok(Self::List),
            None if text == "archives" => Ok(Self::Archives),
            None if text == "all" => Ok(Self::All),
            Some(("archives", name)) => period(name).map(Self::ArchivesOf),
            Some(("period", name)) => period(name).map(Self::Period),
            Some(("chain", name)) => {
                let rest = name.strip_prefix("chain-").unwrap_or_default();
                let is_chain = !rest.is_empty() && !rest.contains(|c: char| c == '/' || c.is_control());
                if is_chain {
                    Ok(Self::Chain(name.to_owned()))
                } else {
                    Err(TargetError::Chain(name.to_owned()))
                }
            }
            _ => Err(TargetError::Unknown(text.to_owned())),
        }
    }

    /// True when it must be said of which VM.
    pub fn needs_vm(&self) -> bool {
        !matches!(self, Self::List | Self::Archives)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_six_forms_and_nothing_else() {
        let period = PeriodId::parse("202611").unwrap();
        let cases = [
            ("list", Target::List),
            ("archives", Target::Archives),
            ("all", Target::All),
            ("archives:202611", Target::ArchivesOf(period.clone())),
            ("period:202611", Target::Period(period)),
            ("period:accumulate", Target::Period(PeriodId::accumulate())),
            ("chain:chain-2026-10-05.1", Target::Chain("chain-2026-10-05.1".into())),
        ];
        for (text, want) in cases {
            assert_eq!(Target::parse(text), Ok(want), "{text}");
        }
        let refused = [
            "",
            "lists",
            "all:",
            "list:202611",
            "period:",
            "period:../other/202601",
            "period:202611/",
            "period:config",
            "archives:",
            "archives:..",
            "chain:",
            "chain:..",
            "chain:chain-",
            "chain:chain-2026/../..",
            "chain:.archives",
            "chain:chain-a\nb",
        ];
        for text in refused {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }
}
