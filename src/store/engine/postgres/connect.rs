//! Connections to a server: how they are set up, directly and through a pooler.

use std::fmt::Display;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};

use crate::store::error::OpenError;
use crate::store::settings::{Durability, Server};

/// How long a connection of the pool is waited for.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(5);

/// A transaction that its process has left open for so long is ended by the server: it may
/// hold the lock of the appends.
const IDLE_LIMIT: &str = "2s";

/// A write that waits longer for a lock is ended by the server, which says so: otherwise it
/// would go on to wait after its process has given it up. Waiting for a standby to confirm a
/// commit is not waiting for a lock. A migration has a limit of its own.
const LOCK_LIMIT: (&str, &str) = ("lock_timeout", "5s");

/// The server lets go of a connection whose other end does not answer for some seconds, and of
/// the locks that it has. Without an effect over a Unix socket.
const KEEP_ALIVE: [(&str, &str); 4] = [
    ("tcp_keepalives_idle", "3"),
    ("tcp_keepalives_interval", "1"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "6000"),
];

/// What a connection is for. The server shows it as the name of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Purpose {
    /// Everything that a group does.
    Writer,
    /// What is asked beside it.
    Reader,
    /// Leases and requests.
    Leases,
    /// Hints of other replicas.
    Listener,
}

/// Each statement sees what was committed before it: one that waits for the lock of another
/// transaction goes by what that has left.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// How to reach a server, and to set up what works there.
#[derive(Clone, Debug)]
pub(in crate::store) struct Address {
    pub(super) options: PgConnectOptions,
    /// What begins a transaction where sessions are shared, and with them their settings and
    /// prepared statements; `None` where they are not.
    pub(in crate::store) shared: Option<Arc<str>>,
    /// Never where sessions are shared.
    listening: Option<PgConnectOptions>,
    /// The server and the database, without user and password, for messages.
    pub(super) shown: Arc<str>,
}

impl Address {
    /// The address that `server` describes.
    pub(super) fn of(server: &Server, durability: Durability) -> Result<Self, OpenError> {
        let options = options(&server.url, "store.url", server)?;
        let shown = format!(
            "{}:{}/{}",
            options.get_host(),
            options.get_port(),
            options.get_database().unwrap_or(options.get_username())
        );
        let listening = server.listen_url.as_ref().map(|url| self::options(url, "store.listen_url", server));
        let listening = listening.transpose()?;
        let commits = match durability {
            // What the server is set to, which may include standbys.
            Durability::Full => None,
            Durability::Normal => Some(("synchronous_commit", "off")),
        };
        let settings = [
            ("default_transaction_isolation", "read committed"),
            ("plan_cache_mode", "force_custom_plan"),
            ("jit", "off"),
            ("idle_in_transaction_session_timeout", IDLE_LIMIT),
        ];
        let settings = settings.into_iter().chain(commits);
        let shown = shown.into();
        if server.pooled {
            let begin = format!("{BEGIN}; SET LOCAL search_path TO \"{}\"", server.schema);
            let begin = settings
                .chain([LOCK_LIMIT])
                .fold(begin, |begin, (name, value)| format!("{begin}; SET LOCAL {name} = '{value}'"));
            return Ok(Self { options, shared: Some(begin.into()), listening, shown });
        }
        let options = options.options(settings.chain(KEEP_ALIVE)).options([("search_path", &*server.schema)]);
        let listening = listening.or_else(|| Some(options.clone()));
        Ok(Self { options, shared: None, listening, shown })
    }

    /// A pool of connections, which are made when they are needed.
    pub(in crate::store) fn pool(&self, connections: u32, purpose: Purpose) -> PgPool {
        PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_LIMIT)
            .connect_lazy_with(self.options_for(purpose))
    }

    /// How to make a connection. A pooler that shares them gives each its client's name again
    /// and again, so that all of a process have the same there.
    pub(super) fn options_for(&self, purpose: Purpose) -> PgConnectOptions {
        let options = self.options.clone();
        if self.shared.is_some() {
            return options;
        }
        options.application_name(purpose.name()).options([LOCK_LIMIT])
    }

    /// Where to listen for what other replicas tell, if there is such a place.
    pub(super) fn listening(&self) -> Option<PgConnectOptions> {
        Some(self.listening.clone()?.application_name(Purpose::Listener.name()))
    }

    /// Why the store there cannot be opened.
    pub(in crate::store) fn error(&self, reason: &dyn Display) -> OpenError {
        OpenError::Server { server: Arc::clone(&self.shown), reason: reason.to_string() }
    }
}

impl Purpose {
    const fn name(self) -> &'static str {
        match self {
            Self::Writer => "pepay-bridge writer",
            Self::Reader => "pepay-bridge reader",
            Self::Leases => "pepay-bridge leases",
            Self::Listener => "pepay-bridge listener",
        }
    }
}

/// How to connect to `url`, the value of `key`.
fn options(url: &SecretString, key: &str, server: &Server) -> Result<PgConnectOptions, OpenError> {
    let options = PgConnectOptions::from_str(url.expose_secret()).map_err(|_| OpenError::Server {
        server: key.into(),
        reason: "it is no URL of PostgreSQL".to_owned(),
    })?;
    let mut options = options
        .application_name("pepay-bridge")
        // Poolers refuse a start with settings that they do not know.
        .extra_float_digits(None)
        .disable_statement_logging();
    if let Some(file) = &server.ca_file {
        options = options.ssl_root_cert(file).ssl_mode(PgSslMode::VerifyFull);
    }
    if let Some((certificate, private_key)) = &server.client_identity {
        options = options.ssl_client_cert(certificate).ssl_client_key(private_key);
    }
    Ok(options)
}
