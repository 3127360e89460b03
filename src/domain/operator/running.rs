//! The actions of an operator on the running parts, and their results.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::domain::clock::UnixMillis;
use crate::domain::event::{Environment, EventId};

/// The beginning of a backfill that an operator starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackfillFrom {
    /// With events that were created at this time.
    Time(UnixMillis),
    /// After this event.
    After(EventId),
}

/// The time as RFC 3339, or the event's id.
impl fmt::Display for BackfillFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(at) => humantime::format_rfc3339_millis((*at).into()).fmt(f),
            Self::After(id) => id.fmt(f),
        }
    }
}

/// A command of an operator to a running stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamCommand {
    /// Open a new connection now.
    Reconnect,
    /// Compare Pepay's list from this place on with the store.
    Backfill(BackfillFrom),
}

/// The result of a test event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TestOutcome {
    /// The made-up id of the event.
    pub event_id: String,
    /// Whether the target answered 2xx.
    pub acknowledged: bool,
    /// The target's HTTP status, if it answered.
    pub status: Option<u16>,
    /// The time from the beginning of the connection to the head of the answer, in milliseconds.
    pub duration_ms: u64,
    /// The error, without any secret; `None` on success.
    pub error: Option<String>,
}

/// The comparison of the stored event with Pepay's event of the same id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// The event's id.
    pub event_id: String,
    /// The result.
    pub outcome: Agreement,
    /// The parts that differ; empty unless `outcome` is `different`.
    pub differs: Vec<Part>,
    /// The account that was used: `streams.<name>` or `pepay`.
    pub asked_as: String,
}

/// Whether Pepay and the bridge have the same event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Agreement {
    /// Type, creation time and data are the same.
    Equal,
    /// At least one of these differs.
    Different,
    /// Pepay has no event of this id.
    Unknown,
}

/// A compared part of an event. `data` is compared by its meaning, not by its notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Its type.
    Type,
    /// When it was created.
    Created,
    /// Its data.
    Data,
}

/// Why an action on a running part was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// There is no part of this name.
    #[error("there is none of this name")]
    Unknown,
    /// The part is doing the same already.
    #[error("it is doing that already")]
    Busy,
    /// Another replica has the part, and cannot be asked.
    #[error("another replica has it")]
    Elsewhere,
    /// The action cannot be done, for this reason.
    #[error("{0}")]
    Refused(String),
    /// Pepay did not answer the question, for this reason, in Pepay's words if there are any.
    #[error("asking Pepay failed: {0}")]
    Pepay(String),
    /// The store cannot write the action now, for this reason.
    #[error("{0}")]
    Unavailable(String),
}

/// The key of a target's configuration that leaves an event out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mismatch {
    /// `types`.
    Types,
    /// `environment`.
    Environment,
    /// `where`.
    Where,
}

/// Whether a target takes an event by the present configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Routing {
    /// The name of the target.
    pub target: String,
    /// The key that leaves the event out; null if it matches.
    pub mismatch: Option<Mismatch>,
}

impl TargetInfo {
    /// Returns the entry of a target that was removed from the configuration.
    pub fn removed(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            url: String::new(),
            types: Vec::new(),
            signed: false,
            headers: Vec::new(),
            environment: None,
            condition: BTreeMap::new(),
            ordering: "none",
            concurrency: 0,
        }
    }
}

/// A target as it is configured, without any secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TargetInfo {
    /// Whether requests are signed.
    pub signed: bool,
    /// The names of the configured headers; their values are secrets.
    pub headers: Vec<String>,
    /// Its configured name.
    pub name: String,
    /// The URL to which events are posted, without user, password and query.
    pub url: String,
    /// The event types it receives.
    pub types: Vec<String>,
    /// The network environment of the events it receives; null receives events of any environment and
    /// of none.
    pub environment: Option<Environment>,
    /// The further condition on an event: values by their paths.
    #[serde(rename = "where")]
    pub condition: BTreeMap<String, String>,
    /// `per_object`, `per_order` or `none`.
    pub ordering: &'static str,
    /// Attempts on the wire at the same time.
    pub concurrency: usize,
}
