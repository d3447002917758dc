//! Bash itself is the judge: of a list of cases, and of random patterns.

use std::process::Command;

use random::Random;

use super::Pattern;

/// What Bash says of each pattern and name.
fn bash(pairs: &[(String, String)]) -> Vec<bool> {
    let script = r#"while [[ $# -gt 0 ]]; do [[ $2 == $1 ]] && printf 1 || printf 0; shift 2; done"#;
    let mut answers = Vec::new();
    // A command line has a limit.
    for part in pairs.chunks(1000) {
        let mut command = Command::new("bash");
        command.env("LC_ALL", "C.UTF-8").args(["--norc", "--noprofile", "-c", script, "bash"]);
        for (pattern, name) in part {
            command.args([pattern, name]);
        }
        let output = command.output().expect("bash can be started");
        assert!(output.status.success(), "{output:?}");
        answers.extend(output.stdout.iter().map(|byte| *byte == b'1'));
    }
    assert_eq!(answers.len(), pairs.len());
    answers
}

fn assert_as_bash(pairs: &[(String, String)]) {
    for ((pattern, name), want) in pairs.iter().zip(bash(pairs)) {
        assert_eq!(Pattern::new(pattern).matches(name), want, "[[ {name:?} == {pattern:?} ]]");
    }
}

#[test]
fn matches_what_bash_matches() {
    let patterns = [
        "",
        "*",
        "?",
        "web",
        "web*",
        "*-test",
        "*test*",
        "w?b",
        "[abc]",
        "[!abc]",
        "[^abc]",
        "[a-c]x",
        "[]a]",
        "[!]a]",
        "[a-]",
        "[-a]",
        "[a",
        "a]",
        "[",
        "[]",
        "[!]",
        "[[:digit:]]",
        "web[[:digit:]]*",
        "[[:alpha:]_]*",
        "[[:nonsense:]]",
        "[[:upper:]]?",
        "\\*",
        "a\\",
        "\\a",
        "[\\]]",
        "[\\-a]",
        "[a\\-c]",
        "[z-a]",
        "[a-a]",
        "@(a|b)",
        "@(a|b)c",
        "+(a)",
        "*(a|b)c",
        "?(a)b",
        "!(a)",
        "!(a|b)*",
        "web-!(prod)",
        "!(*prod*)",
        "@()",
        "!()",
        "*()",
        "@(|a)",
        "@(a",
        "+(",
        "a|b",
        "(a)",
        "@(a|@(b|c))",
        "*(*(a))",
        "!(!(a))",
        "@([)]|x)",
        "@(a\\)b)",
        "@(a(b)c)",
        "**",
        "***a",
        "*.*",
        "*/*",
        "[.]x",
        "[ä-ü]",
        "ä*",
        "?",
        "+([0-9])",
        "vm+([0-9])",
        "@(web|db)-[0-9]*",
        "[[",
        "[[]",
        "[a[]",
        "]",
        "@(*(a)|b)*",
    ];
    let names = [
        "", "a", "b", "c", "ab", "abc", "web", "web1", "web-1", "web-prod", "web-test", "x.y", "a/b", "[",
        "]", "[]", "-", "*", "\\", "a\\", "aa", "aaa", "aab", "A", "Ab", "ä", "ö", "vm12", "db-7", "(a)",
        "a|b", "@(a", "+(", ")", "a)b", "a(b)c", "1", "_", "ax", "]x", "[a", "!", "^", ".x", "prod", "@()",
        "bb", "abab",
    ];
    let pairs = patterns.iter().flat_map(|p| names.iter().map(move |n| ((*p).to_owned(), (*n).to_owned())));
    assert_as_bash(&pairs.collect::<Vec<_>>());
}

/// Without what Bash 5.2 itself gets wrong: `*` right before a group (`[[ "" == *!(ab)- ]]` is true there), empty
/// alternatives, and `!(…)` inside of another group.
fn pattern(random: &mut Random, depth: usize, groups: &[&str]) -> String {
    let mut text = String::new();
    for _ in 0..1 + random.index(3) {
        let kind = random.index(if depth > 0 && !text.ends_with('*') { 7 } else { 5 });
        text += &match kind {
            0..=2 => random.pick(&["a", "b", "c", "-", ".", "\\-"]).to_owned(),
            3 => random.pick(&["*", "?"]).to_owned(),
            4 => random.pick(&["[ab]", "[!a]", "[a-c]", "[]b]", "[^-b]", "[[:alpha:]]"]).to_owned(),
            _ => {
                let count = 1 + random.index(3);
                let inner = &["@", "?", "*", "+"];
                let alternatives: Vec<_> = (0..count).map(|_| pattern(random, depth - 1, inner)).collect();
                format!("{}({})", random.pick(groups), alternatives.join("|"))
            }
        };
    }
    text
}

fn name(random: &mut Random) -> String {
    (0..1 + random.index(6)).map(|_| random.pick(&["a", "b", "c", "-", ".", "*", "]"])).collect()
}

#[test]
fn random_patterns_match_what_bash_matches() {
    let mut random = Random::seeded("GLOB_TEST_SEED", 20_261_122);
    let mut pairs = Vec::new();
    for _ in 0..700 {
        let pattern = pattern(&mut random, 2, &["@", "?", "*", "+", "!"]);
        pairs.extend((0..6).map(|_| (pattern.clone(), name(&mut random))));
    }
    assert_as_bash(&pairs);
}

#[test]
fn no_pattern_takes_for_ever() {
    // As long as a configuration may have them.
    for part in ["@(", "@([", "[", "@(a|", "*(!([a-"] {
        let pattern = Pattern::new(&part.repeat(1000 / part.len()));
        assert!(!pattern.matches("web"));
    }
    let pattern = Pattern::new(&format!("{}b", "*(*(a)*(a))".repeat(8)));
    assert!(!pattern.matches(&"a".repeat(60)));
}

#[test]
fn nests_of_groups_take_neither_the_stack_nor_for_ever() {
    let nest = |opening: &str, depth: usize| format!("{}a{}", opening.repeat(depth), ")".repeat(depth));
    let name = "a".repeat(60);
    // A star in each: every level asks about every place. From the third on, each level says the opposite of the one in
    // it. (Bash is no judge here: it gets `!(…)` inside of another group wrong.)
    assert!(Pattern::new(&nest("!(*", 31)).matches(&name));
    assert!(!Pattern::new(&nest("!(*", 30)).matches(&name));
    assert!(Pattern::new(&nest("@(", 32)).matches("a"));
    // Deeper, Bash's answer would be yes as well; here the rest stands for itself.
    assert!(!Pattern::new(&nest("@(", 20_000)).matches("a"));
}
