//! The life of one backup, whatever its disks are read from.
//!
//! ```text
//! prepare ─► claim ─► begin ─► copy ─► end ─► commit
//!              └─ any failure: what is claimed is undone ─┘
//! ```
//! Must not live here: how a step is done.

use crate::engine::BackupError;
use crate::engine::claims::claimed::Claims;
use crate::engine::commit::CommitError;
use crate::engine::fail_point::FailPoint;
use crate::engine::look::image_state::StillImages;
use crate::engine::look::observe::Observed;
use crate::engine::run::closed::Closed;
use crate::engine::run::commit::commit;
use crate::engine::run::contained::contained;
use crate::engine::run::definition::DefinitionAlone;
use crate::engine::run::facts::Facts;
use crate::engine::run::prepare::prepare;
use crate::engine::run::request::{Backup, Request};
use crate::engine::run::running::Running;
use crate::engine::run::source::Source;
use crate::engine::run::undo;
use crate::engine::snapshot::identity::Identity;
use vmplan::Plan;
use vmstream::new_point::PointFolder;

/// Takes a backup. On any failure everything is as it was before.
///
/// `started` is what is claimed of a domain that was started for it, which whoever started it ends or undoes.
pub(super) fn take(
    request: Request<'_>,
    observed: &Observed,
    plan: &Plan,
    started: Option<&mut Claims<'_>>,
    facts: &mut Facts,
) -> Result<(), BackupError> {
    let (backup, identity) = facts.add(prepare(request, observed, plan, facts.every_disk()))?;
    let journal = backup.journal(&identity);
    if let Some(claims) = started {
        claims.go_on_with(journal)?;
        return take_claimed(&backup, identity, claims, facts);
    }
    let mut claims = request.engine.claim(request.vm, journal)?;
    let done = contained(|| take_claimed(&backup, identity, &mut claims, facts));
    let late = undo::end(claims, done, request.vm.domain.host())?;
    late.into_iter().for_each(|late| facts.warn(late));
    Ok(())
}

/// Takes a backup whose claims are what its journal names.
fn take_claimed(
    backup: &Backup<'_>,
    mut identity: Identity,
    claims: &mut Claims<'_>,
    facts: &mut Facts,
) -> Result<(), BackupError> {
    backup.engine.fail_points.at(FailPoint::JournalWritten);
    let folder = PointFolder::beside(&backup.vm.chain_dir).map_err(CommitError::from)?;
    let mut source: Box<dyn Source<'_> + '_> = match backup.observed.seen.active {
        true if backup.content.is_job => Box::new(Running { backup, checkpoint: backup.point.checkpoint() }),
        true => Box::new(DefinitionAlone),
        false => Box::new(Closed::new(backup, None)),
    };
    facts.add(source.begin(&mut identity, claims))?;
    let copied = match facts.add(source.copy(claims)) {
        Ok(copied) => copied,
        Err(error) => {
            // The VM was shut down, and its job is gone with its QEMU.
            let mut heir = source.heir(error, claims)?;
            facts.add(heir.begin(&mut identity, claims))?;
            let copied = facts.add(heir.copy(claims))?;
            facts.add(heir.end(claims))?;
            copied
        }
    };
    let images = facts.add(source.end(claims))?;
    let still = images.map(|images| StillImages { images, damaged: facts.damaged() });
    facts.add(commit(backup, &folder, (copied, still), identity, facts.every_disk(), claims))
}
