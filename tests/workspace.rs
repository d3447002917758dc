//! What the workspace promises of itself: which crate may use which, what each is built of, where `unsafe` may stand.
//!
//! The rules are held against what cargo says of the lock file. Each has a test with a made-up answer that breaks it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

/// From the ground up: a crate uses those before it, and none behind it.
const FLOORS: [&str; 10] = [
    "libnbd-sys",
    "vmstream",
    "vmplan",
    "vmreport",
    "vmprogram",
    "vmstore",
    "vmconfig",
    "vmhost",
    "vmrestore",
    "vmbackup",
];

/// Used by tests alone.
const OF_TESTS: [&str; 3] = ["lab", "random", "fuzz-bodies"];

/// The crates that may say `unsafe`: what calls C.
const UNSAFE: [&str; 2] = ["libnbd-sys", "vmhost"];

/// What the format tool must never need, whatever it uses: it is there for the day when the host is gone.
const NOT_IN_VMSTREAM: [&str; 9] = [
    "libnbd-sys",
    "virt",
    "virt-sys",
    "rusqlite",
    "libsqlite3-sys",
    "tokio",
    "async-std",
    "smol",
    "async-executor",
];

/// The Rust that must be able to build everything.
const RUST: (u64, u64) = (1, 85);

/// Names in a tree of backups, and the one file that spells each. Whoever needs one takes it from there.
const NAMES_OF_THE_TREE: [(&str, &str); 5] = [
    ("_state", "crates/vmstream/src/chain/folders.rs"),
    ("__HOST_CONFIG__", "crates/vmstream/src/chain/folders.rs"),
    (".archives", "crates/vmstream/src/chain/folders.rs"),
    (".partial", "crates/vmstream/src/durable/replace.rs"),
    (".deleting-", "crates/vmstore/src/layout.rs"),
];

/// The answer of `cargo metadata`, as far as it is of interest.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    license: Option<String>,
    rust_version: Option<String>,
    targets: Vec<Target>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
    src_path: String,
}

/// A line of a manifest. `kind` is null, `dev` or `build`.
#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

impl Metadata {
    /// For this machine's kind alone: of other kinds cargo may have nothing here.
    fn of_workspace() -> Self {
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--locked", "--format-version", "1", "--filter-platform", &platform])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("metadata")
    }

    fn made_up(text: &str) -> Self {
        serde_json::from_str(text).expect("metadata")
    }

    fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }

    /// Arrows between the crates of the workspace that run up, or to what is there for tests.
    fn arrows_up(&self) -> Vec<String> {
        let floor = |name: &str| FLOORS.iter().position(|it| *it == name);
        let mut wrong = Vec::new();
        for member in self.members().filter(|member| !OF_TESTS.contains(&member.name.as_str())) {
            let Some(own) = floor(&member.name) else {
                wrong.push(format!("{} has no floor", member.name));
                continue;
            };
            let uses = member.dependencies.iter().filter(|it| it.kind.as_deref() != Some("dev"));
            let up = uses.filter(|it| {
                floor(&it.name).is_some_and(|floor| floor >= own) || OF_TESTS.contains(&it.name.as_str())
            });
            wrong.extend(up.map(|it| format!("{} -> {}", member.name, it.name)));
        }
        wrong
    }

    /// The names of everything that a package is built of, however deep.
    fn built_of(&self, name: &str) -> BTreeSet<&str> {
        let names: BTreeMap<&str, &str> =
            self.packages.iter().map(|package| (package.id.as_str(), package.name.as_str())).collect();
        let uses: BTreeMap<&str, Vec<&str>> = self
            .resolve
            .nodes
            .iter()
            .map(|node| {
                let built =
                    |edge: &&Edge| edge.dep_kinds.iter().any(|kind| kind.kind.as_deref() != Some("dev"));
                let packages = node.deps.iter().filter(built).map(|edge| edge.pkg.as_str());
                (node.id.as_str(), packages.collect())
            })
            .collect();
        let mut left: Vec<&str> = names.iter().filter(|(_, it)| **it == name).map(|(id, _)| *id).collect();
        let mut seen = BTreeSet::new();
        while let Some(id) = left.pop() {
            if seen.insert(id) {
                left.extend(uses.get(id).into_iter().flatten());
            }
        }
        seen.into_iter().filter_map(|id| names.get(id).copied()).collect()
    }

    /// Packages that say that they need a newer Rust.
    fn too_new(&self) -> Vec<String> {
        let is_newer = |text: &str| {
            let mut parts = text.split('.').map(|part| part.parse().unwrap_or(u64::MAX));
            (parts.next().unwrap_or(u64::MAX), parts.next().unwrap_or(0)) > RUST
        };
        let stated = self.packages.iter().filter_map(|it| Some((it, it.rust_version.as_deref()?)));
        stated.filter(|(_, rust)| is_newer(rust)).map(|(it, rust)| format!("{} {rust}", it.name)).collect()
    }

    /// Packages without a licence that `deny.toml` allows.
    fn unlicensed(&self, allowed: &Allowed) -> Vec<String> {
        let is_free = |package: &&Package| {
            let Some(text) = &package.license else { return false };
            let Ok(licence) = spdx::Expression::parse_mode(text, spdx::ParseMode::LAX) else { return false };
            licence.evaluate(|needed| {
                needed.license.id().is_some_and(|id| allowed.allows(&package.name, id.name))
            })
        };
        let wrong = self.packages.iter().filter(|package| !is_free(package));
        wrong.map(|it| format!("{}: {:?}", it.name, it.license)).collect()
    }
}

