//! Rows that could not be written while their session went on.

use lab::{DiskSpec, Lab};

use super::tree::{Tree, new_session, noon};

const MIB: u64 = 1 << 20;

#[test]
fn rows_that_a_reader_kept_out_are_written_by_the_next_session() {
    let lab = Lab::configured("late_rows");
    let vm = lab.paused_vm("read", &[DiskSpec::new("vda", 2 * MIB)]);
    let back_up = |number: u8| {
        vm.write("vda", u64::from(number) * 4096, 4096, number).expect("a write");
        lab.run_well(&vm)
    };
    back_up(1);
    // Somebody reads in one transaction, from before the run to after it.
    let database = lab.database();
    let reading = database.unchecked_transaction().expect("a transaction");
    let count = "SELECT COUNT(*) FROM vm_backups";
    assert_eq!(reading.query_row(count, [], |row| row.get::<_, u32>(0)).expect("a count"), 1);
    let ended = back_up(2);
    assert!(ended.log.contains("database is locked"), "{}", ended.log);
    drop(reading);
    assert_eq!(lab.ask(count), ["1"], "the rows are missing");
    let ended = back_up(3);
    assert!(ended.log.contains("The database lacked what became of session"), "{}", ended.log);
    let ended = back_up(4);
    assert!(!ended.log.contains("The database lacked"), "{}", ended.log);
    assert_eq!(
        lab.ask("SELECT backup_type FROM vm_backups ORDER BY created_at"),
        ["full", "auto", "auto", "auto"]
    );
    assert_eq!(lab.ask("SELECT status FROM sessions"), ["success"; 4]);
    let joined = "SELECT COUNT(DISTINCT s.id), SUM(vms_success) FROM sessions s JOIN vm_backups b ON b.session_id = s.id";
    assert_eq!(lab.ask(joined), ["4|4"]);
}

#[test]
fn a_reader_that_keeps_an_older_database_from_being_brought_up_to_date_costs_rows_for_a_while() {
    let lab = Lab::configured("late_upgrade");
    let vm = lab.paused_vm("read", &[DiskSpec::new("vda", 2 * MIB)]);
    let back_up = |number: u8| {
        vm.write("vda", u64::from(number) * 4096, 4096, number).expect("a write");
        lab.run_well(&vm)
    };
    back_up(1);
    let database = lab.database();
    // As a program of before left it.
    let older = "ALTER TABLE sessions DROP COLUMN session_type; UPDATE schema_info SET value = '1.9' WHERE key = 'version'";
    database.execute_batch(older).expect("it is ours");
    let reading = database.unchecked_transaction().expect("a transaction");
    let version = "SELECT value FROM schema_info WHERE key = 'version'";
    assert_eq!(reading.query_row(version, [], |row| row.get::<_, String>(0)).expect("a version"), "1.9");
    let ended = back_up(2);
    assert!(ended.log.contains("database is locked. Backups go on without"), "{}", ended.log);
    drop(reading);
    assert_eq!(lab.ask(version), ["1.9"], "all of the change or nothing");
    let ended = back_up(3);
    assert!(ended.log.contains("The database lacked what became of session"), "{}", ended.log);
    assert_eq!(lab.ask(version), ["2.0"]);
    assert_eq!(lab.ask("SELECT status FROM sessions"), ["success"; 3]);
    assert_eq!(lab.ask("SELECT COUNT(*) FROM vm_backups"), ["3"]);
}

#[test]
fn the_row_of_a_session_without_a_number_is_that_of_no_other_session_of_its_second() {
    let tree = Tree::empty();
    let catalog = tree.open();
    let new = new_session(noon());
    let other = catalog.begin_session(&new).id().expect("a number");
    let row_of =
        |id, others: &[_]| catalog.session_row(id, &new, others).expect("rows").map(|(found, _)| found);
    assert_eq!(row_of(None, &[other]), None);
    let late = catalog.late_session(&new).expect("a number");
    assert_eq!((row_of(None, &[other]), row_of(None, &[other, late])), (Some(late), None));
    assert_eq!(row_of(Some(other), &[other, late]), Some(other));
}
