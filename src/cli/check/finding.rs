//! One thing that `--check` looked at: how bad it is, and what to do.

use serde::Serialize;
use vmreport::Exit;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Grade {
    Good,
    Look,
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    pub(super) grade: Grade,
    pub(super) about: &'static str,
    pub(super) said: String,
    /// More lines, one thing each.
    pub(super) details: Vec<String>,
    pub(super) fix: Option<String>,
    #[serde(skip)]
    pub(super) exit: Exit,
}

impl Finding {
    pub(super) fn good(about: &'static str, said: String) -> Self {
        Self { grade: Grade::Good, about, said, details: vec![], fix: None, exit: Exit::Ok }
    }

    pub(super) fn look(about: &'static str, said: String, fix: String) -> Self {
        Self { grade: Grade::Look, about, said, details: vec![], fix: Some(fix), exit: Exit::Ok }
    }

    pub(super) fn bad(about: &'static str, exit: Exit, said: String, fix: Option<String>) -> Self {
        Self { grade: Grade::Bad, about, said, details: vec![], fix, exit }
    }
}
