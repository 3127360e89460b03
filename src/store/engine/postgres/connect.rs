//! Connections to a server, directly or through a pooler.

use std::fmt::Display;
use std::io;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};

use crate::store::error::OpenError;
use crate::store::settings::{Durability, Server};

/// How long to wait for a connection of the pool.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(5);

/// The time after which the server ends a transaction that its process has left open. Such a
/// transaction may hold the lock of the appends.
const IDLE_LIMIT: &str = "2s";

/// The time after which the server ends a write that waits for a lock. Otherwise the write would go
/// on waiting after its process has given it up. A commit that waits for a standby does not wait
/// for a lock. A migration has a limit of its own.
const LOCK_LIMIT: (&str, &str) = ("lock_timeout", "5s");

/// Settings by which the server closes a connection whose peer has not responded for some seconds,
/// and releases its locks. They have no effect over a Unix socket.
const KEEP_ALIVE: [(&str, &str); 4] = [
    ("tcp_keepalives_idle", "3"),
    ("tcp_keepalives_interval", "1"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "6000"),
];

/// The class of SQLSTATEs of a broken connection. `PgBouncer` uses it while its server is away.
const CONNECTION_FAILED: &str = "08";

/// The SQLSTATEs by which a server refuses or ends connections for now: too many connections, a database
/// that accepts none, and a server that stops, has crashed or starts.
const NOT_NOW: [&str; 5] = ["53300", "55000", "57P01", "57P02", "57P03"];

/// The purpose of a connection. The server shows it as the name of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Purpose {
    /// The work of groups.
    Writer,
    /// Queries outside of groups.
    Reader,
    /// Leases and requests.
    Leases,
    /// Notifications of other replicas.
    Listener,
}

/// Begins a transaction in which each statement sees what was committed before it. A statement that
/// has waited for the lock of another transaction sees the result of that transaction.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// Frees a transaction from limits on its duration, which a role or a database may have: a migration
/// or an import of a large store takes as long as it takes. `PostgreSQL` has the second limit from 17
/// on.
pub(super) const UNHURRIED: &str = "SELECT set_config(name, '0', true) FROM pg_settings \
                                    WHERE name IN ('statement_timeout', 'transaction_timeout')";

/// The address of a server, with the settings of its connections.
#[derive(Clone, Debug)]
pub(in crate::store) struct Address {
    pub(super) options: PgConnectOptions,
    /// The statement that begins a transaction if sessions are shared, together with their settings
    /// and prepared statements; `None` otherwise.
    pub(in crate::store) shared: Option<Arc<str>>,
    /// What comes before a call that is a transaction by itself; empty unless sessions are shared.
    pub(super) before_call: Arc<str>,
    /// The address to listen on. It never leads to shared sessions.
    listening: Option<PgConnectOptions>,
    /// The server and the database, without user and password, for messages.
    pub(super) shown: Arc<str>,
}

impl Address {
    /// Returns the address that `server` describes.
    ///
    /// # Errors
    /// [`OpenError`] if a URL is not one of `PostgreSQL`.
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
            // The server's own setting counts, which may include standbys.
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
            let settings = settings.chain([LOCK_LIMIT]).fold(
                format!("SET LOCAL search_path TO \"{}\"", server.schema),
                |settings, (name, value)| format!("{settings}; SET LOCAL {name} = '{value}'"),
            );
            let shared = Some(format!("{BEGIN}; {settings}").into());
            // The statements of one call are one transaction, which ends with them.
            let before_call = format!("SET TRANSACTION ISOLATION LEVEL READ COMMITTED; {settings}; ");
            return Ok(Self { options, shared, before_call: before_call.into(), listening, shown });
        }
        let options = options.options(settings.chain(KEEP_ALIVE)).options([("search_path", &*server.schema)]);
        let listening = listening.or_else(|| Some(options.clone()));
        Ok(Self { options, shared: None, before_call: "".into(), listening, shown })
    }

    /// Returns a pool whose connections are opened on demand.
    pub(in crate::store) fn pool(&self, connections: u32, purpose: Purpose) -> PgPool {
        PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_LIMIT)
            .connect_lazy_with(self.options_for(purpose))
    }

    /// Returns the options of a connection. A pooler that shares connections sets the name of each
    /// client again and again, so through a pooler all connections have the same name.
    pub(super) fn options_for(&self, purpose: Purpose) -> PgConnectOptions {
        let options = self.options.clone();
        if self.shared.is_some() {
            return options;
        }
        options.application_name(purpose.name()).options([LOCK_LIMIT])
    }

    /// Returns the options for listening to other replicas; `None` if there is no address for that.
    pub(super) fn listening(&self) -> Option<PgConnectOptions> {
        Some(self.listening.clone()?.application_name(Purpose::Listener.name()))
    }

    /// Returns the error of a store at this address that cannot be opened.
    pub(in crate::store) fn error(&self, reason: &dyn Display) -> OpenError {
        OpenError::Server { server: Arc::clone(&self.shown), reason: reason.to_string() }
    }

    /// Returns the error of a store at this address that cannot be used now.
    pub(super) fn away(&self, reason: &dyn Display) -> OpenError {
        OpenError::Away { server: Arc::clone(&self.shown), reason: reason.to_string() }
    }

    /// Returns the error for a failed connection or call.
    pub(super) fn failed(&self, error: &sqlx::Error) -> OpenError {
        match error {
            sqlx::Error::Io(cause) if is_passing(error) => self.away(cause),
            error if is_passing(error) => self.away(error),
            error => self.error(error),
        }
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

/// Returns whether the trouble behind `error` can pass without a change of the configuration: the server
/// does not answer, or ends or refuses connections for now.
fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        // A certificate that is not trusted is invalid data.
        sqlx::Error::Io(error) => {
            !matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidData)
        }
        sqlx::Error::Database(refused) => {
            let code = refused.code().unwrap_or_default();
            code.starts_with(CONNECTION_FAILED) || NOT_NOW.contains(&&*code)
        }
        _ => false,
    }
}

/// Returns the options for `url`, which is the value of `key`.
fn options(url: &SecretString, key: &str, server: &Server) -> Result<PgConnectOptions, OpenError> {
    let options = PgConnectOptions::from_str(url.expose_secret()).map_err(|_| OpenError::Server {
        server: key.into(),
        reason: "it is no URL of PostgreSQL".to_owned(),
    })?;
    let mut options = options
        .application_name("pepay-bridge")
        // Poolers refuse a connection with settings that they do not know.
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
