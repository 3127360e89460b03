//! The errors of the store.

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
    /// Another process uses the database.
    #[error("the database {0} is in use by another pepay-bridge process")]
    InUse(PathBuf),
    /// The file is a database of another application.
    #[error("{path} is a database of another application (application_id {application_id:#x})")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The `application_id` of the file.
        application_id: i64,
    },
    /// The database was written by a later version.
    #[error(
        "the database {path} has schema {found}, newer than {known}, the newest this version knows: run the version that wrote it, or a later one"
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema that this version knows.
        known: i64,
    },
    /// A restore is not complete.
    #[error(
        "a restore of {0} is under way or was interrupted: the next start of the bridge, or `restore`, completes it"
    )]
    Restoring(PathBuf),
    /// The linked SQLite library is too old.
    #[error("SQLite {0} has a bug that can corrupt the database; 3.51.3 or newer is needed")]
    OldSqlite(&'static str),
    /// SQLite returned an error.
    #[error("the database {path} cannot be opened: {reason}")]
    Database {
        /// The file.
        path: PathBuf,
        /// The error of SQLite.
        reason: String,
    },
    /// The server, or its schema, cannot be used.
    #[error("the database {server} cannot be used: {reason}")]
    Server {
        /// The server, without user and password.
        server: Arc<str>,
        /// Why.
        reason: String,
    },
    /// The server cannot be used now: it cannot be reached, starts, or takes no connections or no writes.
    #[error("the database {server} cannot be used now: {reason}")]
    Away {
        /// The server, without user and password.
        server: Arc<str>,
        /// Why.
        reason: String,
    },
    /// Other processes use the schema of the server, and this operation needs it alone.
    #[error("schema \"{schema}\" of {server} is in use by a running pepay-bridge: stop all of them first")]
    Shared {
        /// The server, without user and password.
        server: Arc<str>,
        /// The schema.
        schema: String,
    },
}

impl OpenError {
    /// Returns whether the same store can be opened later without a change here.
    pub const fn is_away(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}

/// Why a write to the store was not made. The caller may repeat the write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The committer's queue is full.
    #[error("the store's queue is full")]
    Overloaded,
    /// The transaction failed, or the committer does not answer.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Another process owns the target or the stream of this write.
    #[error("another replica has taken it over")]
    Superseded,
}

/// Why a query failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store cannot be read: {0}")]
pub struct ReadError(pub String);

/// Why an operator's action on a delivery was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// No event of this id is stored.
    #[error("there is no event of this id")]
    NoSuchEvent,
    /// The target is unknown, or the action needs a configured target and this one is not.
    #[error("there is no target of this name")]
    NoSuchTarget,
    /// The target was removed from the configuration, and the action needs a configured target.
    #[error(
        "the target is not configured any more: move its deliveries to another one (`deliveries move`), or cancel them"
    )]
    NotConfigured,
    /// The target has a delivery of the event already.
    #[error("the target has a delivery of this event already")]
    AlreadyThere,
    /// The target from which the delivery would be taken is configured, and may be sending it.
    #[error("the target that has the delivery is configured")]
    InUse,
    /// The event has no delivery to the target.
    #[error("the event has no delivery to this target")]
    NoSuchDelivery,
    /// The state of the delivery does not allow the action.
    #[error("the delivery is {}; this can be done to one that is {}", state.as_str(), any_of(allowed))]
    NotAllowed {
        /// The state.
        state: State,
        /// The states that allow the action.
        allowed: &'static [State],
    },
    /// An attempt is on the wire; its outcome comes first.
    #[error("an attempt of the delivery is on the wire")]
    OnTheWire,
    /// The body of the event has been removed.
    #[error("the body of the event has been removed")]
    PayloadGone,
    /// The store does not commit.
    #[error(transparent)]
    Store(#[from] RecordError),
}

/// Why a bulk action was not done, or not finished.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BulkError {
    /// The number of matching deliveries is not the confirmed number; nothing was done.
    #[error("{matching} deliveries match now")]
    Changed {
        /// The number of matching deliveries.
        matching: u64,
    },
    /// The target does not exist, or is not configured where the action needs a configured one.
    #[error("there is no target `{0}`")]
    NoSuchTarget(String),
    /// The source of a move is still configured or still ending; deliveries are moved from a
    /// removed target only.
    #[error(
        "the target `{0}` is configured or still ending: only what a removed target has left can be moved"
    )]
    InUse(String),
    /// The store failed; the changes that were reported until then are done.
    #[error(transparent)]
    Store(#[from] RecordError),
}

fn any_of(states: &[State]) -> String {
    states.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(", ")
}
