//! JSON that a program prints, held against its schema in `docs/schemas`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Reads a document, prints a line for all that is wrong.
const VALIDATE: &str = "
import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
for error in jsonschema.Draft202012Validator(schema).iter_errors(json.load(sys.stdin)):
    print(list(error.absolute_path), error.message[:300])
";

/// What Debian's validator has against a document: nothing when it is as `docs/schemas/SCHEMA.json` says.
pub fn complaints(schema: &str, document: &Value) -> String {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schemas").join(format!("{schema}.json"));
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", VALIDATE]).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn().expect("python3");
    let mut document_in = python.stdin.take().expect("a pipe");
    document_in.write_all(document.to_string().as_bytes()).expect("it reads");
    drop(document_in);
    let done = python.wait_with_output().expect("it ends");
    assert!(done.status.success(), "python3-jsonschema is there, and the schema is one");
    String::from_utf8(done.stdout).expect("text")
}

/// The one value that vmbackup has printed, which is as its schema says and tells how the program ended. It is this one.
#[track_caller]
pub fn answer(name: &str, output: &Output) -> Value {
    answer_of("vmbackup", name, output)
}

/// The same of another program with such values.
#[track_caller]
pub fn answer_of(program: &str, name: &str, output: &Output) -> Value {
    let said = crate::text(output);
    let value: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(value["schema"], format!("{program}/{name}/1"), "{said}");
    assert_eq!(complaints(&format!("{program}-{name}-1"), &value), "", "{value:#}");
    assert_eq!(value["exit_code"].as_i64(), output.status.code().map(i64::from), "{said}");
    value
}
