//! All that is printed with `--json`, held against `docs/schemas`.

use crate::golden::Golden;
use crate::program::VMSTREAM;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Reads lines `[what, schema file, document]`, prints a line for all that is wrong.
const VALIDATE: &str = r#"
import json, sys, jsonschema
for line in sys.stdin:
    what, file, document = json.loads(line)
    schema = json.load(open(file))
    jsonschema.Draft202012Validator.check_schema(schema)
    for error in jsonschema.Draft202012Validator(schema).iter_errors(document):
        print(what, list(error.absolute_path), error.message[:300])
"#;

fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schemas")
}

/// `vmstream/map/1` is in `vmstream-map-1.json`.
fn file_of(schema: &str) -> PathBuf {
    schemas().join(format!("{}.json", schema.replace('/', "-")))
}

fn said(dir: &Path, args: &[&str]) -> Value {
    let mut command = Command::new(VMSTREAM);
    let done = command.args(args).arg("--json").current_dir(dir).output().unwrap();
    serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}"))
}

/// What Debian's validator has against these.
fn complaints(documents: &[(String, Value)]) -> String {
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", VALIDATE]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn().unwrap();
    let mut lines = python.stdin.take().unwrap();
    for (what, document) in documents {
        let file = file_of(document["schema"].as_str().unwrap_or("none"));
        writeln!(lines, "{}", serde_json::json!([what, file, document])).unwrap();
    }
    drop(lines);
    let done = python.wait_with_output().unwrap();
    assert!(done.status.success(), "python3-jsonschema is there, and each schema is one");
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn all_json_is_as_its_schema_says() {
    let golden = Golden::extract();
    let flip = |path: PathBuf| {
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    let whole: [&[&str]; 14] = [
        &["info", "lz4/gold1/202611"],
        &["info", "lz4/gold1/202611/vda.full.data", "plain/chain/vdb.copy.data"],
        &["info", "."],
        &["verify", "lz4/gold1/202611", "--quick"],
        &["verify", "plain/copy", "--deep"],
        &["verify", "lz4/gold1/202611/vda.full.data"],
        &["verify", "plain/chain/vdb.copy.data"],
        &["doctor", "."],
        &["map", "lz4/gold1/202611"],
        &["extract", "lz4/gold1/202611", "--all", "out"],
        &["compare", "lz4/gold1/202611", "out/vda.raw", "--disk", "vda"],
        &["compare", "lz4/gold1/202611", "out/vdb.raw", "--disk", "vda"],
        &["convert", "lz4/gold1/202611", "--to", "zstd", "--compression", "zstd"],
        &["convert", "plain/chain", "--to", "new", "--squash"],
    ];
    let mut documents = Vec::new();
    for args in whole {
        documents.push((args.join(" "), said(golden.root(), args)));
    }
    flip(golden.lz4().join("vda.inc.virtnbdbackup.1.data"));
    std::fs::write(golden.lz4().join("vdb.inc.virtnbdbackup.2.data"), "none").unwrap();
    std::fs::remove_file(golden.lz4().join("vdb.inc.virtnbdbackup.3.data")).unwrap();
    let damaged: [&[&str]; 10] = [
        &["info", "lz4/gold1/202611"],
        &["info", "plain/copy", "nowhere"],
        &["verify", "."],
        &["verify", "lz4/gold1/202611", "--deep"],
        &["verify", "lz4/gold1/202611/vda.inc.virtnbdbackup.1.data", "plain/copy", "nowhere"],
        &["doctor", "lz4/gold1/202611", "plain/copy"],
        &["extract", "lz4/gold1/202611", "--all", "half", "--until", "1"],
        &["extract", "lz4/gold1/202611", "--disk", "vda", "-o", "no.raw"],
        &["verify", "nowhere"],
        &["map", "--frobnicate"],
    ];
    for args in damaged {
        documents.push((format!("damaged: {}", args.join(" ")), said(golden.root(), args)));
    }
    assert_eq!(complaints(&documents), "");
    // Each of them has its schema, and none is without an example.
    let seen: BTreeSet<_> =
        documents.iter().map(|(_, document)| file_of(document["schema"].as_str().unwrap())).collect();
    // Those of vmbackup have their own test.
    let is_ours = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("vmstream-");
    let there: BTreeSet<_> =
        std::fs::read_dir(schemas()).unwrap().map(|entry| entry.unwrap().path()).filter(is_ours).collect();
    assert_eq!(seen, there);
    // A validator that finds nothing would find this.
    let (_, document) = &mut documents[0];
    document["sets"][0]["more"] = Value::Null;
    assert!(complaints(&documents[..1]).contains("'more'"));
}

#[test]
fn one_set_and_a_tree_have_one_shape() {
    let golden = Golden::extract();
    for command in ["info", "verify", "doctor"] {
        let keys = |args: &[&str]| -> Vec<(String, Vec<String>)> {
            let document = said(golden.root(), &[&[command], args].concat());
            let own = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            vec![
                (document["schema"].to_string(), own(&document)),
                (String::new(), own(&document["sets"][0])),
                (String::new(), own(&document["totals"])),
            ]
        };
        let one = keys(&["lz4/gold1/202611"]);
        assert_eq!(one[0].0, format!("\"vmstream/{command}/1\""));
        assert_eq!(one, keys(&["."]), "{command}");
        assert_eq!(one, keys(&["plain/chain", "lz4"]), "{command}");
    }
}
