//! The life of one backup, whatever its disks are read from.
//!
//! ```text
//! prepare ─► claim ─► begin ─► copy ─► end ─► commit
//!              └─ any failure: what is claimed is undone ─┘
//! ```
//! Must not live here: how a step is done.

use crate::engine::BackupError;
use crate::engine::claims::owned::Owned;
use crate::engine::fail_point::FailPoint;
use crate::engine::look::observe::Observed;
use crate::engine::run::closed::Closed;
use crate::engine::run::commit::commit;
use crate::engine::run::contained::contained;
use crate::engine::run::facts::Facts;
use crate::engine::run::prepare::prepare;
use crate::engine::run::request::{Backup, Request};
use crate::engine::run::running::Running;
use crate::engine::run::source::Source;
use crate::engine::run::undo;
use crate::engine::snapshot::identity::Identity;
use vmplan::Plan;

/// Takes a backup. On any failure everything is as it was before.
///
/// `started` is what is owned of a domain that was started for it, which whoever started it ends or undoes.
pub(super) fn take(
    request: Request<'_>,
    observed: &Observed,
    plan: &Plan,
    started: Option<&mut Owned<'_>>,
    facts: &mut Facts,
) -> Result<(), BackupError> {
    let (backup, identity) = facts.add(prepare(request, observed, plan, facts.every_disk()))?;
    let journal = backup.journal(&identity);
    if let Some(owned) = started {
        owned.go_on_with(journal)?;
        return take_owned(&backup, identity, owned, facts);
    }
    let mut owned = request.engine.own(request.vm, journal)?;
    let done = contained(|| take_owned(&backup, identity, &mut owned, facts));
    let late = undo::end(owned, done, request.vm.domain.host())?;
    late.into_iter().for_each(|late| facts.warn(late));
    Ok(())
}

/// Takes a backup that owns what its journal names.
fn take_owned(
    backup: &Backup<'_>,
    mut identity: Identity,
    owned: &mut Owned<'_>,
    facts: &mut Facts,
) -> Result<(), BackupError> {
    backup.engine.fail_points.at(FailPoint::JournalWritten);
    let mut source: Box<dyn Source<'_> + '_> = match backup.point.checkpoint() {
        Some(checkpoint) => Box::new(Running { backup, checkpoint }),
        None => Box::new(Closed::new(backup, None)),
    };
    facts.add(source.begin(&mut identity, owned))?;
    let copied = match facts.add(source.copy(owned)) {
        Ok(copied) => copied,
        Err(error) => {
            // The VM was shut down, and its job is gone with its QEMU.
            let mut heir = source.heir(error, owned)?;
            facts.add(heir.begin(&mut identity, owned))?;
            let copied = facts.add(heir.copy(owned))?;
            facts.add(heir.end(owned))?;
            copied
        }
    };
    let images = facts.add(source.end(owned))?;
    facts.add(commit(backup, copied, images, identity, facts.every_disk(), owned))
}
