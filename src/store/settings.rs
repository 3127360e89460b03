//! The settings of a store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::domain::delivery::Ordering;
use crate::domain::event::{Environment, Received};
use crate::domain::filter::TypeFilter;
use crate::domain::operator::Mismatch;
use crate::pepay::condition::Condition;

/// Where the store is, what a commit survives, and how long rows are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the database is.
    pub place: Place,
    /// What a commit survives.
    pub durability: Durability,
    /// How long rows are kept.
    pub retention: Retention,
}

/// How long rows are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How long delivered events keep their bodies and attempts.
    pub payloads: Duration,
    /// How long event ids are kept for deduplication.
    pub ids: Duration,
    /// How long a dead delivery that no operator has decided on keeps its event.
    pub dead: Duration,
    /// How long entries of the audit trail are kept.
    pub audit: Duration,
}

impl Settings {
    /// Returns the path of the database file; `None` for a server.
    pub fn file(&self) -> Option<&Path> {
        match &self.place {
            Place::File(path) => Some(path),
            Place::Server(_) => None,
        }
    }

    /// Returns the paths that the store may use: the database, the files that SQLite keeps beside
    /// it, and the lock; empty for a server.
    pub fn files(&self) -> Vec<PathBuf> {
        let Some(path) = self.file() else { return Vec::new() };
        let beside = |suffix: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        ["", "-wal", "-shm", ".lock"].map(beside).into()
    }
}

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file of `SQLite`; its folder is created if missing.
    File(PathBuf),
    /// A schema of a `PostgreSQL` server.
    Server(Server),
}

/// A schema of a `PostgreSQL` server, and how to reach it.
#[derive(Clone, Debug)]
pub struct Server {
    /// The URL, which may hold a password.
    pub url: SecretString,
    /// The URL on which to listen for notifications of other replicas, if it is not `url`.
    pub listen_url: Option<SecretString>,
    /// A file of PEM certificates, one of which has signed the server's certificate.
    pub ca_file: Option<PathBuf>,
    /// Files of the bridge's own certificate and key, for a server that asks for them.
    pub client_identity: Option<(PathBuf, PathBuf)>,
    /// The schema, which is created if missing.
    pub schema: String,
    /// The largest number of reading connections; one more connection writes.
    pub connections: u32,
    /// Whether a pooler shares sessions, as `PgBouncer` does in transaction mode.
    pub pooled: bool,
}

impl PartialEq for Server {
    fn eq(&self, other: &Self) -> bool {
        let Self { url, listen_url, ca_file, client_identity, schema, connections, pooled } = self;
        let shown = |url: &Option<SecretString>| url.as_ref().map(|url| url.expose_secret().to_owned());
        url.expose_secret() == other.url.expose_secret()
            && shown(listen_url) == shown(&other.listen_url)
            && (ca_file, client_identity) == (&other.ca_file, &other.client_identity)
            && (schema, connections, pooled) == (&other.schema, &other.connections, &other.pooled)
    }
}

impl Eq for Server {}

/// What a commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Power loss (`synchronous = FULL`); on a server, the server's own setting applies.
    Full,
    /// A killed process (`synchronous = NORMAL`); on a server, a killed bridge but not a crash of
    /// the server.
    Normal,
}

/// Which events become deliveries to a target.
#[derive(Clone, Debug)]
pub struct Route {
    /// The configured name of the target.
    pub target: Arc<str>,
    /// The event types it receives.
    pub types: TypeFilter,
    /// The network environment of the events it receives; `None` receives events of any environment
    /// and of none.
    pub environment: Option<Environment>,
    /// The further condition on an event, if there is one.
    pub condition: Option<Condition>,
    /// Which of its deliveries wait for one another.
    pub ordering: Ordering,
}

impl Route {
    /// Returns whether `event` becomes a delivery to this target.
    pub(super) fn takes(&self, event: &Received) -> bool {
        let Received { event, environment, .. } = event;
        self.mismatch(event.kind.as_str(), *environment, &event.body).is_none()
    }

    /// Returns why an event of `kind`, `environment` and `body` does not become a delivery; `None`
    /// if it does.
    pub fn mismatch(&self, kind: &str, environment: Option<Environment>, body: &[u8]) -> Option<Mismatch> {
        if !self.types.matches(kind) {
            Some(Mismatch::Types)
        } else if self.environment.is_some() && self.environment != environment {
            Some(Mismatch::Environment)
        } else if self.condition.as_ref().is_some_and(|condition| !condition.is_met_by(body)) {
            Some(Mismatch::Where)
        } else {
            None
        }
    }
}
