//! Filling the database from the backups on disk: a new one, and one in which we have not written before.
//!
//! Rows that are there stay as they are. What the disk cannot tell (who ran when, what failed) is not made up.

use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use vmstore::Store;

use super::chain::ChainStatus;
use super::handle::in_transaction;
use super::points;
use super::stamp::utc;
use super::tree::{self, ChainFolder};
use super::vm_backup::integer;

/// In `schema_info`: that the disk was read, and when.
pub(super) const DONE: &str = "restore_points_read";

/// What was found on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) chains: usize,
    pub(super) points: usize,
}

/// Fills the database once in its life. All or nothing: one that was killed is repeated. `None` when it was done before.
pub(super) fn fill(
    database: &mut Connection,
    backup_path: &Path,
    now: Timestamp,
) -> rusqlite::Result<Option<Found>> {
    let done = "SELECT 1 FROM schema_info WHERE key = ?1";
    if database.query_row(done, [DONE], |_| Ok(())).optional()?.is_some() {
        return Ok(None);
    }
    in_transaction(database, |transaction| {
        let mut found = Found::default();
        // One VM at a time: a large tree need not be in memory.
        for vm in Store::open(backup_path).vms().flatten() {
            let chains = tree::chains_of(&vm);
            for (at, chain) in chains.iter().enumerate() {
                found.chains += 1;
                found.points += chain.points.len();
                let name = chain.folder.strip_prefix(backup_path).unwrap_or(&chain.folder);
                points::replace(
                    transaction,
                    &chain.vm,
                    &chain.period,
                    &name.to_string_lossy(),
                    &chain.points,
                )?;
                // The row of a period is about its last chain: its own, or else the newest archived one.
                let of_period =
                    |other: &ChainFolder| (&other.vm, &other.period) == (&chain.vm, &chain.period);
                if !chains[at + 1..].iter().any(of_period) {
                    insert_health(transaction, chain, now)?;
                }
            }
        }
        transaction.execute("INSERT INTO schema_info (key, value) VALUES (?1, ?2)", (DONE, utc(now)))?;
        Ok(Some(found))
    })
}

/// The row of a period that has none.
fn insert_health(
    transaction: &Transaction<'_>,
    chain: &ChainFolder,
    now: Timestamp,
) -> rusqlite::Result<usize> {
    let (total, restorable) = (chain.points.len(), chain.restorable());
    let status = match (restorable == total, chain.archived) {
        (false, _) => ChainStatus::Broken,
        (true, true) => ChainStatus::Archived,
        (true, false) => ChainStatus::Active,
    };
    let first_lost = chain.points.iter().position(|point| !point.restorable);
    let (first, last) = chain.dates();
    transaction.execute(
        "INSERT OR IGNORE INTO chain_health (vm_name, period_id, chain_location, chain_status, rotation_policy,
             total_checkpoints, restorable_count, broken_at, break_reason, first_backup, last_backup,
             created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12)",
        params![
            chain.vm,
            chain.period,
            chain.folder.to_string_lossy(),
            status,
            chain.policy.as_str(),
            integer(total as u64),
            integer(restorable as u64),
            first_lost.map(|at| integer(at as u64)),
            first_lost.map(|_| "streams are missing or damaged"),
            first.map(utc),
            last.map(utc),
            utc(now),
        ],
    )
}
