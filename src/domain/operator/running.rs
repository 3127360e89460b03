//! What an operator asks of the running parts, and what they answer: plain values.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::domain::clock::UnixMillis;
use crate::domain::event::{Environment, EventId};

/// Where a backfill that an operator asks for begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackfillFrom {
    /// With what was created at this time.
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

/// What came of a test event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TestOutcome {
    /// The made-up id it was sent with.
    pub event_id: String,
    /// Whether the target answered 2xx.
    pub acknowledged: bool,
    /// The target's HTTP status, where it answered.
    pub status: Option<u16>,
    /// From the beginning of the connection to the head of the answer, in milliseconds.
    pub duration_ms: u64,
    /// What went wrong, without any secret; `None` on success.
    pub error: Option<String>,
}

/// What Pepay has under an event's id, beside what the bridge holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// The event's id.
    pub event_id: String,
    /// What the comparison came to.
    pub outcome: Agreement,
    /// What differs; empty unless `outcome` is `different`.
    pub differs: Vec<Part>,
    /// Whose key asked: `streams.<name>` or `pepay`.
    pub asked_as: String,
}

/// Whether Pepay and the bridge hold the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Agreement {
    /// Type, creation time and data are the same.
    Equal,
    /// One of them is not.
    Different,
    /// Pepay knows of no event of this id.
    Unknown,
}

/// A part of an event that is compared. Of `data` counts what it means, not how
/// it is written.
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

/// Why a running part did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// There is no part of this name.
    #[error("there is none of this name")]
    Unknown,
    /// It is doing the same already.
    #[error("it is doing that already")]
    Busy,
    /// Another replica does this, and it cannot be asked.
    #[error("another replica has it")]
    Elsewhere,
    /// It cannot be done; says why.
    #[error("{0}")]
    Refused(String),
    /// Pepay did not say what it was asked for; says why, in its own words where it has any.
    #[error("asking Pepay failed: {0}")]
    Pepay(String),
    /// The store cannot keep the decision now; says why.
    #[error("{0}")]
    Unavailable(String),
}

/// Which key of a target leaves an event out.
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

/// How one target takes an event, as it is configured now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Routing {
    /// The name of the target.
    pub target: String,
    /// The key that leaves the event out; null if it matches.
    pub mismatch: Option<Mismatch>,
}

impl TargetInfo {
    /// A target that is not configured any more.
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
    /// Where events are posted, without user, password and query.
    pub url: String,
    /// The event types it receives.
    pub types: Vec<String>,
    /// The network environment it receives events of; null is any, and none known.
    pub environment: Option<Environment>,
    /// What it asks of an event beside that: values by their paths.
    #[serde(rename = "where")]
    pub condition: BTreeMap<String, String>,
    /// `per_object`, `per_order` or `none`.
    pub ordering: &'static str,
    /// Attempts on the wire at the same time.
    pub concurrency: usize,
}
