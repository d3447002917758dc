//! One call of the program: what is known of it, its log, and the one value on standard output that `--json` asks for.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use vmreport::{Document, Exit, Refusal};

use super::failed::Failed;
use super::log::Log;
use super::say::{complain, tell, tell_beside, warn};

/// The schema of an answer that says why there is no other.
const ERROR: &str = "vmrestore/error/1";

/// A call, from its first moment. What becomes known of it is noted here, so that an error has it too.
pub(super) struct Call {
    json: bool,
    began: Timestamp,
    instance: OnceCell<String>,
    log: OnceCell<Log>,
    /// Those that no log has.
    warnings: RefCell<Vec<String>>,
}

impl Call {
    /// `json` is whether one value is asked for, in the words as they were typed: they may make no sense otherwise.
    pub(super) fn begin(json: bool) -> Self {
        let (instance, log) = (OnceCell::new(), OnceCell::new());
        Self { json, began: Timestamp::now(), instance, log, warnings: RefCell::default() }
    }

    /// Which configuration it read.
    pub(super) fn of_instance(&self, name: &str) {
        self.instance.get_or_init(|| name.to_owned());
    }

    /// It writes to a log, called after `label`, which begins with these lines.
    pub(super) fn logs(&self, label: &str, environment: &BTreeMap<String, String>, mut head: Vec<String>) {
        let log = self.log.get_or_init(|| Log::open(label, environment, tell_beside));
        head.extend(log.path().map(|path| format!("Log File:     {}", path.display())));
        log.block(&head);
        log.info("main", &format!("====== vmrestore v{} ======", env!("CARGO_PKG_VERSION")));
    }

    /// Its last lines in the log.
    pub(super) fn end(&self, exit: Exit) {
        let Some(log) = self.log.get() else { return };
        let seconds = Timestamp::now().as_second().saturating_sub(self.began.as_second());
        let (took, code) = (format!("{}m {}s", seconds / 60, seconds % 60), exit.code());
        log.block(&[format!("Duration:     {took}"), format!("Exit Status:  {code}")]);
        if let Some(path) = log.path() {
            log.info("main", &format!("Duration: {took} — exit {code} — log: {}", path.display()));
        }
    }

    /// Whether one value is asked for.
    pub(super) fn answers(&self) -> bool {
        self.json
    }

    /// Says what goes on, in the log.
    pub(super) fn info(&self, function: &str, text: &str) {
        self.log.get().iter().for_each(|log| log.info(function, text));
    }

    /// Says what deserves a look. It stands in the answer too.
    pub(super) fn warn(&self, function: &str, text: &str) {
        match self.log.get() {
            Some(log) => log.warn(function, text),
            None => {
                warn(text);
                self.warnings.borrow_mut().push(text.to_owned());
            }
        }
    }

    /// Says what is not as it has to be.
    pub(super) fn error(&self, function: &str, text: &str) {
        match self.log.get() {
            Some(log) => log.error(function, text),
            None => complain(text),
        }
    }

    /// Prints the result as the one value on standard output, where it is asked for.
    pub(super) fn answer_if_asked<T: Serialize>(
        &self,
        schema: &'static str,
        exit: Exit,
        content: impl FnOnce() -> T,
    ) {
        if self.json {
            self.answer(schema, exit, &content());
        }
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
        let Failed { exit, said, fix } = failed;
        self.error("main", said);
        self.answer_if_asked(ERROR, *exit, || Refusal {
            code: exit.word(),
            message: said.clone(),
            fix: fix.clone(),
        });
    }

    fn report(&self, exit: Exit) -> vmreport::Call {
        let log = self.log.get();
        vmreport::Call {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.instance.get().cloned(),
            began: self.began,
            ended: Timestamp::now(),
            exit_code: exit.code(),
            session_id: None,
            log_file: log.and_then(|log| log.path()).map(ToOwned::to_owned),
            warnings: self
                .warnings
                .borrow()
                .iter()
                .cloned()
                .chain(log.into_iter().flat_map(Log::warnings))
                .collect(),
        }
    }
}
