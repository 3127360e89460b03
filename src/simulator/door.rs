//! What every request of the protocol passes first: the faults that wait for
//! it, and the bookkeeping of refusals.

use axum::Extension;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};

use super::fault::{AtDoor, Door};
use super::refusal::Refusal;
use super::server::Wire;
use super::{Simulator, lock};

/// Lets a request through `door`, unless a fault meets it there.
pub(super) async fn pass(
    State((door, simulator)): State<(Door, Simulator)>,
    Extension(wire): Extension<Wire>,
    request: Request,
    next: Next,
) -> Response {
    let fault = lock(&simulator.0.faults).meet(door);
    let response = match fault {
        None => next.run(request).await,
        Some(AtDoor::Delay(wait)) => {
            simulator.count(|statistics| statistics.delayed += 1);
            tokio::time::sleep(wait).await;
            next.run(request).await
        }
        Some(AtDoor::Sever) => {
            wire.sever();
            simulator.count(|statistics| statistics.severed += 1);
            // Never sent: the wire is cut.
            return Response::default();
        }
        Some(AtDoor::Answer { status, retry_after, body }) => {
            let mut response = match body {
                Some(body) => (status, [(CONTENT_TYPE, "application/json")], body).into_response(),
                None => Refusal::of_status(status).into_response(),
            };
            if let Some(value) = retry_after.and_then(|after| after.header(simulator.0.clock.now().into())) {
                response.headers_mut().insert(RETRY_AFTER, value);
            }
            response
        }
    };
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        simulator.count(|statistics| *statistics.refused.entry(status.as_u16()).or_default() += 1);
    }
    response
}
