//! The rooms of the engine: imports among its files go in no circle, and point from higher rooms to lower ones.
//!
//! The sources are read: `use` items and paths in the code, re-exports followed to the file that has the thing. What the
//! tests of a file use does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// From the ground up. What lies in the folder of the engine itself is below them all.
const ROOMS: [&str; 10] =
    ["domain", "image", "look", "claims", "plan", "snapshot", "copy", "commit", "recovery", "run"];

/// Arrows that point up all the same, from a file to a file, each with its reason.
const UPWARD: [(&str, &str, &str); 0] = [];

/// The path of a module below the engine.
type Module = Vec<String>;

/// The files of the engine.
#[derive(Default)]
struct Engine {
    files: BTreeMap<Module, File>,
}

/// What a file says of others.
#[derive(Default)]
struct File {
    /// It only lists modules and hands on what they have.
    is_map: bool,
    /// Paths as they are written, from `use` items and from the code.
    paths: BTreeSet<Module>,
    /// What the file hands on: a name, and the path that it stands for.
    handed_on: BTreeMap<String, Module>,
}

impl Engine {
    fn of_project() -> Self {
        let mut engine = Self::default();
        engine.read_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine"), &[]);
        engine
    }

    fn read_below(&mut self, folder: &Path, module: &[String]) {
        for entry in fs::read_dir(folder).expect("a folder of the engine") {
            let path = entry.expect("what lies in it").path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let inner = name.trim_end_matches(".rs").to_owned();
            let inner: Module = module.iter().cloned().chain([inner]).collect();
            if path.is_dir() {
                self.read_below(&path, &inner);
                continue;
            }
            let source = fs::read_to_string(&path).expect("a source");
            let is_map = name == "mod.rs";
            self.add(if is_map { module.to_vec() } else { inner }, is_map, &source);
        }
    }

    fn add(&mut self, module: Module, is_map: bool, source: &str) {
        let code = without_tests_and_comments(source);
        let mut file = File { is_map, ..File::default() };
        let mut rest = String::new();
        for statement in code.split_inclusive(';') {
            let begins = statement.rfind("use ").filter(|at| is_item(statement, *at));
            let Some(at) = begins else {
                rest.push_str(statement);
                continue;
            };
            let tree = statement[at + 4..].trim_end_matches(';');
            for (name, path) in spread(tree) {
                if is_map {
                    file.handed_on.insert(name, path);
                } else {
                    file.paths.insert(path);
                }
            }
            rest.push_str(&statement[..at]);
        }
        file.paths.extend(paths_in(&rest));
        self.files.insert(module, file);
    }

    /// The file that has what a path of `from` names. `None` for what is not the engine's.
    fn file_of(&self, from: &Module, path: &[String]) -> Option<Module> {
        let (first, mut rest) = path.split_first()?;
        let mut at: Module = match first.as_str() {
            "crate" => {
                let (engine, below) = rest.split_first()?;
                rest = below;
                (engine == "engine").then(Module::new)?
            }
            "self" => from.clone(),
            "super" => from[..from.len().checked_sub(1)?].to_vec(),
            _ => return None,
        };
        while let Some((name, below)) = rest.split_first() {
            if name == "super" {
                at.pop();
            } else {
                let inner: Module = at.iter().cloned().chain([name.clone()]).collect();
                if self.files.contains_key(&inner) {
                    at = inner;
                } else {
                    let stands_for = self.files.get(&at)?.handed_on.get(name);
                    return stands_for.map_or(Some(at.clone()), |path| self.file_of(&at, path));
                }
            }
            rest = below;
        }
        Some(at)
    }

    /// Which files each file needs. A map needs what it hands on.
    fn arrows(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let needed = |from: &Module, file: &File| {
            let paths = file.paths.iter().chain(file.handed_on.values());
            paths.filter_map(|path| self.file_of(from, path)).filter(|to| to != from).collect()
        };
        self.files.iter().map(|(from, file)| (from, needed(from, file))).collect()
    }

    /// The circles, each told by the files on it.
    fn circles(&self) -> BTreeSet<String> {
        let arrows = self.arrows();
        let reached = |from: &Module| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
            while let Some(at) = next.pop() {
                let new = arrows.get(&at).into_iter().flatten().filter(|to| seen.insert((*to).clone()));
                next.extend(new.cloned().collect::<Vec<_>>());
            }
            seen
        };
        let reached: BTreeMap<&Module, _> = arrows.keys().map(|from| (*from, reached(from))).collect();
        let on_one = reached.iter().filter(|(from, seen)| seen.contains(**from));
        let circle = |(from, seen): (&&Module, &BTreeSet<Module>)| {
            let back = seen.iter().filter(|at| reached.get(at).is_some_and(|seen| seen.contains(*from)));
            back.map(|at| at.join("/")).collect::<Vec<_>>().join(", ")
        };
        on_one.map(circle).collect()
    }

    /// The arrows that point up: `(from, to)`. A map may hand on whatever it likes.
    fn upward(&self) -> Vec<(String, String)> {
        let floor = |room: &String| ROOMS.iter().position(|known| known == room).map(|floor| floor + 1);
        let height = |module: &Module| module.first().and_then(floor).unwrap_or_default();
        let arrows = self.arrows();
        let files = arrows.iter().filter(|(from, _)| !self.files[**from].is_map);
        let all = files.flat_map(|(from, to)| to.iter().map(move |to| (*from, to)));
        let up = all.filter(|(from, to)| height(to) > height(from));
        up.map(|(from, to)| (from.join("/"), to.join("/"))).collect()
    }

    fn made_up(files: &[(&str, &str)]) -> Self {
        let mut engine = Self::default();
        for (name, source) in files {
            let path: Module = name.split('/').map(str::to_owned).filter(|part| part != "mod").collect();
            engine.add(path, name.ends_with("mod"), source);
        }
        engine
    }
}

