//! The entries of the audit trail: the calls of operators, and their outcomes.

use serde::Serialize;

use super::clock::UnixMillis;

/// The kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A call that changes something, even if it was refused or has failed.
    Change,
    /// The body of an event was read.
    Read,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Change, Self::Read];

    /// Returns the name in the store, in addresses and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Read => "read",
        }
    }
}

/// A call and its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// When the call was made.
    pub at: UnixMillis,
    /// Whether it changes something, or reads bodies.
    pub kind: Kind,
    /// The token: `admin_token`, or its name in `[server.tokens]`; null if the listener requires no
    /// token. For a signal its name: `SIGHUP`.
    pub who: Option<String>,
    /// Address and port of the other side of the connection.
    pub peer: Option<String>,
    /// The kind of the caller by its own statement: `page`, `cli` or `api`. `signal` if there was no
    /// call.
    pub client: String,
    /// The action, such as `retry`, `read_body` or `target test`.
    pub action: String,
    /// The target of the action.
    pub target: Option<String>,
    /// The stream of the action.
    pub stream: Option<String>,
    /// The event of the action.
    pub event_id: Option<String>,
    /// The filter of the action, as it was written; only its beginning if it is long.
    pub filter: Option<String>,
    /// The number of changed things, or of bodies read.
    pub count: u64,
    /// `done`, `abandoned` if the caller hung up before the end, or the code of the problem in the
    /// answer.
    pub outcome: String,
}

/// A filter of entries; `None` lets every entry through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this kind.
    pub kind: Option<Kind>,
    /// By this token.
    pub who: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// About this target.
    pub target: Option<String>,
    /// About this event.
    pub event_id: Option<String>,
    /// Made at this time or later.
    pub from: Option<UnixMillis>,
    /// Made before this time.
    pub to: Option<UnixMillis>,
}
