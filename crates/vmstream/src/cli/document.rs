//! A JSON document that is written as its parts come, so that a long one takes no memory.

use super::output::Out;
use serde_json::Value;

/// An object or a list whose closing bracket is still to come.
pub(super) struct Node<'a> {
    out: &'a mut Out,
    depth: usize,
    empty: bool,
    closing: &'static str,
}

impl<'a> Node<'a> {
    /// A document that says which one it is.
    pub(super) fn document(out: &'a mut Out, schema: &str) -> Self {
        out.say("{");
        let mut this = Self { out, depth: 1, empty: true, closing: "}\n" };
        this.member("schema", &schema.into());
        this
    }

    /// A member of an object.
    pub(super) fn member(&mut self, key: &str, value: &Value) {
        let value = self.indented(value);
        self.begin();
        self.out.say(&format!("{}: {value}", Value::from(key)));
    }

    /// All members of a JSON object.
    pub(super) fn members(&mut self, object: Value) {
        if let Value::Object(members) = object {
            members.iter().for_each(|(key, value)| self.member(key, value));
        }
    }

    /// A member of an object that is a list.
    pub(super) fn list(&mut self, key: &str) -> Node<'_> {
        self.begin();
        self.out.say(&format!("{}: [", Value::from(key)));
        Node { depth: self.depth + 1, out: self.out, empty: true, closing: "]" }
    }

    /// The next of a list, on one line.
    pub(super) fn short_item(&mut self, value: &Value) {
        self.begin();
        self.out.say(&value.to_string());
    }

    /// The next of a list, and all that was told so far is on its way.
    pub(super) fn item(&mut self, value: &Value) {
        let value = self.indented(value);
        self.begin();
        self.out.say(&value);
        self.out.flush();
    }

    /// The next of a list, an object.
    pub(super) fn object(&mut self) -> Node<'_> {
        self.begin();
        self.out.say("{");
        Node { depth: self.depth + 1, out: self.out, empty: true, closing: "}" }
    }

    pub(super) fn close(self) {
        if !self.empty {
            self.out.say(&format!("\n{}", "  ".repeat(self.depth - 1)));
        }
        self.out.say(self.closing);
    }

    fn begin(&mut self) {
        let before = if self.empty { "\n" } else { ",\n" };
        self.out.say(&format!("{before}{}", "  ".repeat(self.depth)));
        self.empty = false;
    }

    fn indented(&self, value: &Value) -> String {
        // Inside a string a line's end is `\n`.
        format!("{value:#}").replace('\n', &format!("\n{}", "  ".repeat(self.depth)))
    }
}
