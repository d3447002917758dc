//! What the steps of a backup are told.

use crate::engine::cancel::Cancel;
use crate::engine::claims::journal::Journal;
use crate::engine::failure::Changed;
use crate::engine::look::observe::Observed;
use crate::engine::plan::job::JobPlan;
use crate::engine::plan::point_identity::PointIdentity;
use crate::engine::run::engine::Engine;
use crate::engine::snapshot::identity::Identity;
use crate::engine::watch::Watch;
use crate::engine::{BackupError, VmTarget};
use vmhost::guest::Guest;
use vmplan::Plan;

/// One domain, to be backed up.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) engine: &'a Engine,
    pub(super) vm: &'a VmTarget,
    pub(super) watch: &'a dyn Watch,
    pub(super) cancel: &'a Cancel,
}

/// A backup that is decided in all its parts.
pub(super) struct Backup<'a> {
    pub(super) engine: &'a Engine,
    pub(super) vm: &'a VmTarget,
    pub(super) watch: &'a dyn Watch,
    pub(super) cancel: &'a Cancel,
    pub(super) observed: &'a Observed,
    pub(super) plan: &'a Plan,
    /// Which point is made.
    pub(super) point: PointIdentity,
    /// What is in it of each disk.
    pub(super) content: JobPlan<'a>,
    /// The guest, if its agent answers.
    pub(super) guest: Option<Guest<'a>>,
}

impl Backup<'_> {
    /// What it will own.
    pub(super) fn journal(&self, identity: &Identity) -> Journal {
        let mut journal = self.content.journal(self.engine.new_run(), self.vm, self.observed, &self.point);
        journal.add_partial(identity.partial_names(&self.point.id.ident()));
        journal
    }

    /// The error of a domain that is not what it was.
    pub(super) fn changed(&self, what: &str) -> BackupError {
        Changed { domain: self.vm.domain.name().to_owned(), what: what.to_owned() }.into()
    }
}