/// The code of a file: its tests come last, and a comment may name whatever it likes.
fn without_tests_and_comments(source: &str) -> String {
    let code = source.split("\n#[cfg(test)]\n").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Whether what stands at `at` begins an item, with its `pub` or without.
fn is_item(statement: &str, at: usize) -> bool {
    let before = statement[..at].rsplit('\n').next().unwrap_or_default().trim();
    before.is_empty() || before.starts_with("pub")
}

/// The paths of a `use` tree, each with the name that it brings.
fn spread(tree: &str) -> Vec<(String, Module)> {
    let tree = tree.trim();
    if let Some((head, inner)) = tree.split_once('{') {
        let head: Module = segments(head);
        let inner = inner.trim_end().strip_suffix('}').unwrap_or(inner);
        let mut depth = 0;
        let parts = inner.split(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        });
        let inner = parts.filter(|part| !part.trim().is_empty()).flat_map(spread);
        return inner.map(|(name, path)| joined(&head, name, path)).collect();
    }
    let (path, name) = tree.split_once(" as ").map_or((tree, None), |(path, name)| (path, Some(name)));
    let path = segments(path);
    let name = name.map(|name| name.trim().to_owned()).or_else(|| path.last().cloned());
    vec![(name.unwrap_or_default(), path)]
}

/// A path below `head`. `self` in a tree is the head itself.
fn joined(head: &[String], name: String, path: Module) -> (String, Module) {
    let whole: Module = head.iter().cloned().chain(path.into_iter().filter(|part| part != "self")).collect();
    let name = if name == "self" { whole.last().cloned().unwrap_or_default() } else { name };
    (name, whole)
}

fn segments(path: &str) -> Module {
    path.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The paths in code that name where they begin. Who may see a thing is no need of it.
fn paths_in(code: &str) -> BTreeSet<Module> {
    let code = code.replace("pub(in crate::", "pub(in ");
    let is_of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = code.split(|c| !is_of_path(c)).map(|word| word.trim_end_matches(':'));
    let rooted =
        words.filter(|word| ["crate::", "super::", "self::"].iter().any(|root| word.starts_with(root)));
    rooted.map(segments).collect()
}

#[test]
fn no_files_of_the_engine_need_each_other_in_a_circle() {
    let engine = Engine::of_project();
    assert!(engine.files.len() > 100, "the sources are read");
    assert_eq!(engine.circles(), BTreeSet::new());
}

#[test]
fn each_room_of_the_engine_needs_only_rooms_below_it() {
    let engine = Engine::of_project();
    let rooms: BTreeSet<&str> =
        engine.files.keys().filter(|module| module.len() > 1).map(|module| module[0].as_str()).collect();
    assert_eq!(rooms, ROOMS.into_iter().collect(), "each room has its place");
    let allowed = UPWARD.map(|(from, to, _)| (from.to_owned(), to.to_owned()));
    assert_eq!(engine.upward(), allowed, "a room needs one above it; or an exception is not needed any more");
}

#[test]
fn a_circle_and_an_arrow_that_points_up_are_seen() {
    let order = |line: &str| {
        let file = format!(
            "//! A file.\n\nuse std::io;\n{line}\n\nfn f() {{}}\n\n#[cfg(test)]\nmod tests {{\n    use crate::engine::run::take;\n}}\n"
        );
        let map = "mod error;\npub(crate) mod take;\npub use self::error::BackupError;\n";
        let engine = Engine::made_up(&[
            ("mod", "mod run;\nmod image;\npub use self::run::BackupError;\n"),
            ("watch", ""),
            ("run/mod", map),
            ("run/error", "use crate::engine::image::node::{self, Node};\n"),
            ("run/take", "use super::error::BackupError;\nuse crate::engine::{image, watch};\n"),
            ("image/mod", "pub(crate) mod node;\n"),
            ("image/node", &file),
        ]);
        (engine.circles().into_iter().collect::<Vec<_>>(), engine.upward())
    };
    let error = || vec![("image/node".to_owned(), "run/error".to_owned())];
    let circle = || vec!["image/node, run/error".to_owned()];
    assert_eq!(order("use crate::engine::watch::Watch;"), (vec![], vec![]));
    assert_eq!(order("// use crate::engine::run::error;"), (vec![], vec![]));
    assert_eq!(order("pub(in crate::engine) struct S;"), (vec![], vec![]));
    for line in [
        "use crate::engine::BackupError;",
        "pub(crate) use crate::engine::{watch::{Watch, self}, run::{error::BackupError as E}};",
        "use super::super::run::error;",
        "fn g(e: crate::engine::run::error::BackupError) {}",
    ] {
        assert_eq!(order(line), (circle(), error()), "{line}");
    }
    // Through a file between, and through a whole room.
    for (line, to, circle) in [
        ("use crate::engine::run::take;", "run/take", "image/node, run/error, run/take"),
        ("use crate::engine::run;", "run", "image/node, run, run/error"),
    ] {
        assert_eq!(order(line), (vec![circle.to_owned()], vec![("image/node".to_owned(), to.to_owned())]));
    }
}