/// The licences of `deny.toml`.
#[derive(Deserialize)]
struct Deny {
    licenses: Allowed,
}

#[derive(Deserialize)]
struct Allowed {
    allow: Vec<String>,
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

impl Allowed {
    fn of_project() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml");
        let text = fs::read_to_string(file).expect("deny.toml");
        toml::from_str::<Deny>(&text).expect("deny.toml").licenses
    }

    fn allows(&self, package: &str, licence: &str) -> bool {
        let of_package = self.exceptions.iter().filter(|it| it.name == package).flat_map(|it| &it.allow);
        self.allow.iter().chain(of_package).any(|it| it == licence)
    }
}

const NOTHING: [String; 0] = [];

#[test]
fn crates_use_those_below_them() {
    assert_eq!(Metadata::of_workspace().arrows_up(), NOTHING);
    let wrong = Metadata::made_up(
        r#"{"workspace_members": ["a", "b", "c"], "resolve": {"nodes": []}, "packages": [
            {"id": "a", "name": "vmstream", "targets": [], "dependencies": [
                {"name": "vmstore", "kind": null}, {"name": "libnbd-sys", "kind": "build"}, {"name": "vmhost", "kind": "dev"}]},
            {"id": "b", "name": "vmstore", "targets": [], "dependencies": [{"name": "lab", "kind": null}]},
            {"id": "c", "name": "vmcloud", "targets": [], "dependencies": []}]}"#,
    );
    assert_eq!(wrong.arrows_up(), ["vmstream -> vmstore", "vmstore -> lab", "vmcloud has no floor"]);
}

#[test]
fn the_format_tool_stands_alone() {
    let of = |metadata: &Metadata| -> Vec<String> {
        let built_of = metadata.built_of("vmstream");
        NOT_IN_VMSTREAM.iter().filter(|name| built_of.contains(**name)).map(|it| (*it).to_owned()).collect()
    };
    let ours = Metadata::of_workspace();
    assert!(ours.built_of("vmstream").contains("lz4-sys"), "the graph is read");
    assert_eq!(of(&ours), NOTHING);
    let wrong = Metadata::made_up(
        r#"{"workspace_members": ["a"], "packages": [
            {"id": "a", "name": "vmstream", "targets": [], "dependencies": []},
            {"id": "b", "name": "between", "targets": [], "dependencies": []},
            {"id": "c", "name": "tokio", "targets": [], "dependencies": []},
            {"id": "d", "name": "rusqlite", "targets": [], "dependencies": []}],
          "resolve": {"nodes": [
            {"id": "a", "deps": [{"pkg": "b", "dep_kinds": [{"kind": null}]}, {"pkg": "d", "dep_kinds": [{"kind": "dev"}]}]},
            {"id": "b", "deps": [{"pkg": "c", "dep_kinds": [{"kind": "build"}]}]}]}}"#,
    );
    assert_eq!(of(&wrong), ["tokio"]);
}

