//! Doors for tests: variables that let a run die at a place, or begin at another time.
//!
//! Lives here: both variables, and the refusal of them by a program without the feature `test-doors`: whoever may set a
//! variable must not be able to end a run in the middle, or to date it. Packages never enable it.
//! Must not live here: what is behind the doors (`engine::fail_point`, `clock`).

use std::collections::BTreeMap;

use super::failed::Failed;
use crate::clock::Clock;
use crate::engine::fail_point::FailPoints;
use vmreport::Exit;

/// Names a place to die at, or to wait at: see [`FailPoints::parse`].
const FAIL_POINT: &str = "VMBACKUP_FAIL_POINT";

/// Says at what time the program begins, in UTC: `2027-03-28T00:30:00Z`. What is written then has that date.
const NOW: &str = "VMBACKUP_TEST_NOW";

/// Whether this program was built with doors.
pub(super) const BUILT_IN: bool = cfg!(feature = "test-doors");

/// What the variables ask for: without them nothing, and the system's clock.
#[derive(Debug, Default)]
pub(super) struct Doors {
    pub(super) fail_points: FailPoints,
    pub(super) clock: Clock,
}

impl Doors {
    /// Reads the variables.
    ///
    /// # Errors
    /// One is set that the program was built without, or that cannot be read: [`Exit::Usage`].
    pub(super) fn of(environment: &BTreeMap<String, String>, are_built_in: bool) -> Result<Self, Failed> {
        let refused = |name: &str| {
            let text = format!(
                "{name} is set, which only a program that was built for tests knows (make build FEATURES=test-doors). Unset it"
            );
            Err(Failed::new(Exit::Usage, text).fix(format!("unset {name}")))
        };
        let mut doors = Self::default();
        if let Some(text) = environment.get(FAIL_POINT) {
            if !are_built_in {
                return refused(FAIL_POINT);
            }
            let unknown = || Failed::new(Exit::Usage, format!("{FAIL_POINT}={text} names no fail point"));
            doors.fail_points = FailPoints::parse(text).ok_or_else(unknown)?;
        }
        if let Some(text) = environment.get(NOW) {
            if !are_built_in {
                return refused(NOW);
            }
            let moment = text
                .parse()
                .map_err(|e| Failed::new(Exit::Usage, format!("{NOW}={text} is no time: {e}")))?;
            doors.clock = Clock::from(moment);
        }
        Ok(doors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doors(variables: &[(&str, &str)], are_built_in: bool) -> Result<Doors, Failed> {
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Doors::of(&environment.collect(), are_built_in)
    }

    #[test]
    fn a_program_without_doors_refuses_what_would_open_one() {
        let now = "2027-03-28T00:30:00Z";
        for (name, value) in [(FAIL_POINT, "copying"), (NOW, now), (FAIL_POINT, ""), (NOW, "")] {
            let Failed { exit, said, .. } = doors(&[("PATH", "/bin"), (name, value)], false).unwrap_err();
            assert_eq!(exit.code(), 7);
            assert!(said.starts_with(&format!("{name} is set")) && said.contains("test-doors"), "{said}");
        }
        assert!(doors(&[("PATH", "/bin"), ("VMBACKUP_OTHER", "1")], false).is_ok());
    }

    #[test]
    fn a_program_for_tests_reads_them() {
        let now = "2031-01-01T00:00:00Z";
        let opened = doors(&[(FAIL_POINT, "copying=/tmp/hold"), (NOW, now)], true).unwrap();
        assert!(format!("{:?}", opened.fail_points).contains("Copying"), "{opened:?}");
        assert!(opened.clock.now() >= now.parse().unwrap());
        for (name, value) in [(FAIL_POINT, "nowhere"), (NOW, "tomorrow")] {
            assert_eq!(doors(&[(name, value)], true).unwrap_err().exit.code(), 7, "{name}");
        }
    }
}
