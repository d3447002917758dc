//! One call of the program: what is known of it, and the one value on standard output that `--json` asks for.
//!
//! Must not live here: what was asked for (each mode).

use std::cell::{Cell, OnceCell};
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use super::failed::{Failed, Known};
use super::say::{complain, tell};
use crate::catalog::SessionId;
use crate::clock::Clock;
use crate::log;
use vmreport::{Document, Exit, Refusal};

/// A call, from its first moment. What becomes known of it is noted here, so that an error has it too.
pub(super) struct Call {
    json: bool,
    clock: Clock,
    began: Timestamp,
    instance: OnceCell<String>,
    session: Cell<Option<SessionId>>,
    log_file: OnceCell<PathBuf>,
}

impl Call {
    /// `json` is whether one value is asked for, in the words as they were typed: they may make no sense otherwise.
    pub(super) fn begin(json: bool, clock: Clock) -> Self {
        let (instance, log_file) = (OnceCell::new(), OnceCell::new());
        Self { json, clock, began: clock.now(), instance, session: Cell::new(None), log_file }
    }

    /// Which configuration it is about.
    pub(super) fn of_instance(&self, name: &str) {
        self.instance.get_or_init(|| name.to_owned());
    }

    /// It is a session.
    pub(super) fn of_session(&self, id: Option<SessionId>) {
        self.session.set(id);
    }

    /// It writes to this log.
    pub(super) fn logs_to(&self, file: PathBuf) {
        self.log_file.get_or_init(|| file);
    }

    /// Prints the result as the one value on standard output.
    pub(super) fn answer(&self, schema: &'static str, exit: Exit, content: &impl Serialize) {
        let document = Document { schema, call: self.report(exit), content };
        match serde_json::to_string_pretty(&document) {
            Ok(text) => tell(&format!("{text}\n")),
            Err(error) => complain(&format!("The result cannot be written as JSON: {error}")),
        }
    }

    /// Says why what was asked for was not done: to a person, and as a value where one is waited for.
    pub(super) fn fail(&self, failed: &Failed) {
        let Failed { exit, said, fix, known } = failed;
        if *known == Known::AsResult && !self.json {
            return tell(&format!("Error: {said}\n"));
        }
        if *known == Known::Nowhere {
            tracing::error!(file_only = true, "{said}");
        }
        complain(said);
        if self.json {
            let refusal = Refusal { code: exit.word(), message: said.clone(), fix: fix.clone() };
            self.answer(Refusal::SCHEMA, *exit, &refusal);
        }
    }

    fn report(&self, exit: Exit) -> vmreport::Call {
        vmreport::Call {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.instance.get().cloned(),
            began: self.began,
            ended: self.clock.now(),
            exit_code: exit.code(),
            session_id: self.session.get().map(|id| id.0),
            log_file: self.log_file.get().cloned(),
            warnings: log::warnings(),
        }
    }
}