#[test]
fn only_what_calls_c_may_be_unsafe() {
    let metadata = Metadata::of_workspace();
    let mut roots = 0;
    for member in metadata.members().filter(|member| !UNSAFE.contains(&member.name.as_str())) {
        let is_ours = |target: &&Target| target.kind.iter().any(|kind| kind == "lib" || kind == "bin");
        for target in member.targets.iter().filter(is_ours) {
            let text = fs::read_to_string(&target.src_path).expect("a source");
            assert!(text.contains("#![forbid(unsafe_code)]"), "{}", target.src_path);
            roots += 1;
        }
    }
    assert!(roots >= FLOORS.len(), "{roots}");
}

#[test]
fn no_package_needs_a_newer_rust() {
    assert_eq!(Metadata::of_workspace().too_new(), NOTHING);
    let wrong = Metadata::made_up(
        r#"{"workspace_members": [], "resolve": {"nodes": []}, "packages": [
            {"id": "a", "name": "old", "rust_version": "1.85.1", "targets": [], "dependencies": []},
            {"id": "b", "name": "new", "rust_version": "1.86", "targets": [], "dependencies": []},
            {"id": "c", "name": "newest", "rust_version": "2", "targets": [], "dependencies": []},
            {"id": "d", "name": "odd", "rust_version": "stable", "targets": [], "dependencies": []},
            {"id": "e", "name": "silent", "targets": [], "dependencies": []}]}"#,
    );
    assert_eq!(wrong.too_new(), ["new 1.86", "newest 2", "odd stable"]);
}

#[test]
fn each_package_has_a_licence_that_is_allowed() {
    let allowed = Allowed::of_project();
    assert_eq!(Metadata::of_workspace().unlicensed(&allowed), NOTHING);
    let licensed = |name: &str, licence: &str| {
        let metadata = Metadata::made_up(&format!(
            r#"{{"workspace_members": [], "resolve": {{"nodes": []}}, "packages": [
                {{"id": "a", "name": "{name}", "license": {licence}, "targets": [], "dependencies": []}}]}}"#
        ));
        metadata.unlicensed(&allowed).is_empty()
    };
    for licence in ["MIT", "GPL-3.0 OR MIT", "Unlicense/MIT", "(MIT OR GPL-2.0) AND Zlib"] {
        assert!(licensed("x", &format!("\"{licence}\"")), "{licence}");
    }
    for licence in ["null", "\"GPL-3.0\"", "\"MIT AND GPL-2.0\"", "\"LGPL-2.1\"", "\"whatever\""] {
        assert!(!licensed("x", licence), "{licence}");
    }
    assert!(licensed("virt", "\"LGPL-2.1\""));
}

/// The programs of tests that a script does not run.
fn unrun(metadata: &Metadata, script: &str) -> Vec<String> {
    let targets = metadata.members().flat_map(|package| &package.targets);
    let tests = targets.filter(|target| target.kind.iter().any(|kind| kind == "test"));
    let words: Vec<&str> = script.split_whitespace().collect();
    let is_run = |name: &str| words.windows(2).any(|pair| pair == ["--test", name]);
    tests.map(|test| test.name.clone()).filter(|name| !is_run(name)).collect()
}

