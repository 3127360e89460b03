//! Reads an answer of Pepay, within a limit for its kind.

use bytes::{Bytes, BytesMut};
use http::header::DATE;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::probe;
use crate::domain::cause::innermost;
use crate::domain::clock::UnixMillis;
use crate::pepay::error::Failure;

/// The largest token, order or error body that is read, in bytes.
pub(super) const SMALL: usize = 64 * 1024;
/// The largest answer with one event, in bytes: as large as a frame of the stream, and its wrapper.
pub(super) const EVENT: usize = (1024 + 64) * 1024;
/// The largest page of the list, in bytes: a hundred events of 80 KiB.
pub(super) const LIST: usize = 8 * 1024 * 1024;
/// A body larger than this number of bytes is parsed on a thread of its own.
const LARGE: usize = 256 * 1024;

/// An answer whose body has been read.
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The body, or its beginning.
    pub body: Bytes,
    /// Whether the body went on beyond the limit.
    pub cut: bool,
}

impl Answer {
    /// Reads `response` up to `limit` bytes if it is a success, else up to [`SMALL`].
    pub(super) async fn read(response: Response<Incoming>, limit: usize) -> Result<Self, Failure> {
        let (head, mut incoming) = response.into_parts();
        let (status, headers) = (head.status, head.headers);
        let limit = if status.is_success() { limit } else { SMALL };
        let (mut body, mut cut) = (BytesMut::new(), false);
        while let Some(frame) = incoming.frame().await {
            // A refusal counts as one even if its body does not arrive whole.
            let chunk = match frame.map(hyper::body::Frame::into_data) {
                Ok(Ok(chunk)) => chunk,
                Ok(Err(_trailers)) => continue,
                Err(_) if !status.is_success() => break,
                Err(error) => return Err(Failure::unreachable(innermost(&error).to_string())),
            };
            let room = limit - body.len();
            body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            if chunk.len() > room {
                cut = true;
                break;
            }
        }
        Ok(Self { status, headers, body: body.freeze(), cut })
    }

    /// Returns Pepay's time, to the second.
    pub(super) fn server_time(&self) -> Option<UnixMillis> {
        probe::date(self.headers.get(DATE)?.to_str().ok()?)
    }
}

/// Returns the result of `parse` on `body`. A large body is parsed on a thread of its own, so that the
/// other tasks of this thread go on.
pub(super) async fn parsed<T: Send + 'static>(
    body: Bytes,
    parse: impl FnOnce(&[u8]) -> T + Send + 'static,
) -> Result<T, Failure> {
    if body.len() <= LARGE {
        return Ok(parse(&body));
    }
    let parsed = tokio::task::spawn_blocking(move || parse(&body)).await;
    parsed.map_err(|_| Failure::malformed("the answer could not be parsed"))
}
