//! A router behind a listener, with limits.
//!
//! The accept loop is written out because `axum::serve` bounds neither the
//! number of connections nor the time one may take to say what it wants: a few
//! hundred clients that send nothing would be enough to shut everybody out.

mod stall;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use self::stall::Impatient;

/// The longest head of a request, in bytes; a longer one is answered 431.
const MAX_HEAD: usize = 16 * 1024;

/// How much is read from a connection ahead of the handler, in bytes.
const MAX_BUFFER: usize = 64 * 1024;

/// The wait after the machine refused to accept, most often for want of file
/// descriptors: connections that end meanwhile give theirs back.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What clients of a listener may take up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at the same time. Further ones wait in the kernel's queue.
    pub connections: usize,
    /// From the connection, or the previous answer, to the last byte of the
    /// next request's head: bounds slow heads and idle connections alike.
    pub head: Duration,
    /// How long a client may leave an answer unread.
    pub stall: Duration,
}

impl Limits {
    /// For a listener that anybody can reach. Together with the private one,
    /// the store and the targets it stays below 1024 file descriptors, where
    /// many systems draw the line.
    pub const PUBLIC: Self =
        Self { connections: 512, head: Duration::from_secs(15), stall: Duration::from_secs(15) };

    /// For the private listener.
    pub const ADMIN: Self = Self { connections: 64, ..Self::PUBLIC };
}

/// Serves `router` on `listener` until `stop`, then lets the requests in
/// flight finish, and returns. On `abandon` it drops them and returns at once.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
    abandon: CancellationToken,
) {
    let router = router.layer(CatchPanicLayer::custom(panicked));
    let mut connections = JoinSet::new();
    let work = async {
        accept(listener, &router, limits, &stop, &mut connections).await;
        while let Some(ended) = connections.join_next().await {
            log_end(ended);
        }
    };
    let _ = abandon.run_until_cancelled(work).await;
    connections.shutdown().await;
}

/// Accepts until `stop`, then closes the listener.
async fn accept(
    listener: TcpListener,
    router: &Router,
    limits: Limits,
    stop: &CancellationToken,
    connections: &mut JoinSet<()>,
) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    loop {
        let next = next_connection(&listener, &slots);
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(ended) = connections.join_next() => log_end(ended),
            accepted = next => match accepted {
                Ok((stream, slot)) => {
                    let connection = connection(stream, router.clone(), limits, stop.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                Err(error) if concerns_one_client(&error) => tracing::debug!(%error, "connection lost before it was accepted"),
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections");
                    let _ = stop.run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE)).await;
                }
            },
        }
    }
}

/// A connection with its slot; the slot comes first, so that nobody is
/// accepted who cannot be served.
async fn next_connection(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}

fn concerns_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Serves one connection until it ends, or until the request in flight at `stop` has been answered.
fn connection(
    stream: TcpStream,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) -> impl Future<Output = ()> {
    // Answers are small and written whole: waiting for more to send only delays them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY not set");
    }
    let io = Impatient::new(TokioIo::new(stream), limits.stall);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(io, TowerToHyperService::new(router));
    async move {
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    }
}

/// Answers for a handler that panicked; the process goes on.
#[expect(clippy::needless_pass_by_value, reason = "this is how the layer hands a panic over")]
fn panicked(panic: Box<dyn Any + Send>) -> Response<Body> {
    let reason = panic.downcast_ref::<String>().map(String::as_str);
    let reason = reason.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    tracing::error!(reason, "request handler panicked");
    super::error(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "the bridge has failed on this request")
}

fn log_end(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "connection task failed");
    }
}
