//! A session as it is written down while it goes on: its row in the database, and the file with the parts of its value.

use super::context::Context;
use super::opened::Opened;
use super::replication::{mail, replication};
use crate::catalog::{SessionId, SessionRow, Stamp};
use crate::clock::Clock;
use crate::session::{self, Records};
use vmreport::{Part, PartsFile, SessionEnd, SessionHead, SessionKind, SessionReport, SessionStatus};

/// A session that has begun. Ends as failed when it is dropped.
pub(super) struct SessionRecord<'a> {
    opened: &'a Opened,
    /// `None` once it has ended.
    row: Option<SessionRow<'a>>,
    parts: Option<PartsFile>,
    head: SessionHead,
    clock: Clock,
}

impl<'a> SessionRecord<'a> {
    /// Begins the row and the file.
    pub(super) fn begin(context: &Context, opened: &'a Opened, kind: SessionKind) -> Self {
        let began = context.clock.now();
        let row = opened.begin_row(context, kind);
        context.call.of_session(row.id());
        session::take_over(&opened.state, &opened.catalog, row.id());
        let head = SessionHead {
            id: row.id().map(|id| id.0),
            kind,
            instance: context.arguments.instance.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            began,
            log_file: opened.log_file.clone(),
            replication: replication(&context.loaded.unserved),
            mail: mail(&context.loaded.unserved),
        };
        let parts = session::keep_parts(&opened.state, &SessionReport::begin(head.clone()));
        Self { opened, row: Some(row), parts, head, clock: context.clock }
    }

    /// What is known of it when it begins.
    pub(super) fn head(&self) -> &SessionHead {
        &self.head
    }

    /// Its number. `None` when there is no database.
    pub(super) fn id(&self) -> Option<SessionId> {
        self.row.as_ref().and_then(SessionRow::id)
    }

    /// Who writes, for rows of this session.
    pub(super) fn stamp(&self) -> Stamp {
        Stamp { session: self.id(), at: self.clock.now() }
    }

    /// Where it is written down.
    pub(super) fn records(&self) -> Records<'_> {
        Records { catalog: &self.opened.catalog, session: self.id(), parts: self.parts.as_ref() }
    }

    /// Adds a part.
    pub(super) fn part(&self, part: &Part) {
        self.records().part(part);
    }

    pub(super) fn end(mut self, status: SessionStatus) -> SessionEnd {
        self.finish(status)
    }

    fn finish(&mut self, status: SessionStatus) -> SessionEnd {
        let end = SessionEnd { at: self.clock.now(), status };
        if let Some(row) = self.row.take() {
            row.end(status, end.at);
            self.part(&Part::End(end.clone()));
        }
        end
    }
}

impl Drop for SessionRecord<'_> {
    fn drop(&mut self) {
        self.finish(SessionStatus::Failed);
    }
}
