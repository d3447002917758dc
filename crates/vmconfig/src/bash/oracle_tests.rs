//! Bash itself as the judge: whatever the reader accepts, Bash reads to the same values.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use random::Random;

use super::{Shape, Variables, read};

/// The variables of `text` as `name kind key value …` records, or `None` if it is refused or not quite Bash.
fn ours(text: &[u8]) -> Option<Vec<String>> {
    let environment =
        BTreeMap::from([("E".to_owned(), "e f".to_owned()), ("HOME".to_owned(), "/h".to_owned())]);
    let mut variables = Variables::new(&environment, &["T"]);
    read(Path::new("f"), text, &mut variables).ok()?;
    if variables.warnings.iter().any(|warning| warning.contains("blanks around")) {
        return None;
    }
    let mut records = Vec::new();
    for name in ["A", "L", "T"] {
        match variables.all.get(name).map(|variable| &variable.shape) {
            None | Some(Shape::Empty) => {}
            Some(Shape::One(value)) => records.push(format!("{name}[0]={}", value.text)),
            Some(Shape::List(list)) => {
                records.extend(list.iter().map(|(key, value)| format!("{name}[{key}]={}", value.text)));
            }
            Some(Shape::Table(table)) => {
                records.extend(table.iter().map(|(key, value)| format!("{name}[{key}]={}", value.text)));
            }
        }
    }
    records.sort();
    Some(records)
}

/// What Bash makes of the same texts: one answer for each, `None` where sourcing failed.
fn bash(texts: &[&[u8]]) -> Vec<Option<Vec<String>>> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (number, text) in texts.iter().enumerate() {
        std::fs::write(dir.path().join(format!("{number}.conf")), text).expect("a file to write");
    }
    // No PATH and no globbing: nothing but assignments can have an effect.
    let script = r#"
        cd "$1" || exit 9
        for ((i = 0; i < $2; i++)); do (
            set -f; unset PATH A L; declare -A T
            source ./"$i.conf" >/dev/null 2>&1 || { printf 'failed\0end\0'; exit; }
            for name in A L T; do
                declare -n array=$name
                for key in "${!array[@]}"; do printf '%s[%s]=%s\0' "$name" "$key" "${array[$key]}"; done
            done
            printf 'end\0'
        ) || printf 'failed\0end\0'; done"#;
    let output = Command::new("bash")
        .args(["--norc", "--noprofile", "-c", script, "bash"])
        .arg(dir.path())
        .arg(texts.len().to_string())
        .env_clear()
        .env("E", "e f")
        .env("HOME", "/h")
        .env("LC_ALL", "C.UTF-8")
        .output()
        .expect("bash must be installed to judge the reader");
    let mut answers = vec![Some(Vec::new())];
    for record in output.stdout.split(|byte| *byte == 0) {
        let record = String::from_utf8_lossy(record).into_owned();
        match (record.as_str(), answers.last_mut().expect("never empty")) {
            ("end", last) => {
                last.iter_mut().for_each(|records| records.sort());
                answers.push(Some(Vec::new()));
            }
            ("failed", last) => *last = None,
            (_, Some(records)) => records.push(record),
            (_, None) => {}
        }
    }
    answers.truncate(texts.len());
    answers
}

/// Puts together a text that looks like a configuration, from pieces that have a meaning to Bash.
fn composed(random: &mut Random) -> Vec<u8> {
    const STARTS: &[&str] = &[
        "A=",
        "A+=",
        "L=(",
        "L+=(",
        "L[1]=",
        "T[k]=",
        "T[\"a b\"]+=",
        "T=(",
        "export A=",
        "declare A=",
        "declare T[k]=",
        "readonly L=(",
    ];
    const PIECES: &[&str] = &[
        "a", "b c", "\"", "'", "\\", "$A", "${A}", "${N:-", "${E-", "}", "$E", "\"$E\"", "$", "#", " #", " ",
        "\n", "\\\n", "(", ")", "[x]=", "[1]=", "[", "]", "=", "~", "~/", ":", "-", "*", "?", "{", ",", "!",
        "é", "''", "\"\"", ";", "\t", "L=(", "A=", "/",
    ];
    let mut text = String::from(random.pick(STARTS));
    for _ in 0..random.index(9) {
        text.push_str(random.pick(PIECES));
    }
    if text.contains("=(") && random.index(4) > 0 {
        text.push(')');
    }
    text.push('\n');
    if random.index(3) == 0 {
        text.push_str("L+=(\"$A\" $A)\n");
    }
    text.into_bytes()
}

#[test]
fn whatever_is_accepted_bash_reads_to_the_same_values() {
    // Always the same texts, so that a change of Bash cannot fail somebody else's change.
    let mut random = Random::seeded("CONFIG_TEST_SEED", 0x5EED_C0DE);
    let candidates: Vec<Vec<u8>> = (0..40_000).map(|_| composed(&mut random)).collect();
    // Bash 5.2 forgets to split an expansion when a lone dollar sign is in the word: its mistake, not a meaning.
    let lone = |two: &[u8]| two[0] == b'$' && !two[1].is_ascii_alphabetic() && two[1] != b'{';
    let lone_dollar = |text: &[u8]| text.windows(2).any(lone);
    let counts = |text: &&[u8]| !lone_dollar(text) && ours(text).is_some();
    let accepted: Vec<&[u8]> = candidates.iter().map(Vec::as_slice).filter(counts).take(1500).collect();
    assert!(accepted.len() >= 1500, "the generator must make enough texts that count: {}", accepted.len());
    let judged = accepted.iter().zip(bash(&accepted));
    let different = judged.filter(|(text, want)| ours(text) != *want);
    let shown: Vec<String> = different
        .map(|(text, want)| {
            format!("{}\n  ours {:?}\n  bash {want:?}\n", String::from_utf8_lossy(text), ours(text))
        })
        .take(20)
        .collect();
    assert!(shown.is_empty(), "{}", shown.join("\n"));
}

#[test]
fn bash_agrees_with_the_documented_forms() {
    let texts: &[&[u8]] = &[
        b"A=\"v\"      # trailing comment",
        b"export A=\"a\"b'c'\\d",
        b"A=one\\\ntwo",
        b"L=()\nL+=(\"x\")\nL+=(y 'z z')",
        b"declare -gA T\nT[\"web 1\"]=\"daily\"; T[db]=never",
        b"T=([\"a\"]=\"daily\" [b]='never')\nT+=([c]=\"weekly\")",
        b"A=/mnt; A=$A/x/${E}/${N:-\"y z\"}/${N-}",
        b"A=$ L=(5$/d \"a$\")",
        b"readonly A=1\ntypeset L=2",
        b"declare -ga L=(a\n# note\n b)",
    ];
    for (text, want) in texts.iter().zip(bash(texts)) {
        assert!(
            want.as_ref().is_some_and(|records| !records.is_empty()),
            "{}",
            String::from_utf8_lossy(text)
        );
        assert_eq!(ours(text), want, "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Random::from_environment("CONFIG_TEST_SEED");
    const LIKELY: &[u8] = b"AB=+\"'\\$${}()[]:;-~# \n\r\tdeclare-gA\x00\xC3\xA9\xFF|&<>`!,";
    for _ in 0..30_000 {
        let len = random.index(60);
        let pick = |random: &mut Random| match random.index(4) {
            0 => random.index(256) as u8,
            _ => random.pick(LIKELY),
        };
        let mut text: Vec<u8> = if random.index(2) == 0 { b"A=".to_vec() } else { Vec::new() };
        text.extend((0..len).map(|_| pick(&mut random)));
        let _ = ours(&text);
    }
}
