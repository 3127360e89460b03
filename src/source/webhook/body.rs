//! Reads the body of an unverified delivery. Size, time and copies are bounded, and so is the memory of
//! all bodies together.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::HeaderMap;
use http::header::EXPECT;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Settings;
use super::answer::{Code, Refusal};

/// The largest part of a refused body that is still read and dropped, and the time limit for it. A
/// connection that is closed with unread bytes is reset, and a sender that meets the reset while it
/// writes never sees the answer.
const DISCARD_BYTES: usize = 1024 * 1024;
const DISCARD_LIMIT: Duration = Duration::from_secs(2);

/// The largest number of bytes of large bodies at the same time.
const SHARED: usize = 2 * Settings::LARGEST_BODY;

/// The memory for bodies before their signature is verified: the budget that the large bodies of all endpoints share. Clones share it too.
#[derive(Clone, Debug)]
pub(super) struct BodyMemory(Arc<Semaphore>);

impl BodyMemory {
    /// The number of bytes of a body that do not count towards the budget. As much is read ahead of any
    /// request, and Pepay's events are far smaller. So a flood of large bodies keeps no ordinary event
    /// out.
    pub(super) const FREE: usize = 64 << 10;

    /// Creates the budget of a bridge.
    pub(super) fn new() -> Self {
        Self::of(SHARED)
    }

    /// Creates a budget of this number of bytes.
    pub(super) fn of(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }

    /// Takes this number of bytes until the permit is dropped, if so many are left.
    pub(super) fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.0).try_acquire_many_owned(bytes).ok()
    }
}

/// A whole body, and its share of the memory budget if it is large.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    pub(super) memory: Option<OwnedSemaphorePermit>,
}

/// Returns the whole body, if it has at most `limit` bytes, arrives within `patience`,
/// and `memory` suffices for it.
pub(super) async fn read(
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
    memory: &BodyMemory,
    patience: Duration,
) -> Result<Whole, Refusal> {
    let declared_too_large = body.size_hint().lower() > limit as u64;
    let collected = if declared_too_large {
        Err(too_large(limit))
    } else {
        tokio::time::timeout(patience, collect(&mut body, limit, memory))
            .await
            .unwrap_or_else(|_| Err(Refusal::new(Code::RequestTimeout, "the body did not arrive in time")))
    };
    let no_place = |refusal: &Refusal| matches!(refusal.code, Code::PayloadTooLarge | Code::Overloaded);
    let unread = collected.as_ref().is_err_and(no_place);
    // A client that waits for "100 Continue" has sent no byte yet, and a read would ask for the body.
    let waits = declared_too_large && headers.contains_key(EXPECT);
    if unread && !waits {
        let _ = tokio::time::timeout(DISCARD_LIMIT, discard(&mut body)).await;
    }
    collected
}

fn too_large(limit: usize) -> Refusal {
    Refusal::new(Code::PayloadTooLarge, format!("the body has more than {limit} bytes"))
}

/// Returns the refusal of a body that could not be read to its end: its chunks are malformed, or the
/// connection is gone.
fn broken(error: &axum::Error) -> Refusal {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let kind = loop {
        let Some(at) = cause else { break None };
        if let Some(error) = at.downcast_ref::<io::Error>() {
            break Some(error.kind());
        }
        cause = at.source();
    };
    if matches!(kind, Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)) {
        Refusal::new(Code::MalformedPayload, "the body's chunks are malformed")
    } else {
        Refusal::new(Code::ConnectionCut, "the connection ended before the body did")
    }
}

/// Returns the body in one piece.
async fn collect(body: &mut Body, limit: usize, memory: &BodyMemory) -> Result<Whole, Refusal> {
    // The largest size that it can have; a body of unknown length can reach the limit.
    let size = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(limit);
    let mut taken = None;
    // The pieces are copied into one buffer. A piece keeps all of the buffer that the
    // connection has read into (8 KiB for a body of 1 KiB), and tiny chunks would keep
    // many times the limit.
    let mut gathered = Vec::new();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error).sized(Some(read as u64)))?;
        let Ok(piece) = frame.into_data() else { continue };
        read += piece.len();
        if read > limit {
            return Err(too_large(limit));
        }
        if read > BodyMemory::FREE && taken.is_none() {
            let full = || Refusal::new(Code::Overloaded, "too many large bodies at the same time");
            taken = Some(memory.take(size).ok_or_else(full)?);
        }
        if gathered.is_empty() {
            let rest = usize::try_from(body.size_hint().lower()).unwrap_or(0).min(limit);
            gathered.reserve_exact(piece.len() + rest);
        }
        gathered.extend_from_slice(&piece);
    }
    Ok(Whole { bytes: Bytes::from(gathered.into_boxed_slice()), memory: taken })
}

