//! Why a command did nothing, for a person and for a program.

use super::exit::Exit;
use super::output;
use serde_json::{Value, json};
use std::error::Error;
use vmstream::causes::causes_of;

/// An error with its causes, and how the program ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    message: String,
    because: Vec<String>,
    exit: Exit,
    /// A program knows of it: the result has it.
    told: bool,
}

impl Failure {
    /// What an error of the library says.
    pub(super) fn of(error: &dyn Error, exit: Exit) -> Self {
        let because = causes_of(error).map(ToString::to_string).collect();
        Self { message: error.to_string(), because, exit, told: false }
    }

    /// A wish that cannot be met.
    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self { message: message.into(), because: Vec::new(), exit: Exit::CannotTell, told: false }
    }

    /// The same, with what can be done about it.
    pub(super) fn or(mut self, way: &str) -> Self {
        self.message.push_str("; ");
        self.message.push_str(way);
        self
    }

    /// The same, where the result tells it already.
    pub(super) fn told(self) -> Self {
        Self { told: true, ..self }
    }

    /// Tells it to a person, and as JSON to a program that waits for a result. Returns how the program ends.
    pub(super) fn report(&self, json: bool) -> Exit {
        output::tell(&self.text());
        if json && !self.told {
            output::say_json(&self.json());
        }
        self.exit
    }

    fn text(&self) -> String {
        let mut text = format!("error: {}\n", self.message);
        self.because.iter().for_each(|cause| text.push_str(&format!("  because: {cause}\n")));
        text
    }

    /// It with its causes, on one line.
    pub(super) fn line(&self) -> String {
        self.because.iter().fold(self.message.clone(), |line, cause| line + ": " + cause)
    }

    /// For a program that reads results.
    pub(super) fn json(&self) -> Value {
        json!({
            "schema": "vmstream/error/1",
            "error": self.message,
            "because": self.because,
            "exit": self.exit as u8,
        })
    }
}
