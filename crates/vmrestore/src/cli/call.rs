//! One call of the program: what is known of it, and the one value on standard output that `--json` asks for.

use std::cell::{OnceCell, RefCell};
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;
use vmreport::{Document, Exit, Refusal};

use super::failed::Failed;
use super::say::{complain, tell, warn};

/// The schema of an answer that says why there is no other.
const ERROR: &str = "vmrestore/error/1";

/// A call, from its first moment. What becomes known of it is noted here, so that an error has it too.
pub(super) struct Call {
    json: bool,
    began: Timestamp,
    instance: OnceCell<String>,
    log_file: OnceCell<PathBuf>,
    warnings: RefCell<Vec<String>>,
}

impl Call {
    /// `json` is whether one value is asked for, in the words as they were typed: they may make no sense otherwise.
    pub(super) fn begin(json: bool) -> Self {
        let (instance, log_file) = (OnceCell::new(), OnceCell::new());
        Self { json, began: Timestamp::now(), instance, log_file, warnings: RefCell::default() }
    }

    /// Which configuration it read.
    pub(super) fn of_instance(&self, name: &str) {
        self.instance.get_or_init(|| name.to_owned());
    }

    /// Says what deserves a look. It stands in the answer too.
    pub(super) fn warn(&self, text: &str) {
        warn(text);
        self.warnings.borrow_mut().push(text.to_owned());
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
        complain(&failed.said);
        if self.json {
            let Failed { exit, said, fix } = failed;
            let refusal = Refusal { code: exit.word(), message: said.clone(), fix: fix.clone() };
            self.answer(ERROR, *exit, &refusal);
        }
    }

    fn report(&self, exit: Exit) -> vmreport::Call {
        vmreport::Call {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.instance.get().cloned(),
            began: self.began,
            ended: Timestamp::now(),
            exit_code: exit.code(),
            session_id: None,
            log_file: self.log_file.get().cloned(),
            warnings: self.warnings.borrow().clone(),
        }
    }
}
