//! The value of a session: who it was, what became of each VM, how it ended.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};

use super::counts::Totals;
use super::host_config::HostConfigReport;
use super::prune::{PruneReport, Removal};
use super::vm::VmReport;

/// The version of the value. Members may be added; none goes or changes its meaning without a new number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Schema {
    #[default]
    #[serde(rename = "vmbackup/session/1")]
    V1,
}

/// What a session was for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, EnumString, IntoStaticStr, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum SessionKind {
    /// A run over all VMs.
    Standard,
    /// A run over VMs that were named.
    Targeted,
    /// Only replication.
    ReplicateOnly,
    /// Only deleting.
    Prune,
}

impl SessionKind {
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The value of a word. `None` for a word of somebody else.
    pub fn of_word(word: &str) -> Option<Self> {
        word.parse().ok()
    }

    /// The word for it, also in the database.
    pub fn word(self) -> &'static str {
        self.into()
    }
}

/// How a session stands or ended.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, EnumString, IntoStaticStr, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum SessionStatus {
    /// It has not ended.
    Running,
    /// Nothing failed.
    Success,
    /// Some VMs failed, some were backed up.
    Partial,
    /// It could not do its work.
    Failed,
    /// Stopped from the keyboard, or its process died.
    Interrupted,
    /// Stopped by SIGTERM.
    Killed,
}

impl SessionStatus {
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The value of a word. `None` for a word of somebody else.
    pub fn of_word(word: &str) -> Option<Self> {
        word.parse().ok()
    }

    /// The status after VMs were backed up and VMs failed.
    pub fn of_counts(backed_up: usize, failed: usize) -> Self {
        match (backed_up, failed) {
            (_, 0) => Self::Success,
            (0, _) => Self::Failed,
            _ => Self::Partial,
        }
    }

    /// The status of a session that a signal stopped.
    pub fn of_signal(number: i32) -> Self {
        const SIGTERM: i32 = 15;
        if number == SIGTERM { Self::Killed } else { Self::Interrupted }
    }

    /// The word for it, also in the database.
    pub fn word(self) -> &'static str {
        self.into()
    }
}

/// What is known of a session when it begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionHead {
    /// Its number in the database; `None` without one.
    pub id: Option<i64>,
    pub kind: SessionKind,
    /// The name of the configuration.
    pub instance: String,
    /// Version of the program.
    pub version: String,
    /// When it began.
    pub began: Timestamp,
    /// The log of all sessions.
    pub log_file: PathBuf,
    /// The replications that the configuration names.
    pub replication: Replication,
    /// The mail that it names.
    #[serde(default)]
    pub mail: ReplicationState,
}

/// What became of replication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replication {
    /// To places that are mounted or reached by ssh.
    pub local: ReplicationState,
    /// To object stores.
    pub cloud: ReplicationState,
}

/// What became of one kind of replication, or of the mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicationState {
    /// Nobody asked for it.
    #[default]
    NotConfigured,
    /// It is asked for, and this version cannot do it.
    NotServed,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEnd {
    pub at: Timestamp,
    pub status: SessionStatus,
}

/// What a session did. The sum of its parts, in whatever order they came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionReport {
    /// The version of this value.
    pub schema: Schema,
    /// Who it was.
    pub session: SessionHead,
    /// What became of each VM that has ended.
    pub vms: Vec<VmReport>,
    /// What became of the host's own configuration; `None` when it did not come to that.
    pub host_config: Option<HostConfigReport>,
    /// What was deleted because a person asked for it; `None` in other sessions.
    pub prune: Option<PruneReport>,
    /// How it ended; `None` while it runs, and for ever when it was killed.
    pub end: Option<SessionEnd>,
}

/// The same as the answer to whoever asked for the session: the frame of a [`Document`](crate::Document) has the schema.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SessionAnswer<'a> {
    pub session: &'a SessionHead,
    pub vms: &'a [VmReport],
    pub host_config: &'a Option<HostConfigReport>,
    pub prune: &'a Option<PruneReport>,
    pub end: &'a Option<SessionEnd>,
    /// What it came to.
    pub totals: Totals,
}

/// What a session says of itself at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    Begin {
        /// The version of all parts.
        schema: Schema,
        /// Who it is.
        session: Box<SessionHead>,
    },
    /// A VM has ended.
    Vm(Box<VmReport>),
    /// The host's configuration was looked at.
    HostConfig(HostConfigReport),
    /// It is decided what goes because a person asks for it.
    Prune(PruneReport),
    /// Something of that is gone, or cannot be removed.
    Removal(Removal),
    End(SessionEnd),
}

impl SessionHead {
    /// What the configuration asks for and this version cannot do.
    pub fn not_served(&self) -> Vec<&'static str> {
        let asked = [
            ("local replication", self.replication.local),
            ("cloud replication", self.replication.cloud),
            ("mail", self.mail),
        ];
        let unserved = asked.into_iter().filter(|(_, state)| *state == ReplicationState::NotServed);
        unserved.map(|(what, _)| what).collect()
    }
}

impl SessionReport {
    /// A session that has just begun.
    pub fn begin(session: SessionHead) -> Self {
        Self { schema: Schema::V1, session, vms: vec![], host_config: None, prune: None, end: None }
    }

    /// It as an answer.
    pub fn answer(&self) -> SessionAnswer<'_> {
        let Self { schema: Schema::V1, session, vms, host_config, prune, end } = self;
        SessionAnswer { session, vms, host_config, prune, end, totals: Totals::of(vms) }
    }

    /// Adds what it did. A second beginning replaces the first.
    pub fn add(&mut self, part: Part) {
        match part {
            Part::Begin { schema, session } => (self.schema, self.session) = (schema, *session),
            Part::Vm(vm) => self.vms.push(*vm),
            Part::HostConfig(host_config) => self.host_config = Some(host_config),
            Part::Prune(prune) => self.prune = Some(prune),
            Part::Removal(removal) => self.prune.get_or_insert_default().removals.push(removal),
            Part::End(end) => self.end = Some(end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(document: &serde_json::Value) -> String {
        lab::schema::complaints("vmbackup-session-1", document)
    }

    #[test]
    fn the_value_is_as_its_schema_says() {
        let whole = crate::draw::literal::session();
        let mut document = serde_json::to_value(&whole).unwrap();
        assert_eq!(complaints(&document), "");
        assert_eq!(serde_json::from_value::<SessionReport>(document.clone()).unwrap(), whole);
        let begun = SessionReport::begin(whole.session);
        assert_eq!(complaints(&serde_json::to_value(begun).unwrap()), "");
        // A validator that finds nothing would find these.
        document["vms"][0]["report"]["more"] = serde_json::Value::Null;
        assert!(complaints(&document).contains("report"), "{}", complaints(&document));
        document["vms"] = serde_json::json!([]);
        document["schema"] = "vmbackup/session/2".into();
        assert!(complaints(&document).contains("schema"));
    }

    #[test]
    fn words_are_those_of_the_json() {
        let word = |value: serde_json::Value| value.as_str().unwrap().to_owned();
        for kind in SessionKind::ALL {
            assert_eq!(word(serde_json::to_value(kind).unwrap()), kind.word());
        }
        for status in SessionStatus::ALL {
            assert_eq!(word(serde_json::to_value(status).unwrap()), status.word());
        }
    }
}
