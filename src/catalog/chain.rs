//! Rows of `chain_health`: what is known of the chain of each VM and period. The points of its folder are written anew
//! with each of them.

use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Transaction, params};

use super::handle::Catalog;
use super::stamp::utc;
use super::vm_backup::integer;
use super::words::words;
use vmconfig::value::RotationPolicy;

words! {
    /// What is known of the chain of a period.
    ChainStatus {
        /// It can go on.
        Active = "active",
        /// It was moved away.
        Archived = "archived",
        /// Not all of it can be restored.
        Broken = "broken",
        /// Retention deleted it.
        Deleted = "deleted",
        /// Somebody deleted it by hand.
        Purged = "purged",
    }
}

words! {
    /// Who deleted.
    Remover {
        /// Retention of the current policy.
        Retention = "retention",
        /// A person, with `--prune`.
        Prune = "prune",
        /// Retention of what an earlier policy left.
        OrphanRetention = "orphan_retention",
    }
}

/// A chain as it stands after a backup.
#[derive(Clone, Copy, Debug)]
pub struct ChainHealth<'a> {
    pub vm: &'a str,
    /// The period, `accumulate` for a chain without periods.
    pub period: &'a str,
    pub folder: &'a Path,
    /// The policy it was made under.
    pub policy: RotationPolicy,
    /// Restore points that belong to it.
    pub points: u64,
    /// Those of them that can be restored.
    pub restorable: u64,
    /// The first one's date.
    pub first: Option<Timestamp>,
    /// The last one's date.
    pub last: Option<Timestamp>,
}

impl Catalog {
    /// The chain is sound, after a backup or a look at it.
    pub fn chain_active(&self, chain: &ChainHealth<'_>, at: Timestamp) {
        self.health(chain, ChainStatus::Active, None, at);
    }

    /// A backup failed; the chain is as it was.
    pub fn chain_failed(&self, chain: &ChainHealth<'_>, why: &str, at: Timestamp) {
        let why = format!("backup_failed: {why}");
        self.health(chain, ChainStatus::Active, Some(&why), at);
    }

    /// Points of the chain are lost: `chain.restorable` is the place of the first one.
    pub fn chain_broken(&self, chain: &ChainHealth<'_>, why: &str, at: Timestamp) {
        self.health(chain, ChainStatus::Broken, Some(why), at);
    }

    fn health(&self, chain: &ChainHealth<'_>, status: ChainStatus, why: Option<&str>, at: Timestamp) {
        self.write(|transaction| upsert(transaction, chain, status, why, at));
        self.points_changed(chain.vm, chain.period, chain.folder);
    }

    /// The chain was moved to `folder`, which holds `bytes` now.
    pub fn chain_archived(&self, vm: &str, period: &str, folder: &Path, bytes: u64, at: Timestamp) {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE chain_health SET chain_status = 'archived', chain_location = ?3, archived_at = ?4,
                     archive_size_bytes = ?5, updated_at = ?4 WHERE vm_name = ?1 AND period_id = ?2",
                params![vm, period, folder.to_string_lossy(), utc(at), integer(bytes)],
            )
        });
        self.points_changed(vm, period, folder);
    }

    /// Keeps the period, with its archives, from retention and prune, until a person releases it.
    pub fn protect(&self, vm: &str, period: &str, at: Timestamp) {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE chain_health SET purge_eligible = 0, updated_at = ?3 WHERE vm_name = ?1 AND period_id = ?2",
                params![vm, period, utc(at)],
            )
        });
    }

    /// The period was deleted.
    pub fn chain_removed(&self, vm: &str, period: &str, folder: &Path, by: Remover, at: Timestamp) {
        let (status, reason) = match by {
            Remover::Retention => (ChainStatus::Deleted, "retention"),
            Remover::OrphanRetention => (ChainStatus::Deleted, "retention_orphan"),
            Remover::Prune => (ChainStatus::Purged, "prune"),
        };
        let at = utc(at);
        let deleted = (status == ChainStatus::Deleted).then_some(&at);
        let purged = (status == ChainStatus::Purged).then_some(&at);
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO chain_health (vm_name, period_id, chain_location, chain_status, break_reason, marked_by,
                     deleted_at, purged_at, created_at, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, ?8, ?8)
                 ON CONFLICT(vm_name, period_id) DO UPDATE SET chain_status = ?4, restorable_count = 0,
                     break_reason = ?5, marked_by = ?5, deleted_at = ?6, purged_at = ?7, updated_at = ?8",
                params![vm, period, folder.to_string_lossy(), status, reason, deleted, purged, at],
            )
        });
        self.points_gone(folder);
    }
}

/// A chain that is there again is neither deleted nor marked. Whether it may be deleted stays: that a person decides.
fn upsert(
    transaction: &Transaction<'_>,
    chain: &ChainHealth<'_>,
    status: ChainStatus,
    why: Option<&str>,
    at: Timestamp,
) -> rusqlite::Result<usize> {
    let broken_at = (status == ChainStatus::Broken).then_some(integer(chain.restorable));
    transaction.execute(
        "INSERT INTO chain_health (vm_name, period_id, chain_location, chain_status, rotation_policy,
             total_checkpoints, restorable_count, broken_at, break_reason, first_backup, last_backup,
             created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12)
         ON CONFLICT(vm_name, period_id) DO UPDATE SET chain_location = ?3, chain_status = ?4,
             rotation_policy = ?5, total_checkpoints = ?6, restorable_count = ?7, broken_at = ?8, break_reason = ?9,
             first_backup = COALESCE(?10, first_backup), last_backup = COALESCE(?11, last_backup),
             deleted_at = NULL, purged_at = NULL, marked_at = NULL, marked_by = NULL, updated_at = ?12",
        params![
            chain.vm,
            chain.period,
            chain.folder.to_string_lossy(),
            status,
            chain.policy.as_str(),
            integer(chain.points),
            integer(chain.restorable),
            broken_at,
            why,
            chain.first.map(utc),
            chain.last.map(utc),
            utc(at),
        ],
    )
}
