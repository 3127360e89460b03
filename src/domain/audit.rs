//! What an operator has asked for, and what came of it.

use serde::Serialize;

use super::clock::UnixMillis;

/// What an entry of the audit trail is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A call that changes something, also one that was refused or has failed.
    Change,
    /// The body of an event was read.
    Read,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Change, Self::Read];

    /// The name in the store, in addresses and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Read => "read",
        }
    }
}

/// What one call came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// When it was asked for.
    pub at: UnixMillis,
    /// Whether it changes something, or reads bodies.
    pub kind: Kind,
    /// The token: `admin_token`, or its name in `[server.tokens]`; null where no token is
    /// asked for. Of what a signal has asked for, the signal: `SIGHUP`.
    pub who: Option<String>,
    /// Address and port of the other side of the connection.
    pub peer: Option<String>,
    /// What the caller says that it is: `page`, `cli` or `api`; any caller can say so. `signal`
    /// where none called.
    pub client: String,
    /// What was asked for, such as `retry`, `read_body` or `target test`.
    pub action: String,
    /// The target that it was about.
    pub target: Option<String>,
    /// The stream that it was about.
    pub stream: Option<String>,
    /// The event that it was about.
    pub event_id: Option<String>,
    /// What it was narrowed to, as it was written; its beginning where that is long.
    pub filter: Option<String>,
    /// How many things were changed, or how many bodies read.
    pub count: u64,
    /// `done`, `abandoned` where the caller hung up before the end, or the code of the
    /// problem that it was answered with.
    pub outcome: String,
}

/// Which entries; what is `None` lets everything through.
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
    /// Asked for at this time or later.
    pub from: Option<UnixMillis>,
    /// Asked for before this time.
    pub to: Option<UnixMillis>,
}
