//! Rows that could not be written while their session went on.

use lab::{DiskSpec, Lab};

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
