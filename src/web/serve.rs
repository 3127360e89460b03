//! The HTTP server: serves routes on a listener, with limits.
//!
//! The module has its own accept loop. `axum::serve` limits neither the number of connections nor the
//! time that a client may take to send a request. A few hundred clients that send nothing could shut out
//! all others.

mod connection_limit;
mod gate;
#[cfg(test)]
mod tests;
mod timeouts;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(super) use self::gate::log_panic;

use self::connection_limit::{Arriving, ConnectionLimit, Leaving, Slot};
use self::timeouts::{HeadTimeout, WriteTimeout};
use super::refused::HttpRefusals;
use super::routes::Routes;

/// The longest head of a request, in bytes. The response to a longer one is 431.
const MAX_HEAD: usize = 16 * 1024;

/// The most that is read from a connection ahead of the handler, in bytes.
const MAX_BUFFER: usize = 64 * 1024;

/// The pause after the system failed to accept a connection. The usual cause is a lack of file
/// descriptors, and connections that end in the pause free theirs.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The limits on the clients of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The number of connections at the same time. A further connection replaces the one for which the
    /// server has waited the longest. If all are being served, the new one waits.
    pub connections: usize,
    /// The longest time from the connection, or the previous response, to the first byte of the next
    /// request.
    pub keep_alive: Duration,
    /// The longest time from the first to the last byte of a request's head.
    pub head: Duration,
    /// The longest time for which a client may read nothing of a response.
    pub stall: Duration,
    /// Whether a client that has closed its writing side still gets its response. If so, the server
    /// notices that a client has disconnected only when it cannot send a response.
    pub half_close: bool,
}

impl Limits {
    /// The limits of the public listener. Both listeners, the store and the targets together stay below
    /// 1024 file descriptors, the default limit of many systems.
    pub const PUBLIC: Self = Self {
        connections: 512,
        keep_alive: Duration::from_secs(75),
        head: Duration::from_secs(15),
        stall: Duration::from_secs(15),
        half_close: true,
    };

    /// The limits of the private listener. Without half-close a bulk change and the live overview end
    /// when their client disconnects.
    pub const ADMIN: Self = Self { connections: 64, half_close: false, ..Self::PUBLIC };

    /// Returns these limits with another `keep_alive`.
    pub const fn keeping_alive(self, keep_alive: Duration) -> Self {
        Self { keep_alive, ..self }
    }
}

/// The state that the connections of a listener share.
#[derive(Clone)]
struct Server {
    routes: Routes,
    limits: Limits,
    refusals: Option<HttpRefusals>,
    stop: CancellationToken,
}

/// Serves `routes` on `listener` until `stop`, finishes the requests in flight, and returns. On `abandon`
/// the function drops them and returns at once. Requests that no handler takes are noted in `refusals`.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    limits: Limits,
    refusals: Option<HttpRefusals>,
    stop: CancellationToken,
    abandon: CancellationToken,
) {
    let server = Server { routes, limits, refusals, stop };
    let mut connections = JoinSet::new();
    let work = async {
        accept(listener, &server, &mut connections).await;
        while let Some(ended) = connections.join_next().await {
            log_end(ended);
        }
    };
    let _ = abandon.run_until_cancelled(work).await;
    connections.shutdown().await;
}

/// Accepts connections until `stop`, then closes the listener.
async fn accept(listener: TcpListener, server: &Server, connections: &mut JoinSet<()>) {
    let (limit, stop) = (ConnectionLimit::new(server.limits.connections), &server.stop);
    // The connection that is accepted and not yet admitted.
    let mut outside = None;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(ended) = connections.join_next() => log_end(ended),
            slot = limit.admit(), if outside.is_some() => {
                if let Some((stream, peer)) = outside.take() {
                    connections.spawn(connection(stream, peer, slot, server.clone()));
                }
            }
            accepted = listener.accept(), if outside.is_none() => match accepted {
                Ok(accepted) => outside = Some(accepted),
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

/// Serves one connection until it ends or another connection takes its slot. After `stop` the function
/// answers the request in flight and ends.
fn connection(stream: TcpStream, peer: SocketAddr, slot: Slot, server: Server) -> impl Future<Output = ()> {
    let Server { routes, limits, refusals, stop } = server;
    // Responses are small and written whole. Nagle's algorithm would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY not set");
    }
    let (close, slot) = (slot.close.clone(), Arc::new(slot));
    let (reads, writes) = stream.into_split();
    let reads = HeadTimeout::new(reads, Arc::clone(&slot), limits.keep_alive, limits.head);
    let stream = TokioIo::new(tokio::io::join(reads, writes));
    let io = WriteTimeout::new(stream, limits.stall, Arc::clone(&slot));
    let counted = refusals.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        slot.head_complete();
        let (router, slot, refusals) = (routes.current(), Arc::clone(&slot), counted.clone());
        async move {
            let request = request.map(|body| Body::new(Arriving::new(body, Arc::clone(&slot))));
            let response = gate::pass(request, peer, router, refusals.as_ref()).await;
            Ok::<_, Infallible>(response.map(|body| Leaving::new(body, slot)))
        }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The limits of `HeadTimeout` are shorter. This limit makes hyper read again after a response,
        // and that read starts the timer of `HeadTimeout`.
        .header_read_timeout(limits.keep_alive + limits.head)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_BUFFER)
        .half_close(limits.half_close)
        .serve_connection(io, service);
    async move {
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = close.cancelled() => return,
            () = stop.cancelled() => {
                Pin::new(&mut connection).graceful_shutdown();
                (&mut connection).await
            }
        };
        let Err(error) = ended else { return };
        tracing::debug!(%error, "connection ended");
        let Some(refusals) = refusals else { return };
        if error.is_parse_version_h2() {
            refusals.note_http2(peer);
        } else if error.is_parse_too_large() {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            refusals.note_head(status, &connection.into_parts().read_buf, peer);
        } else if error.is_parse() {
            refusals.note_head(StatusCode::BAD_REQUEST, &connection.into_parts().read_buf, peer);
        }
    }
}

fn log_end(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "connection task failed");
    }
}