async fn discard(body: &mut Body) {
    let mut discarded = 0;
    while let Some(Ok(frame)) = body.frame().await {
        discarded += frame.data_ref().map_or(0, Bytes::len);
        if discarded > DISCARD_BYTES {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::*;

    fn in_pieces(pieces: &'static [&'static str]) -> Body {
        Body::from_stream(stream::iter(pieces.iter().map(|piece| Ok::<_, Infallible>(*piece))))
    }

    async fn read_in(memory: &BodyMemory, limit: usize, body: Body) -> Result<Whole, Code> {
        let whole = read(&HeaderMap::new(), body, limit, memory, Duration::from_mins(1)).await;
        whole.map_err(|refusal| refusal.code)
    }

    async fn read_to(limit: usize, body: Body) -> Result<Bytes, Code> {
        read_in(&BodyMemory::new(), limit, body).await.map(|whole| whole.bytes)
    }

    #[tokio::test]
    async fn a_body_is_put_together_from_its_pieces() {
        for pieces in [&[][..], &["abc"], &["a", "bc"], &["a", "", "b", "c"]] {
            assert_eq!(read_to(3, in_pieces(pieces)).await.unwrap(), pieces.concat());
        }
    }

    #[tokio::test]
    async fn a_body_in_one_piece_does_not_keep_the_buffer_it_was_read_into() {
        let read_into = Bytes::from(vec![b'x'; 8192]);
        let read = read_to(100, Body::from(read_into.slice(..100))).await.unwrap();
        assert_eq!(read, read_into[..100]);
        assert!(read_into.is_unique());
    }

    #[tokio::test]
    async fn the_limit_holds_for_declared_and_undeclared_lengths() {
        assert_eq!(read_to(2, Body::from("abc")).await, Err(Code::PayloadTooLarge));
        assert_eq!(read_to(2, in_pieces(&["ab", "c"])).await, Err(Code::PayloadTooLarge));
        assert_eq!(read_to(2, in_pieces(&["abc"])).await, Err(Code::PayloadTooLarge));
    }

    #[tokio::test]
    async fn of_a_body_without_end_only_a_bounded_part_is_read() {
        let endless = Body::from_stream(stream::repeat_with(|| Ok::<_, Infallible>(vec![b'x'; 4096])));
        assert_eq!(read_to(10, endless).await, Err(Code::PayloadTooLarge));
    }

    #[tokio::test]
    async fn a_body_that_stops_coming_is_given_up() {
        let stuck = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let (headers, memory) = (HeaderMap::new(), BodyMemory::new());
        let refusal = read(&headers, stuck, 10, &memory, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(refusal.code, Code::RequestTimeout);
    }

    #[tokio::test]
    async fn large_bodies_share_a_budget_of_which_small_ones_take_nothing() {
        const LARGE: usize = BodyMemory::FREE + 1;
        let of = |bytes: usize| Body::from(vec![b'x'; bytes]);
        let memory = BodyMemory::of(2 * LARGE);
        let first = read_in(&memory, LARGE, of(LARGE)).await.unwrap();
        // A body of unknown length counts with its largest size.
        let unknown =
            Body::from_stream(stream::iter([Ok::<_, Infallible>(vec![b'x'; LARGE - 1]), Ok(vec![b'x'])]));
        let second = read_in(&memory, LARGE, unknown).await.unwrap();
        assert_eq!((first.bytes.len(), second.bytes.len()), (LARGE, LARGE));

        assert_eq!(read_in(&memory, LARGE, of(LARGE)).await.unwrap_err(), Code::Overloaded);
        assert_eq!(
            read_in(&memory, LARGE, of(BodyMemory::FREE)).await.unwrap().bytes.len(),
            BodyMemory::FREE
        );
        drop(first);
        let third = read_in(&memory, LARGE, of(LARGE)).await.unwrap();
        assert_eq!(read_in(&memory, LARGE, of(LARGE)).await.unwrap_err(), Code::Overloaded);
        drop((second, third));
        assert_eq!(read_in(&memory, 2 * LARGE, of(2 * LARGE)).await.unwrap().bytes.len(), 2 * LARGE);
    }

    #[tokio::test]
    async fn the_largest_body_that_can_be_configured_fits_the_budget() {
        let limit = Settings::LARGEST_BODY;
        assert_eq!(read_to(limit, Body::from(vec![b'x'; limit])).await.unwrap().len(), limit);
    }

    #[tokio::test]
    async fn a_connection_that_ends_in_the_body_is_no_malformed_body() {
        use io::ErrorKind::{ConnectionReset, InvalidInput, UnexpectedEof};
        for (kind, code) in [
            (UnexpectedEof, Code::ConnectionCut),
            (ConnectionReset, Code::ConnectionCut),
            (InvalidInput, Code::MalformedPayload),
        ] {
            let broken = Body::from_stream(stream::iter([Ok("a"), Err(io::Error::from(kind))]));
            assert_eq!(read_to(10, broken).await, Err(code), "{kind:?}");
        }
    }
}
