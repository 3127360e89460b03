//! What an operator is alerted to: states of the bridge that do not heal by themselves,
//! or not soon. Plain values.

use std::fmt;

use serde::Serialize;

use super::clock::UnixMillis;

/// What an alert is about.
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

    /// The name in the configuration and in messages.
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

    /// Whether it is something that has happened, and not a state that ends.
    pub const fn is_occurrence(self) -> bool {
        matches!(self, Self::Gap | Self::Conflict)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that is so at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub kind: Kind,
    /// The target, stream or source; empty for the bridge as a whole.
    pub name: String,
    /// In a sentence, without any secret.
    pub summary: String,
    /// What tells one occurrence from the next; 0 for a state.
    pub occurrence: i64,
}

/// All that is so at present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What was found.
    pub all: Vec<Finding>,
    /// Kinds of which nothing is known now.
    pub unknown: Vec<Kind>,
}

/// What came of a test alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlertOutcome {
    /// The id it was sent with.
    pub id: String,
    /// Whether it was answered with 2xx.
    pub acknowledged: bool,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// From the beginning of the connection to the head of the answer, in milliseconds.
    pub duration_ms: u64,
    /// What went wrong, without any secret; null on success.
    pub error: Option<String>,
}

/// A message to the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// What it is about.
    pub kind: Kind,
    /// The target, stream or source; empty for the bridge as a whole.
    pub name: String,
    /// Whether it is over.
    pub resolved: bool,
    /// In a sentence.
    pub summary: String,
    /// Since when it has been so.
    pub since: UnixMillis,
    /// When this was noticed.
    pub at: UnixMillis,
}
