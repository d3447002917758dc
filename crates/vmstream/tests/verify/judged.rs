//! What is good, and what is said of it.

use super::set_up::{flip, verify};
use crate::golden::Golden;
use crate::program::{text, vmstream};
use serde_json::Value;

/// A stream's name tells which readers can read it. The wrong name, or both names, must be seen.
#[test]
fn names_that_do_not_fit_the_method_are_damage() {
    let golden = Golden::extract();
    let dir = golden.lz4();
    let (data, zstd) = (dir.join("vda.inc.virtnbdbackup.1.data"), dir.join("vda.inc.virtnbdbackup.1.zstd"));
    let problems = || verify(&dir, &["--quick", "."]).1["findings"].to_string();
    std::fs::copy(&data, &zstd).unwrap();
    assert_eq!(verify(&dir, &["--quick", "."]).0, 1);
    assert!(problems().contains("virtnbdbackup.1.zstd is not used"), "{}", problems());
    std::fs::remove_file(&data).unwrap();
    assert_eq!(verify(&dir, &["--quick", "."]).0, 1);
    let mismatch = r#"the stream says compressionMethod \"lz4\", its place needs \"zstd\""#;
    assert!(problems().contains(mismatch), "{}", problems());
}

/// `good_points` is what is proven and what nothing speaks against, as the schema says.
#[test]
fn good_points_are_those_that_are_proven_or_unproven() {
    let golden = Golden::extract();
    let plain = golden.plain();
    let ids = |json: &Value, key: &str| -> Vec<String> {
        json[key].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    };
    std::fs::remove_file(plain.join("vdb.copy.data")).unwrap();
    let all = ids(&verify(&plain, &["."]).1, "good_points");
    assert_eq!(all.len(), 3, "{all:?}");
    let worths = |exit: i32, proven: &[&str], unproven: &[&str]| {
        let (found, json) = verify(&plain, &["."]);
        assert_eq!(
            (found, ids(&json, "proven_points")),
            (exit, proven.iter().map(ToString::to_string).collect())
        );
        assert_eq!(ids(&json, "unproven_points"), unproven);
        let good = ids(&json, "good_points");
        assert_eq!(good, [proven, unproven].concat(), "{json}");
        let others: Vec<_> = all.iter().filter(|id| !good.contains(id)).cloned().collect();
        (others, ids(&json, "lost_points"))
    };
    // Without its checksum nothing proves the increment; the difference needs the full alone, and has its own.
    std::fs::remove_file(plain.join("vda.inc.virtnbdbackup.1.data.chksum")).unwrap();
    let of = |number: usize| all[number].as_str();
    let unproven: Vec<&str> = all[1..].iter().map(String::as_str).collect();
    assert_eq!(worths(2, &[of(0)], &unproven), (vec![], vec![]));
    // What is lost is not good.
    let difference = plain.join("vda.diff.1795377788.data");
    let kept = std::fs::read(&difference).unwrap();
    std::fs::remove_file(&difference).unwrap();
    std::fs::write(&difference, &kept[1..]).unwrap();
    assert_eq!(worths(1, &[of(0)], &unproven[..1]), (all[2..].to_vec(), all[2..].to_vec()));
}

#[test]
fn increments_that_doctor_doubts_are_said() {
    let golden = Golden::extract();
    let stderr = |args: &[&str]| {
        let done = vmstream(golden.root(), &[&["verify", "--quick"], args].concat());
        text(&done.stderr).replace("\n ", "")
    };
    let end = "increments by virtnbdbackup, which may lack changes: vmstream doctor says more\n";
    assert_eq!(stderr(&["plain/chain"]), format!("warning: the set has {end}"));
    assert_eq!(stderr(&["."]), format!("warning: 2 sets have {end}"));
    assert_eq!(stderr(&["plain/copy"]), "");
    let (_, chain) = verify(golden.root(), &["plain/chain"]);
    let (_, copy) = verify(golden.root(), &["plain/copy"]);
    assert_eq!((&chain["may_lack_changes"], &copy["may_lack_changes"]), (&true.into(), &false.into()));
}

#[test]
fn lines_fit_80_columns() {
    let golden = Golden::extract();
    for name in ["vda.inc.virtnbdbackup.1.data", "vdb.full.data"] {
        let path = golden.lz4().join(name);
        flip(&path, 5000);
    }
    std::fs::remove_file(golden.plain().join("vda.full.data")).unwrap();
    for args in [
        &["verify", "."][..],
        &["verify", "lz4"],
        &["verify", "lz4", "--deep"],
        &["verify", "plain", "--quick"],
        &["verify", "lz4/gold1/202611/vda.inc.virtnbdbackup.1.data"],
        &["doctor", "."],
        &["info", "lz4"],
        &["info", "."],
    ] {
        let done = vmstream(golden.root(), args);
        for line in text(&done.stdout).lines().chain(text(&done.stderr).lines()) {
            assert!(line.chars().count() <= 80, "{args:?}: {line}");
        }
    }
}
