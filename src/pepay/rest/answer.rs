//! Reads an answer of Pepay, within a limit for its kind.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::DATE;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

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
/// The time limit for the body of a refusal.
const WORDS: Duration = Duration::from_secs(3);
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
    /// Reads `response`: up to `limit` bytes of a success, else as a [refusal](Self::refusal).
    pub(super) async fn read(response: Response<Incoming>, limit: usize) -> Result<Self, Failure> {
        if !response.status().is_success() {
            return Ok(Self::refusal(response).await);
        }
        let (head, incoming) = response.into_parts();
        let mut body = BytesMut::new();
        let cut = collect(incoming, limit, &mut body).await?;
        Ok(Self { status: head.status, headers: head.headers, body: body.freeze(), cut })
    }

    /// Reads `response`, which is a refusal even if its body does not arrive whole: at most [`SMALL`]
    /// bytes, for at most [`WORDS`].
    pub(super) async fn refusal(response: Response<Incoming>) -> Self {
        let (head, incoming) = response.into_parts();
        let mut body = BytesMut::new();
        let read = timeout(WORDS, collect(incoming, SMALL, &mut body)).await;
        let cut = !matches!(read, Ok(Ok(false)));
        Self { status: head.status, headers: head.headers, body: body.freeze(), cut }
    }

    /// Returns Pepay's time, to the second.
    pub(super) fn server_time(&self) -> Option<UnixMillis> {
        probe::date(self.headers.get(DATE)?.to_str().ok()?)
    }
}

/// Appends the body in `incoming` to `body`, up to `limit` bytes. Returns whether it goes on beyond that.
async fn collect(mut incoming: Incoming, limit: usize, body: &mut BytesMut) -> Result<bool, Failure> {
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| Failure::unreachable(innermost(&error).to_string()))?;
        let Ok(chunk) = frame.into_data() else { continue };
        let room = limit - body.len();
        body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if chunk.len() > room {
            return Ok(true);
        }
    }
    Ok(false)
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
