//! Connections to a server: how they are set up, directly and through a pooler.

use std::fmt::Display;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};

use crate::store::error::OpenError;
use crate::store::settings::{Durability, Server};

/// How long a connection of the pool is waited for.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(5);

/// A transaction that its process has left open for so long is ended by the server: it may
/// hold the lock of the appends.
const IDLE_LIMIT: &str = "5s";

/// How to reach a server, and to set up what works there.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) options: PgConnectOptions,
    /// What begins a transaction where sessions are shared, and with them their settings and
    /// prepared statements; `None` where they are not.
    pub(super) shared: Option<Arc<str>>,
    /// The server and the database, without user and password, for messages.
    pub(super) shown: Arc<str>,
}

impl Address {
    /// The address that `server` describes.
    pub(super) fn of(server: &Server, durability: Durability) -> Result<Self, OpenError> {
        let url = server.url.expose_secret();
        let options = PgConnectOptions::from_str(url).map_err(|_| OpenError::Server {
            server: "store.url".into(),
            reason: "it is no URL of PostgreSQL".to_owned(),
        })?;
        let shown = format!(
            "{}:{}/{}",
            options.get_host(),
            options.get_port(),
            options.get_database().unwrap_or(options.get_username())
        );
        let mut options = options
            .application_name("pepay-bridge")
            // Poolers refuse a start with settings that they do not know.
            .extra_float_digits(None)
            .disable_statement_logging();
        if let Some(file) = &server.ca_file {
            options = options.ssl_root_cert(file).ssl_mode(PgSslMode::VerifyFull);
        }
        if let Some((certificate, key)) = &server.client_identity {
            options = options.ssl_client_cert(certificate).ssl_client_key(key);
        }
        let commits = match durability {
            // What the server is set to, which may include standbys.
            Durability::Full => None,
            Durability::Normal => Some(("synchronous_commit", "off")),
        };
        let settings = [
            ("plan_cache_mode", "force_custom_plan"),
            ("jit", "off"),
            ("idle_in_transaction_session_timeout", IDLE_LIMIT),
        ];
        let settings = settings.into_iter().chain(commits);
        let shown = shown.into();
        if server.pooled {
            let begin = format!("BEGIN; SET LOCAL search_path TO \"{}\"", server.schema);
            let begin =
                settings.fold(begin, |begin, (name, value)| format!("{begin}; SET LOCAL {name} = '{value}'"));
            return Ok(Self { options, shared: Some(begin.into()), shown });
        }
        let options = options.options(settings).options([("search_path", &*server.schema)]);
        Ok(Self { options, shared: None, shown })
    }

    /// A pool of connections, which are made when they are needed.
    pub(super) fn pool(&self, connections: u32) -> PgPool {
        PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_LIMIT)
            .connect_lazy_with(self.options.clone())
    }

    /// Why the store there cannot be opened.
    pub(super) fn error(&self, reason: &dyn Display) -> OpenError {
        OpenError::Server { server: Arc::clone(&self.shown), reason: reason.to_string() }
    }
}
