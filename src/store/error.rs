//! Why the store did not do what it was asked for.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::domain::delivery::State;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder of the database is missing and cannot be made.
    #[error("the folder {path} of the database cannot be created: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The lock file cannot be written.
    #[error("the lock file {path} cannot be used: {source}")]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error("the database {0} is in use by another pepay-bridge process")]
    InUse(PathBuf),
    /// A database, but not one of ours.
    #[error("{path} is a database of another application (application_id {application_id:#x})")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is marked with.
        application_id: i64,
    },
    /// Written by a later version.
    #[error(
        "the database {path} has schema {found}, newer than {known}, the newest this version knows: run the version that wrote it, or a later one"
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The linked library is too old.
    #[error("SQLite {0} has a bug that can corrupt the database; 3.51.3 or newer is needed")]
    OldSqlite(&'static str),
    /// SQLite says no.
    #[error("the database {path} cannot be opened: {reason}")]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        reason: String,
    },
    /// A server, or what is on it, cannot be used.
    #[error("the database {server} cannot be used: {reason}")]
    Server {
        /// The server, without user and password.
        server: Arc<str>,
        /// Why.
        reason: String,
    },
    /// Other processes use the store of a server, and this needs it alone.
    #[error("schema \"{schema}\" of {server} is in use by a running pepay-bridge: stop all of them first")]
    Shared {
        /// The server, without user and password.
        server: Arc<str>,
        /// The schema.
        schema: String,
    },
}

/// Why nothing was recorded. The same may be offered again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The writer has more waiting than it takes on.
    #[error("the store's queue is full")]
    Overloaded,
    /// The transaction failed, or the store does not answer.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Another process owns what this was about.
    #[error("another replica has taken it over")]
    Superseded,
}

/// Why a question to the store went unanswered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store cannot be read: {0}")]
pub struct ReadError(pub String);

/// Why nothing was done about a delivery.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// The id is not held.
    #[error("there is no event of this id")]
    NoSuchEvent,
    /// The target is unknown, or what was asked for needs one that is configured.
    #[error("there is no target of this name")]
    NoSuchTarget,
    /// The target is not configured any more, and this needs one that is.
    #[error(
        "the target is not configured any more: move its deliveries to another one (`deliveries move`), or cancel them"
    )]
    NotConfigured,
    /// The target has a delivery of the event already.
    #[error("the target has a delivery of this event already")]
    AlreadyThere,
    /// The event was never to go to the target.
    #[error("the event has no delivery to this target")]
    NoSuchDelivery,
    /// Its state does not allow it.
    #[error("the delivery is {}; this can be done to one that is {}", state.as_str(), any_of(allowed))]
    NotAllowed {
        /// The state.
        state: State,
        /// Those that would.
        allowed: &'static [State],
    },
    /// An attempt is under way. What it comes to decides first.
    #[error("an attempt of the delivery is on the wire")]
    OnTheWire,
    /// What would be sent has been removed.
    #[error("the body of the event has been removed")]
    PayloadGone,
    /// The store does not commit.
    #[error(transparent)]
    Store(#[from] RecordError),
}

/// Why an action on many deliveries was not done, or not to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BulkError {
    /// Not as many match as were confirmed; nothing was done.
    #[error("{matching} deliveries match now")]
    Changed {
        /// How many do.
        matching: u64,
    },
    /// There is no such target, or none that is configured where one has to be.
    #[error("there is no target `{0}`")]
    NoSuchTarget(String),
    /// Deliveries are moved from a target that is not configured any more.
    #[error(
        "the target `{0}` is configured or still ending: only what a removed target has left can be moved"
    )]
    InUse(String),
    /// The store failed; what was reported until then is done.
    #[error(transparent)]
    Store(#[from] RecordError),
}

fn any_of(states: &[State]) -> String {
    states.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(", ")
}
