//! Applies the waiting faults to the requests of the protocol, and counts the refused ones.

use axum::Extension;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;

use super::fault::{Endpoint, Filling, RequestFault};
use super::server::Wire;
use super::{Simulator, lock, refusal};

/// Handles a request at `endpoint`: by the fault that waits for it, or else normally.
pub(super) async fn apply(
    State((endpoint, simulator)): State<(Endpoint, Simulator)>,
    Extension(wire): Extension<Wire>,
    request: Request,
    next: Next,
) -> Response {
    let fault = lock(&simulator.0.faults).meet(endpoint);
    let response = match fault {
        None => next.run(request).await,
        Some(RequestFault::Delay(wait)) => {
            simulator.count(|statistics| statistics.delayed += 1);
            tokio::time::sleep(wait).await;
            next.run(request).await
        }
        Some(RequestFault::Sever) => {
            wire.sever();
            simulator.count(|statistics| statistics.severed += 1);
            // It is never sent, since the connection is broken.
            return Response::default();
        }
        Some(RequestFault::Answer { status, retry_after, body }) => {
            refusal::instead(status, retry_after.as_ref(), body, simulator.0.clock.now())
        }
        Some(RequestFault::Large { status, bytes, filling }) => {
            (status, [(CONTENT_TYPE, "application/json")], filled(bytes, filling)).into_response()
        }
    };
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        simulator.count(|statistics| *statistics.refused.entry(status.as_u16()).or_default() += 1);
    }
    response
}

/// Returns about `bytes` bytes of JSON.
fn filled(bytes: usize, filling: Filling) -> Bytes {
    let (head, item, tail): (&[u8], &[u8], &[u8]) = match filling {
        Filling::Text => (br#"{"success":false,"message":""#, b"x", br#"","error_code":"INTERNAL_ERROR"}"#),
        Filling::Values => {
            (br#"{"success":false,"details":["#, b"0,", br#"0],"error_code":"INTERNAL_ERROR"}"#)
        }
        Filling::Entries => {
            (br#"{"success":true,"data":{"object":"list","data":["#, b"0,", br#"0],"has_more":false}}"#)
        }
    };
    let items = bytes.saturating_sub(head.len() + tail.len()) / item.len();
    let mut body = BytesMut::with_capacity(bytes.max(head.len() + tail.len()));
    body.put_slice(head);
    (0..items).for_each(|_| body.put_slice(item));
    body.put_slice(tail);
    body.freeze()
}
