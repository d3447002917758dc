//! The points on disk are known, also when the database was lost or damaged.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use vmbackup::catalog::{Remover, VmBackup, VmStatus};

use super::tree::{Damage, POINTS, Tree, health, new_session, noon, points, rows, said};

#[test]
fn the_points_on_disk_are_known_from_the_first_run_on() {
    let tree = Tree::golden();
    let before = rows(&tree.sql(), "chain_health");
    let catalog = tree.open();
    assert_eq!(points(&tree), POINTS);
    assert_eq!(rows(&tree.sql(), "chain_health"), before, "what the Bash version wrote stays");
    drop(catalog);
    // Only once: what changes later is told by those who change it.
    let period = tree.path().join("gold1/202611");
    let archive = period.join(".archives/chain-2026-11-23");
    std::fs::create_dir_all(&archive).unwrap();
    for entry in std::fs::read_dir(&period).unwrap().map(Result::unwrap) {
        if entry.file_name() != ".archives" {
            std::fs::rename(entry.path(), archive.join(entry.file_name())).unwrap();
        }
    }
    let catalog = tree.open();
    assert_eq!(points(&tree), POINTS);
    catalog.chain_active(&health("gold1", "202611", &period, 0), noon());
    assert_eq!(points(&tree), [""; 0]);
    catalog.chain_archived("gold1", "202611", &archive, 1, noon());
    let archived = POINTS.map(|row| row.replace("gold1/202611", "gold1/202611/.archives/chain-2026-11-23"));
    assert_eq!(points(&tree), archived);
    catalog.points_gone(&tree.path().join("gold1/2026"));
    catalog.chain_removed("gold1", "accumulate", &tree.path().join("gold1"), Remover::Prune, noon());
    assert_eq!(points(&tree), archived, "of other folders");
    catalog.points_gone(&archive);
    assert_eq!(points(&tree), [""; 0]);
    catalog.chain_archived("gold1", "202611", &archive, 1, noon());
    catalog.chain_removed("gold1", "202611", &period, Remover::Retention, noon());
    assert_eq!(points(&tree), [""; 0]);
}

#[test]
fn a_lost_database_is_made_anew_from_the_disk() {
    let tree = Tree::golden();
    std::fs::remove_dir_all(tree.path().join("_state")).unwrap();
    // A chain in an archive alone, one with a hole, one without periods, a folder that is no VM's.
    let copy = |from: &str, to: &str| {
        let to = tree.path().join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        assert!(Command::new("cp").arg("-a").arg(tree.path().join(from)).arg(to).status().unwrap().success());
    };
    copy("gold1/202611", "gold1/2026-W40/.archives/chain-2026-10-04");
    copy("gold1/202611", "gold1/20261101");
    copy("gold1/202611", "flat");
    copy("gold1/202611", "_state/gold1/202611");
    std::fs::remove_file(tree.path().join("gold1/20261101/vda.inc.virtnbdbackup.2.data")).unwrap();
    std::fs::rename(tree.path().join("flat/gold1.cpt"), tree.path().join("flat/flat vm.cpt")).unwrap();
    let catalog = tree.open();
    let health: Vec<_> = rows(&tree.sql(), "chain_health").iter().map(said).collect();
    let row = |id: u32,
               vm: &str,
               period: &str,
               folder: &str,
               policy: &str,
               state: &str,
               broken: &str,
               good: u32| {
        let folder = tree.path().join(folder);
        format!(
            "{broken}chain_location={} chain_status={state} created_at=2026-11-23 12:00:00 \
             first_backup=2026-11-22 20:02:25 id={id} last_backup=2026-11-22 20:02:36 period_id={period} \
             purge_eligible=1 restorable_count={good} rotation_policy={policy} total_checkpoints=4 \
             updated_at=2026-11-23 12:00:00 vm_name={vm}",
            folder.display()
        )
    };
    let broken = "break_reason=streams are missing or damaged broken_at=2 ";
    let archive = "gold1/2026-W40/.archives/chain-2026-10-04";
    let want = [
        row(1, "flat vm", "accumulate", "flat", "accumulate", "active", "", 4),
        row(2, "gold1", "2026-W40", archive, "weekly", "archived", "", 4),
        row(3, "gold1", "202611", "gold1/202611", "monthly", "active", "", 4),
        row(4, "gold1", "20261101", "gold1/20261101", "daily", "broken", broken, 2),
    ];
    assert_eq!(health, want);
    let found = points(&tree);
    assert_eq!(found.len(), 16);
    assert_eq!(found.iter().filter(|row| row.contains("restorable=1")).count(), 14);
    let last = catalog.last_success("gold1").unwrap().unwrap();
    assert_eq!(last.at, Some("2026-11-22T20:02:36Z".parse().unwrap()));
    assert!(rows(&tree.sql(), "vm_backups").is_empty() && rows(&tree.sql(), "sessions").is_empty());
}

#[test]
fn a_damaged_database_is_replaced_and_what_can_be_read_of_it_kept() {
    let damages: [(&str, Damage); 4] = [
        ("header", |file| {
            let mut bytes = std::fs::read(file).unwrap();
            bytes[..16].fill(b'x');
            std::fs::write(file, bytes).unwrap();
            false
        }),
        ("garbage", |file| {
            std::fs::write(file, "no database".repeat(9000)).unwrap();
            false
        }),
        ("truncated", |file| {
            std::fs::File::options().write(true).open(file).unwrap().set_len(102_400).unwrap();
            true
        }),
        ("one page", |file| {
            // A page with rows of config_events; the first page, where there are none.
            let mut bytes = std::fs::read(file).unwrap();
            let place = bytes.windows(14).position(|text| text == b"config_loaded/").unwrap_or(0);
            let page = place / 4096 * 4096;
            bytes[page..page + 4096].fill(0xaa);
            std::fs::write(file, bytes).unwrap();
            true
        }),
    ];
    for (name, damage) in damages {
        let tree = Tree::golden();
        tree.sql().execute("UPDATE chain_health SET purge_eligible = 0", []).unwrap();
        let rest = damage(&tree.file());
        let broken = std::fs::read(tree.file()).unwrap();
        let catalog = tree.open();
        let aside = tree.path().join("_state/vmbackup.db.corrupt-20261123T120000Z");
        assert!(std::fs::read(aside).unwrap() == broken, "{name}: kept as it was");
        assert_eq!(std::fs::metadata(tree.file()).unwrap().permissions().mode() & 0o7777, 0o640, "{name}");
        assert_eq!(points(&tree), POINTS, "{name}");
        let period = ("gold1".to_owned(), "202611".to_owned());
        assert_eq!(catalog.protected().unwrap().contains(&period), rest, "{name}");
        assert_eq!(rows(&tree.sql(), "vm_backups").len(), if rest { 4 } else { 0 }, "{name}");
        assert_eq!(rows(&tree.sql(), "chain_health").len(), 1, "{name}");
        let session = catalog.begin_session(&new_session(noon()));
        catalog.vm_backup(session.stamp(noon()), &VmBackup::new("gold1", VmStatus::Success));
        assert_eq!(catalog.last_success("gold1").unwrap().unwrap().at, Some(noon()), "{name}");
        let verdict: String = tree.sql().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok", "{name}");
        drop(session);
        drop(catalog);
        assert_eq!(tree.state(), ["vmbackup.db", "vmbackup.db.corrupt-20261123T120000Z"], "{name}");
        // Again, in the same second.
        damage(&tree.file());
        drop(tree.open());
        assert_eq!(tree.state().len(), 3, "{name}: {:?}", tree.state());
    }
}
