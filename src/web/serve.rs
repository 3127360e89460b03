//! A router behind a listener, with limits.
//!
//! The accept loop is written out because `axum::serve` bounds neither the
//! number of connections nor the time one may take to say what it wants: a few
//! hundred clients that send nothing would be enough to shut everybody out.

mod door;
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
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tower_http::catch_panic::CatchPanicLayer;

use self::door::{Arriving, Door, Leaving, Place};
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
    /// Connections at the same time. A further one takes the place of the one
    /// that has kept the server waiting for the longest, or waits if all are
    /// being served.
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
    let door = Door::new(limits.connections);
    // Accepted, and not yet let in.
    let mut outside = None;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(ended) = connections.join_next() => log_end(ended),
            place = door.admit(), if outside.is_some() => {
                if let Some(stream) = outside.take() {
                    connections.spawn(connection(stream, place, router.clone(), limits, stop.clone()));
                }
            }
            accepted = listener.accept(), if outside.is_none() => match accepted {
                Ok((stream, _)) => outside = Some(stream),
                Err(error) if concerns_one_client(&error) => tracing::debug!(%error, "connection lost before it was accepted"),
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections");
                    let _ = stop.run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE)).await;
                }
            },
        }
    }
}

fn concerns_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Serves one connection until it ends, until its place is needed for another,
/// or until the request in flight at `stop` has been answered.
fn connection(
    stream: TcpStream,
    place: Place,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) -> impl Future<Output = ()> {
    // Answers are small and written whole: waiting for more to send only delays them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY not set");
    }
    let (leave, place) = (place.leave.clone(), Arc::new(place));
    let io = Impatient::new(TokioIo::new(stream), limits.stall, Arc::clone(&place));
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, place) = (router.clone(), Arc::clone(&place));
        async move {
            let request = request.map(|body| Body::new(Arriving::new(body, Arc::clone(&place))));
            let response = router.oneshot(request).await;
            response.map(|response| response.map(|body| Leaving::new(body, place)))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(io, service);
    async move {
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = leave.cancelled() => return,
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
    log_panic(&*panic);
    super::error(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "the bridge has failed on this request")
}

pub(super) fn log_panic(panic: &(dyn Any + Send)) {
    let reason = panic.downcast_ref::<String>().map(String::as_str);
    let reason = reason.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    tracing::error!(reason, "request handler panicked");
}

fn log_end(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "connection task failed");
    }
}
