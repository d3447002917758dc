//! Why a call ended badly.

use vmreport::Exit;
use vmstream::causes::with_causes;

use super::asked::UsageError;
use crate::resolve::ResolveError;

/// Why what was asked for was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// How the program ends.
    pub(super) exit: Exit,
    /// For people: what happened to what, why, and what to do. Stands behind `Error: `.
    pub(super) said: String,
    /// What of that is to be done, where it can be told apart.
    pub(super) fix: Option<String>,
}

impl Failed {
    pub(super) fn new(exit: Exit, said: impl Into<String>) -> Self {
        Self { exit, said: said.into(), fix: None }
    }
}

impl From<UsageError> for Failed {
    fn from(error: UsageError) -> Self {
        let fix = error.0.split_once('\n').map(|(_, fix)| fix.to_owned());
        Self { fix, ..Self::new(Exit::Usage, error.0) }
    }
}

impl From<ResolveError> for Failed {
    fn from(error: ResolveError) -> Self {
        Self::new(error.exit(), with_causes(&error))
    }
}