#[test]
fn every_program_of_tests_is_run() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/test.sh");
    let script = fs::read_to_string(file).expect("the script");
    let (_, from) = script.split_once("computing() {").expect("what is run beside others");
    let (beside, rest) = from.split_once("\n}\n").expect("its end");
    let (_, last) = rest.split_once("failed=''").expect("what is run last");
    let run = [beside, last].concat();
    let metadata = Metadata::of_workspace();
    assert_eq!(unrun(&metadata, &run), NOTHING);
    assert_eq!(unrun(&metadata, &run.replace("--test alone", "")), ["alone"]);
    for other in ["--lib", "--bins", "--doc"] {
        assert!(run.split_whitespace().any(|word| word == other), "{other}");
    }
}

#[test]
fn each_name_of_the_tree_is_spelled_in_one_file() {
    let mut files = Vec::new();
    for folder in ["src", "crates"] {
        sources_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut files);
    }
    assert!(files.len() > 200, "{files:?}");
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for file in files {
        let path = file.strip_prefix(env!("CARGO_MANIFEST_DIR")).expect("below").display().to_string();
        for (name, _) in spelled(&fs::read_to_string(&file).expect("a source")) {
            let owner = NAMES_OF_THE_TREE.iter().find(|(owned, _)| *owned == name).map(|(_, owner)| *owner);
            if owner == Some(path.as_str()) {
                seen.insert(name);
            } else {
                wrong.push(format!("{path} spells {name}, which is of {}", owner.unwrap_or_default()));
            }
        }
    }
    assert_eq!(wrong, NOTHING);
    assert_eq!(seen.len(), NAMES_OF_THE_TREE.len(), "{seen:?}");
    let source = "// \"_state\"\nlet a = base.join(\"_state/journal\");\nlet b = '\"'; let c = format!(\"{name}.partial\");\n\
                  let d = \"tpm_state\"; let e = \"there is no _state/root.json\"; // .archives\n\
                  let f = \"\\\".archives\"; let g = r#\"web/.deleting-user-x\"#;\n#[cfg(test)]\nlet h = \"__HOST_CONFIG__\";";
    let found: Vec<_> = spelled(source).into_iter().map(|(name, _)| name).collect();
    assert_eq!(found, ["_state", ".partial", ".archives", ".deleting-"]);
}

/// All sources of programs and libraries below a folder; those of tests are not among them.
fn sources_below(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !["tests", "benches", "examples", "lab"].contains(&name) {
            sources_below(&path, files);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            files.push(path);
        }
    }
}

/// The names of the tree in the texts of a source, outside its tests, that are names or paths: those for people have blanks.
fn spelled(source: &str) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for text in texts(source.split("#[cfg(test)]").next().unwrap_or_default()) {
        if text.contains(char::is_whitespace) {
            continue;
        }
        let is_in = |name: &str| {
            let has = |part: &str| match name.starts_with('.') {
                true => part.starts_with(name) || part.ends_with(name),
                false => part == name,
            };
            text.split('/').any(has)
        };
        found.extend(
            NAMES_OF_THE_TREE.iter().filter(|(name, _)| is_in(name)).map(|(name, _)| (*name, text.clone())),
        );
    }
    found
}

/// What stands between quotation marks in a source, outside of comments.
fn texts(source: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), source);
    while let Some(at) = rest.find(['/', '"', '\'']) {
        let from = &rest[at..];
        rest = if let Some(comment) = from.strip_prefix("//") {
            comment.split_once('\n').map_or("", |(_, next)| next)
        } else if from.starts_with("'\\") {
            from.get(4..).unwrap_or_default()
        } else if let Some(next) = from.strip_prefix("'\"'") {
            next
        } else if let Some(text) = from.strip_prefix('"') {
            let hashes = rest[..at].len() - rest[..at].trim_end_matches('#').len();
            let is_raw = rest[..at - hashes].ends_with('r');
            let ends = |(i, _): &(usize, &str)| {
                let escaped = text[..*i].len() - text[..*i].trim_end_matches('\\').len();
                match is_raw {
                    true => text[i + 1..].starts_with(&"#".repeat(hashes)),
                    false => escaped % 2 == 0,
                }
            };
            let Some((end, _)) = text.match_indices('"').find(ends) else { break };
            found.push(text[..end].to_owned());
            &text[end + 1..]
        } else {
            &from[1..]
        };
    }
    found
}
