//! What undoing came to.

/// What was undone, in words for the log, and what could not be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    pub done: Vec<String>,
    /// What could not be done; the journal must stay.
    pub failed: Vec<String>,
    /// The dead run had got so far that its point exists.
    pub committed: bool,
    /// The guest was frozen by the run, and does not confirm that it is thawed.
    pub still_frozen: bool,
    /// The guest was seen to be held by the run, and then to be free.
    pub freed: bool,
    /// The run had started the domain, and somebody has resumed it since: it goes on.
    pub resumed: bool,
}

impl Recovered {
    pub(super) fn note<E: std::fmt::Display>(&mut self, what: String, result: Result<bool, E>) {
        match result {
            Ok(true) => self.done.push(what),
            Ok(false) => {}
            Err(e) => self.failed.push(format!("{what}: {e}")),
        }
    }
}
