//! Reading a body from somebody who has not proven anything yet: bounded in
//! size, in time and in copies.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::EXPECT;
use http_body_util::BodyExt;

use super::answer::{Code, Refusal};

/// How much of a body that is too large is still read and thrown away, and for
/// how long. A connection closed with bytes unread is reset, and a sender that
/// meets the reset while it writes never sees the answer.
const DISCARD_BYTES: usize = 1024 * 1024;
const DISCARD_LIMIT: Duration = Duration::from_secs(2);

/// The whole body, if it has at most `limit` bytes and arrives within `patience`.
pub(super) async fn read(
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
    patience: Duration,
) -> Result<Bytes, Refusal> {
    let declared = body.size_hint().lower();
    let collected = if declared > limit as u64 {
        Ok(None)
    } else {
        tokio::time::timeout(patience, collect(&mut body, limit))
            .await
            .unwrap_or_else(|_| Err(Refusal::new(Code::RequestTimeout, "the body did not arrive in time")))
    };
    if let Some(bytes) = collected? {
        return Ok(bytes);
    }
    // Who waits for "100 Continue" has sent nothing yet, and reading would ask for it.
    if !headers.contains_key(EXPECT) {
        let _ = tokio::time::timeout(DISCARD_LIMIT, discard(&mut body)).await;
    }
    Err(Refusal::new(Code::PayloadTooLarge, format!("the body has more than {limit} bytes")))
}

/// The body, or `None` if it has more than `limit` bytes.
async fn collect(body: &mut Body, limit: usize) -> Result<Option<Bytes>, Refusal> {
    // A body that comes in one piece, as most do, is never copied. Others are
    // gathered in one buffer: keeping the pieces would let a sender of tiny
    // chunks make the bridge hold many times the limit.
    let mut first = Bytes::new();
    let mut gathered = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::new(Code::MalformedPayload, "the body ended early"))?;
        let Ok(piece) = frame.into_data() else { continue };
        if first.len().max(gathered.len()) + piece.len() > limit {
            return Ok(None);
        }
        if first.is_empty() && gathered.is_empty() {
            first = piece;
            continue;
        }
        if gathered.is_empty() {
            let rest = usize::try_from(body.size_hint().lower()).unwrap_or(0).min(limit);
            gathered.reserve(first.len() + piece.len() + rest);
            gathered.extend_from_slice(&first);
        }
        gathered.extend_from_slice(&piece);
    }
    Ok(Some(if gathered.is_empty() { first } else { gathered.freeze() }))
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

    async fn read_to(limit: usize, body: Body) -> Result<Bytes, Code> {
        read(&HeaderMap::new(), body, limit, Duration::from_mins(1)).await.map_err(|refusal| refusal.code)
    }

    #[tokio::test]
    async fn a_body_is_put_together_from_its_pieces() {
        for pieces in [&[][..], &["abc"], &["a", "bc"], &["a", "", "b", "c"]] {
            assert_eq!(read_to(3, in_pieces(pieces)).await.unwrap(), pieces.concat());
        }
    }

    #[tokio::test]
    async fn a_body_in_one_piece_is_not_copied() {
        let sent = Bytes::from(vec![b'x'; 100]);
        let read = read_to(100, Body::from(sent.clone())).await.unwrap();
        assert_eq!(read.as_ptr(), sent.as_ptr());
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
        let refusal = read(&HeaderMap::new(), stuck, 10, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(refusal.code, Code::RequestTimeout);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_malformed() {
        let broken = Body::from_stream(stream::iter([Ok("a"), Err(std::io::Error::other("reset"))]));
        assert_eq!(read_to(10, broken).await, Err(Code::MalformedPayload));
    }
}
