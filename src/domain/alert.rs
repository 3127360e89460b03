//! Alerts to an operator: states of the bridge that do not heal by themselves, or not soon.

use std::fmt;

use serde::Serialize;

use super::clock::UnixMillis;

/// The kind of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A target has dead deliveries.
    Dead,
    /// A target has held deliveries.
    Held,
    /// A target refuses everything.
    Rejecting,
    /// A target's breaker is open.
    TargetDown,
    /// A stream brings no events.
    StreamDown,
    /// A stream has a gap that Pepay can no longer fill.
    Gap,
    /// Another event came under a known id.
    Conflict,
    /// The disk of the store is nearly full.
    Disk,
    /// A source brings nothing while the other one does.
    SourceQuiet,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Dead,
        Self::Held,
        Self::Rejecting,
        Self::TargetDown,
        Self::StreamDown,
        Self::Gap,
        Self::Conflict,
        Self::Disk,
        Self::SourceQuiet,
    ];

    /// Returns the name in the configuration and in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Held => "held",
            Self::Rejecting => "rejecting",
            Self::TargetDown => "target_down",
            Self::StreamDown => "stream_down",
            Self::Gap => "gap",
            Self::Conflict => "conflict",
            Self::Disk => "disk",
            Self::SourceQuiet => "source_quiet",
        }
    }

    /// Returns whether it is an occurrence, and not a state that ends.
    pub const fn is_occurrence(self) -> bool {
        matches!(self, Self::Gap | Self::Conflict)
    }

    /// Returns whether a replica finds only its own. The others are found by every replica that
    /// shares the store, and one sends them for all.
    pub const fn is_of_one_replica(self) -> bool {
        matches!(self, Self::Conflict)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A present state, or an occurrence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The kind.
    pub kind: Kind,
    /// The target, stream or source; empty for the bridge as a whole.
    pub name: String,
    /// A sentence about it, without any secret.
    pub summary: String,
    /// The number of the occurrence; 0 for a state.
    pub occurrence: i64,
}

/// All present findings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The findings.
    pub all: Vec<Finding>,
    /// The kinds whose state is not known now.
    pub unknown: Vec<Kind>,
}

/// The result of a test alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlertOutcome {
    /// The id of the message.
    pub id: String,
    /// Whether it was answered with 2xx.
    pub acknowledged: bool,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The time from the beginning of the connection to the head of the answer, in milliseconds.
    pub duration_ms: u64,
    /// The error, without any secret; null on success.
    pub error: Option<String>,
}

/// A message to the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// The kind.
    pub kind: Kind,
    /// The target, stream or source; empty for the bridge as a whole.
    pub name: String,
    /// Whether the state is over.
    pub resolved: bool,
    /// A sentence about it.
    pub summary: String,
    /// Since when the state lasts.
    pub since: UnixMillis,
    /// When the bridge noticed it.
    pub at: UnixMillis,
}
