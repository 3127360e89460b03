//! Opens connections to one target: TCP, with TLS if its URL says `https`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tower::{Service as _, ServiceExt as _};

use super::{Settings, tls};
use crate::domain::cause::innermost;

/// An open connection.
pub(super) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Why a target's client could not be built.
#[derive(Debug, thiserror::Error)]
#[error("target {target}: {reason}")]
pub struct BuildError {
    /// The configured name of the target.
    target: Arc<str>,
    reason: Unusable,
}

/// Why the settings have no address to connect to.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("its URL cannot be used: {0}")]
    Url(#[from] http::uri::InvalidUri),
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("its host is no name for TLS: {0}")]
    Name(#[from] rustls::pki_types::InvalidDnsNameError),
}

/// Opens connections to one target.
pub(super) struct Connector {
    tcp: HttpConnector,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    address: Uri,
    /// The time limit from the lookup of the name to the end of the TLS handshake.
    limit: Duration,
}

impl Connector {
    /// Creates the connector to the target of `settings`.
    pub(super) fn new(settings: &Settings) -> Result<Self, BuildError> {
        let unusable = |reason| BuildError { target: Arc::clone(&settings.name), reason };
        Self::build(settings).map_err(unusable)
    }

    fn build(settings: &Settings) -> Result<Self, Unusable> {
        let address: Uri = settings.url.as_str().parse()?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // The limit is divided among the addresses of the name, so that a dead one leaves time for the
        // next.
        tcp.set_connect_timeout(Some(settings.connect_timeout));
        let tls = if settings.url.scheme() == "https" {
            let config = tls::client(settings.roots.as_ref(), settings.client_identity.as_ref())?;
            let host = address.host().unwrap_or_default();
            let name = ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']').to_owned())?;
            Some((TlsConnector::from(Arc::new(config)), name))
        } else {
            None
        };
        Ok(Self { tcp, tls, address, limit: settings.connect_timeout })
    }

    /// Returns the target's URL.
    pub(super) const fn address(&self) -> &Uri {
        &self.address
    }

    /// Opens a new connection to the target, whose name is looked up anew.
    pub(super) async fn open(&self) -> io::Result<Stream> {
        let late = |_| {
            let limit = humantime::format_duration(self.limit);
            io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {limit}"))
        };
        tokio::time::timeout(self.limit, self.connect()).await.map_err(late)?
    }

    async fn connect(&self) -> io::Result<Stream> {
        let mut tcp = self.tcp.clone();
        let connected = tcp.ready().await.map_err(told)?.call(self.address.clone());
        let stream = connected.await.map_err(told)?.into_inner();
        match &self.tls {
            Some((tls, name)) => Ok(Either::Right(Box::new(tls.connect(name.clone(), stream).await?))),
            None => Ok(Either::Left(stream)),
        }
    }
}

/// Why there is no connection to a target.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The client of the target cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The target does not answer, or its certificate is not trusted.
    #[error("{0}")]
    Connection(String),
}

/// Connects to a target as a delivery does, TLS and client certificate included,
/// and hangs up before a byte of HTTP is sent. Takes as long as the target's
/// `connect_timeout` at most.
///
/// # Errors
/// [`ConnectError`]
pub async fn check_connection(settings: &Settings) -> Result<(), ConnectError> {
    let connected = Connector::new(settings)?.open().await;
    connected.map(drop).map_err(|error| {
        let reason = format!("cannot connect: {}", innermost(&error));
        ConnectError::Connection(reason)
    })
}

/// Returns the cause of the error, without the description of the attempted operation.
fn told(error: impl std::error::Error + 'static) -> io::Error {
    io::Error::other(innermost(&error).to_string())
}
