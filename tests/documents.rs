//! Documents name files and tests that are there.

use std::fs;
use std::path::PathBuf;

/// What begins so, between backquotes, is a place in the repository.
const FOLDERS: [&str; 7] = ["crates/", "docs/", "format-spec/", "fuzz/", "scripts/", "src/", "tests/"];

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// What of the places in a text is not there: `FOLDER/FILE`, or `FOLDER/FILE.rs::TEST`.
fn missing(text: &str) -> Vec<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let places = quoted.filter(|it| FOLDERS.iter().any(|folder| it.starts_with(folder)));
    places.filter(|place| !is_there(place)).map(str::to_owned).collect()
}

fn is_there(place: &str) -> bool {
    let (file, test) = place.split_once("::").map_or((place, None), |(file, test)| (file, Some(test)));
    let file = root().join(file);
    let Some(test) = test else { return file.exists() };
    let begins = format!("fn {test}() {{");
    fs::read_to_string(file).is_ok_and(|source| source.lines().any(|line| line.trim_start() == begins))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn places_that_documents_name_are_there() {
    for name in [
        "README.md",
        "CONTRIBUTING.md",
        "docs/coming-from-bash.md",
        "docs/threat-model.md",
        "format-spec/README.md",
    ] {
        assert_eq!(missing(&read(name)), Vec::<String>::new(), "{name}");
    }
    let wrong =
        "`tests/documents.rs::read` `tests/documents.rs::places_that_documents_name_are_there` `src/nowhere`";
    assert_eq!(missing(wrong), ["tests/documents.rs::read", "src/nowhere"]);
}

#[test]
fn each_promise_of_the_threat_model_has_a_test() {
    let rows = read("docs/threat-model.md");
    let rows = rows.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise"));
    let mut promises = 0;
    for row in rows {
        let named = row.split('`').skip(1).step_by(2).filter(|it| it.contains(".rs"));
        assert!(named.count() > 0, "{row}");
        promises += 1;
    }
    assert!(promises > 20, "{promises}");
}

/// A page that names a key, an option or a unit's line that nobody has helps nobody.
#[test]
fn the_page_for_those_who_come_from_bash_names_what_there_is() {
    let page = read("docs/coming-from-bash.md");
    let is_key = |word: &str| {
        word.len() > 3 && word.bytes().all(|b| b.is_ascii_uppercase() || b"_0123456789".contains(&b))
    };
    let words = page.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let unknown: Vec<&str> = words
        .filter(|word| is_key(word) && word.contains('_') && !["VM_POLICY", "__HOST_CONFIG__"].contains(word))
        .filter(|word| vmconfig::Key::find(word).is_none())
        .collect();
    assert_eq!(unknown, Vec::<&str>::new());
    // Every key that is not used is named, and no other is said to be.
    for key in vmconfig::KEYS.iter().filter(|key| key.marks.unused) {
        assert!(page.contains(&format!("`{}`", key.name)), "{}", key.name);
    }
    let help = read("tests/data/help.txt") + &read("crates/vmrestore/tests/data/help.txt");
    let options =
        page.split(|c: char| c.is_whitespace() || "`,()".contains(c)).filter(|word| word.starts_with("--"));
    let foreign = ["--exclude", "--quick", "--remove"];
    for option in options.map(|word| word.split('=').next().unwrap_or_default()) {
        assert!(help.contains(option) || foreign.contains(&option), "{option}");
    }
}
